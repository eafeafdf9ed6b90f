"""The task: stages and what they freeze, the bills of core group and host, and its promises to the federation."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from neuro_engine.trace import Engine
from neurofed import metrics, spec
from neurofed.errors import ConfigError
from neurofed.v1.control_pb2 import RunSpec
from worker.trainer import Trainer
from workloads import registry
from workloads.parameters import state_arrays
from workloads.settings import override
from workloads.tclsta import WORKLOAD
from workloads.tclsta.host import host_macs
from workloads.tclsta.settings import PRESETS, Settings
from workloads.tclsta.stages import Stage, stage_of
from workloads.tclsta.task import parts

SPATIAL, TEMPORAL, JOINT, COLLABORATION, TOGETHER = Stage


def prepare(seed=0, **overrides):
    return WORKLOAD.prepare(WORKLOAD.settings("tiny", {k: str(v) for k, v in overrides.items()}), seed)


def calibrated(task):
    model = task.build_model()
    task.calibrate(model)
    return model


def trained_in(name):
    """The stages that train a parameter, by the paper's and the release's schedule."""
    if name.startswith("heads.collaboration."):
        return {COLLABORATION, TOGETHER}
    if ".temporal." in name:
        return {TEMPORAL, JOINT, TOGETHER}
    return {SPATIAL, JOINT, TOGETHER}


def awake(model):
    """Last layers begin at zero, which stops gradients at them: give them some weight."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("out.weight", "connection.weight")):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


def trainer():
    run = spec.default_spec()
    run.MergeFrom(RunSpec(workload="tclsta", preset="tiny", seed=3))
    return Trainer(spec.to_run_config(run), "core20_28nm")


def quiet(_done, _steps, _numbers):
    pass


def test_the_workload_comes_through_the_public_door():
    assert registry.load("tclsta") is WORKLOAD


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_to_their_own_rules(preset):
    settings = WORKLOAD.settings(preset, {})
    assert override(settings, {f.name: getattr(settings, f.name) for f in fields(settings)}) == settings


def test_stages_follow_the_round_number():
    settings = Settings(spatial_rounds=2, temporal_rounds=1, joint_rounds=2)
    stages = [SPATIAL, SPATIAL, TEMPORAL, JOINT, JOINT, COLLABORATION, COLLABORATION]
    assert [stage_of(settings, n) for n in range(1, 8)] == stages
    without = replace(settings, collaboration="fixed")
    assert [stage_of(without, n) for n in (5, 6, 99)] == [JOINT] * 3
    assert [stage_of(replace(settings, schedule="together"), n) for n in (1, 99)] == [TOGETHER] * 2
    assert stage_of(replace(settings, spatial_rounds=0), 1) is TEMPORAL


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("temporal", ["lstm", "attention"])
def test_gradients_reach_what_the_stage_trains_and_nothing_else(stage, temporal):
    task = prepare(temporal=temporal)
    model = awake(calibrated(task))
    batch = next(task.train_batches(0, 2, 1, 0))
    task.clock.stage = stage
    task.loss(model(batch.inputs), batch.targets).backward()
    for name, parameter in model.named_parameters():
        if stage in trained_in(name):
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize(("number", "stage"), [(1, SPATIAL), (2, TEMPORAL), (3, JOINT), (4, COLLABORATION)])
def test_a_round_changes_what_its_stage_trains_to_the_bit(number, stage):
    worker, task = trainer(), prepare(3)
    before = state_arrays(calibrated(task))
    result = worker.train(before, 0, 2, number, quiet)
    for name, value in result.arrays.items():
        if stage not in trained_in(name):
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    changed = {n for n, v in result.arrays.items() if not np.array_equal(v, before[n])}
    assert changed
    assert all(stage in trained_in(name) for name in changed)
    # The core group does nothing backwards for frozen backbones.
    assert (f"{metrics.OPS_DENSE}/bp" in result.numbers) is stage.trains_backbones
    assert result.numbers[f"{metrics.OPS_DENSE}/fp"] > 0


