from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
import torch

from neuro_engine.layers import Readout, SpikingLayer
from neurofed import metrics
from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError
from workloads.base import Batch, evaluate_classifier
from workloads.settings import override
from workloads.video_classification import WORKLOAD
from workloads.video_classification.settings import PRESETS, Settings


def prepare(seed=0, **overrides):
    return WORKLOAD.prepare(WORKLOAD.settings("tiny", {k: str(v) for k, v in overrides.items()}), seed)


@pytest.fixture(scope="module")
def task():
    return prepare()


def train_round(task, model, partition=0, partitions=2, round_number=1):
    """Mean loss of each epoch."""
    optimizer = task.optimizer(model)
    means = []
    for epoch in range(task.epochs):
        losses = []
        for batch in task.train_batches(partition, partitions, round_number, epoch):
            optimizer.zero_grad()
            loss = task.loss(model(batch.inputs), batch.targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        means.append(np.mean(losses))
    return means


def equal_batches(first, second):
    return all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_to_their_own_rules(preset):
    settings = WORKLOAD.settings(preset, {})
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    assert override(settings, values) == settings


def test_settings_are_overridden_by_text():
    assert WORKLOAD.settings("small", {"carry_state": "false", "lr": "0.1"}) == Settings(carry_state=False, lr=0.1)


def test_settings_errors_reach_the_user():
    with pytest.raises(UnknownNameError, match="did you mean 'tiny'"):
        WORKLOAD.settings("tini", {})
    with pytest.raises(UnknownSettingError, match="did you mean 'batch_size'"):
        WORKLOAD.settings("tiny", {"batchsize": "3"})
    with pytest.raises(ConfigError, match="'partition': expected one of iid, dirichlet, classes, got 'shards'"):
        WORKLOAD.settings("tiny", {"partition": "shards"})


def test_the_initial_model_is_equal_everywhere_and_leaves_torchs_generator_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, second, other = (prepare(seed).build_model().state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_calibration_is_equal_everywhere_and_wakes_every_layer(task):
    models = [task.build_model(), prepare().build_model()]
    for model in models:
        task.calibrate(model)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[k], second[k]) for k in first)
    x = next(task.test_batches()).inputs
    rates = []
    with torch.no_grad():
        for layer in models[0].layers.values():
            x = layer(x)
            if isinstance(layer, SpikingLayer):
                rates.append(x.mean().item())
    assert len(rates) == 3
    assert all(0.02 < rate < 0.3 for rate in rates)


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_partitions_share_out_the_training_clips(partition):
    task = prepare(partition=partition)
    sizes = task.partition_sizes(5)
    assert sum(sizes) == 240
    assert [sum(b.size for b in task.train_batches(p, 5, 1, 0)) for p in range(5)] == sizes


def test_more_workers_than_clips_is_a_config_error(task):
    with pytest.raises(ConfigError, match="from 1 to 240 workers"):
        task.partition_sizes(241)


def test_batches_are_time_major_float32(task):
    batch = next(task.train_batches(0, 2, 1, 0))
    assert batch.inputs.shape == (4, 8, 1, 16, 16)
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.shape == (8,)
    assert batch.targets.dtype == torch.int64
    assert batch.size == 8


def test_the_order_is_a_function_of_seed_partition_round_and_epoch(task):
    def targets(task, *where):
        return torch.cat([b.targets for b in task.train_batches(*where)]).tolist()

    wheres = [(0, 2, 1, 0), (1, 2, 1, 0), (0, 2, 2, 0), (0, 2, 1, 1)]
    orders = [targets(task, *where) for where in wheres]
    assert orders == [targets(prepare(), *where) for where in wheres]
    assert all(a != b for a, b in pairwise([*orders, targets(prepare(1), *wheres[0])]))


def test_augmentation_makes_new_takes_of_the_same_clips():
    def brightest_first(task, round_number):
        batches = task.train_batches(0, 1, round_number, 0)
        return torch.cat([b.inputs.flatten(2).amax((0, 2)) for b in batches]).sort().values

    fixed, moving = prepare(augment=False), prepare(augment=True)
    torch.testing.assert_close(brightest_first(fixed, 1), brightest_first(fixed, 2))
    assert not torch.allclose(brightest_first(moving, 1), brightest_first(moving, 2))


def test_the_test_set_is_the_same_at_every_call(task):
    assert equal_batches(task.test_batches(), prepare().test_batches())
    assert sum(b.size for b in task.test_batches()) == 48


def test_without_carried_state_the_order_of_frames_does_not_matter():
    def change_by_reversal(carry_state):
        task = prepare(carry_state=carry_state)
        model = task.build_model()
        task.calibrate(model)
        x = next(task.test_batches()).inputs
        with torch.no_grad():
            return (model(x) - model(x.flip(0))).abs().max().item()

    assert change_by_reversal(carry_state=False) < 1e-5
    assert change_by_reversal(carry_state=True) > 1e-2


def test_no_layer_keeps_state_when_none_is_carried():
    model = prepare(carry_state=False).build_model()
    leaks = [m.neuron.leak for m in model.modules() if isinstance(m, SpikingLayer | Readout)]
    assert leaks == [0.0] * 4


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_the_optimizer_is_fresh_at_every_call(name, kind):
    task = prepare(optimizer=name)
    model = task.build_model()
    train_round(task, model)
    optimizer = task.optimizer(model)
    assert isinstance(optimizer, kind)
    assert not optimizer.state


def test_a_round_is_a_pure_function_of_the_global_model(task):
    results = []
    for fresh in (task, prepare()):
        model = fresh.build_model()
        fresh.calibrate(model)
        train_round(fresh, model)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][k], results[1][k]) for k in results[0])


def test_training_learns():
    task = prepare(local_epochs=6)
    model = task.build_model()
    task.calibrate(model)
    before = task.evaluate(model)
    losses = train_round(task, model, partitions=1)
    after = task.evaluate(model)
    assert losses[-1] < losses[0] - 0.1
    assert after[metrics.LOSS] < before[metrics.LOSS]
    assert after[metrics.ACCURACY] > 1.5 / 12


def test_evaluation_weighs_batches_by_their_size():
    class Constant(torch.nn.Module):
        def forward(self, x):
            assert not self.training
            return torch.tensor([[1.0, 0.0]]).expand(x.shape[1], 2)

    batches = [
        Batch(torch.zeros(2, 3, 1, 4, 4), torch.tensor([0, 0, 0])),
        Batch(torch.zeros(2, 1, 1, 4, 4), torch.tensor([1])),
    ]
    model = Constant()
    scores = evaluate_classifier(model, batches, lambda outputs, targets: targets.float().mean())
    assert scores == {metrics.ACCURACY: 0.75, metrics.LOSS: 0.25}
    assert model.training