def test_a_round_is_a_pure_function_of_the_global_model_also_with_dropout():
    before = state_arrays(calibrated(prepare(3)))
    worker = trainer()
    results = []
    for fresh in (worker, worker, trainer()):
        torch.rand(7)  # what else a process draws does not matter
        results.append(fresh.train(before, 1, 2, 4, quiet).arrays)
    for other in results[1:]:
        assert all(np.array_equal(results[0][name], other[name]) for name in before)


def test_the_joint_stage_has_its_own_learning_rate():
    task = prepare(optimizer="sgd", lr=1.0, joint_lr_factor=0.25)
    parameter = torch.nn.Linear(1, 1, bias=False)
    for stage, step in ((SPATIAL, 1.0), (JOINT, 0.25), (COLLABORATION, 1.0)):
        optimizer = task.optimizer(parameter)
        task.clock.stage = stage
        before = parameter.weight.item()
        parameter.weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert before - parameter.weight.item() == pytest.approx(step, abs=1e-5)


def test_the_bill_has_the_backbones_and_none_of_the_heads():
    worker = trainer()
    group, task = worker._group, prepare(3)
    task.calibrate(group.network)
    names = [f"backbones.{s}.conv{n}" for s in ("static", "motion") for n in (1, 2, 3)]
    assert [name for name, _ in group.network.engine_layers()] == names
    worker._task.clock.stage = JOINT
    group.network.train()
    batch = next(task.train_batches(0, 2, 3, 0))
    step = group.train_step(batch.inputs, batch.targets, task.loss, task.optimizer(group.network))
    assert set(step.trace.layers) == set(names)
    multiplies = {name: step.trace.count(name, Engine.FP).multiplies for name in names}
    assert multiplies == {name: name == "backbones.static.conv1" for name in names}


def test_the_hosts_work_by_hand():
    """Small enough that all products can be counted."""
    task = prepare(channels=1, hidden=2, temporal="attention", collaboration="per-class")
    model = task.build_model()
    positions, features, hidden, classes, frames = 4, 3, 2, 12, 4
    conv, cam_out = frames * positions * 9 * features * hidden, frames * hidden * classes
    cam, pool = frames * positions * hidden, frames * positions * features
    connection = frames * features * classes
    key, query, attended, out = frames * features * hidden, frames * hidden, frames * features, features * classes
    stream = conv + cam_out + cam + pool + connection + key + query + attended + out
    macs = host_macs(model, frames, 16)
    assert macs["inference"] == 2 * stream
    assert macs["temporal"] < macs["spatial"] < macs["joint"]
    assert macs["collaboration"] == macs["inference"], "per-class weights are no matrix product"
    assert "collaboration" not in host_macs(prepare(collaboration="fixed").build_model(), frames, 16)


def test_ablations_share_all_parameters_but_their_own():
    states = {
        kind: prepare(collaboration=kind).build_model().state_dict()
        for kind in ("fixed", "global", "per-class", "co-attention", "both")
    }
    for state in states.values():
        assert all(torch.equal(state[name], value) for name, value in states["fixed"].items())
    models = {kind: set(state) for kind, state in states.items()}
    streams = models["fixed"]
    assert not any("collaboration" in name for name in streams)
    fusion = {"heads.collaboration.fusion.logits"}
    assert models["global"] == models["per-class"] == streams | fusion
    assert models["both"] == models["co-attention"] | fusion
    assert len(models["co-attention"] - streams) > 10


def test_streams_do_not_learn_from_each_other_before_they_collaborate():
    """What the motion stream sees leaves no trace in the static stream's gradients."""

    def gradients(stage, with_motion):
        task = prepare()
        model = awake(calibrated(task))
        batch = next(task.train_batches(0, 2, 1, 0))
        task.clock.stage = stage
        inputs = batch.inputs.clone()
        inputs[:, :, 1:] *= with_motion
        task.loss(model(inputs), batch.targets).backward()
        return model.layers["backbones"].static["conv1"].weight.grad

    assert torch.equal(gradients(JOINT, 1.0), gradients(JOINT, 0.0))
    assert not torch.equal(gradients(TOGETHER, 1.0), gradients(TOGETHER, 0.0))


def test_loss_adds_the_heads_and_averages_the_clips():
    task = prepare()
    outputs = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.125, 0.875], [1.0, 0.0]]]).clamp_min(1e-9).log()
    targets = torch.tensor([0, 0])
    assert task.loss(outputs, targets).item() == pytest.approx((1 + 2 + 3 + 0) * np.log(2) / 2)
    assert task.loss(outputs[:, 0], targets).item() == pytest.approx((1 + 3) * np.log(2) / 2)


def test_batches_hold_a_frame_and_its_events():
    batch = next(prepare().train_batches(0, 2, 1, 0))
    assert batch.inputs.shape == (4, 8, 3, 16, 16)
    assert batch.inputs.dtype == torch.float32
    spikes = batch.inputs[:, :, 1:]
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert spikes[0].sum() == 0
    assert (spikes[:, :, 0] * spikes[:, :, 1]).sum() == 0, "no pixel is brighter and darker at once"


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_partitions_share_out_the_training_clips(partition):
    task = prepare(partition=partition)
    sizes = task.partition_sizes(5)
    assert sum(sizes) == task.settings.train_clips
    assert [sum(b.size for b in task.train_batches(p, 5, 1, 0)) for p in range(5)] == sizes
    with pytest.raises(ConfigError, match=f"from 1 to {sum(sizes)} workers"):
        task.partition_sizes(sum(sizes) + 1)


def test_initial_models_are_equal_everywhere_and_leave_torchs_generator_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second, other = (calibrated(prepare(seed)).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_state_is_carried_or_not():
    def change_by_reversal(**overrides):
        task = prepare(temporal="attention", collaboration="fixed", **overrides)
        model = awake(calibrated(task)).eval()
        x = next(task.test_batches()).inputs
        with torch.no_grad():
            there, back = (model.view(v).static.probability for v in (x, x.flip(0)))
        return (there - back).abs().max().item()

    assert change_by_reversal(carry_state="false") < 1e-5
    assert change_by_reversal() > 1e-3


def test_evaluation_scores_every_part():
    task = prepare()
    model = calibrated(task).train()
    scores = task.evaluate(model)
    assert model.training
    names = {
        f"{metrics.ACCURACY}/{s}{h}" for s in ("static", "motion") for h in ("", "/connection", "/spatial", "/temporal")
    }
    assert {metrics.ACCURACY, metrics.LOSS} | names <= scores.keys()
    # Nothing is trained: all classes score alike.
    assert scores[metrics.LOSS] == pytest.approx(np.log(12), rel=1e-5)
    awake(model)
    batch = next(task.test_batches())
    model.eval()
    with torch.no_grad():
        probability = parts(model, batch.inputs)[""]
        torch.testing.assert_close(model(batch.inputs).exp(), probability)
    right = (probability.argmax(1) == batch.targets).float().mean().item()
    assert task.evaluate(model)[metrics.ACCURACY] == pytest.approx(right)


def test_training_learns():
    task = prepare(spatial_rounds=6, train_clips=240, batch_size=12)
    model = calibrated(task).train()
    losses = []
    for number in range(1, 7):
        optimizer = task.optimizer(model)
        for batch in task.train_batches(0, 1, number, 0):
            optimizer.zero_grad()
            loss = task.loss(model(batch.inputs), batch.targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-30:]) < np.mean(losses[:30]) - 0.5
    assert task.evaluate(model)[metrics.ACCURACY] > 1.5 / 12
