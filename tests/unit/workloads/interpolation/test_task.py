from dataclasses import fields

import numpy as np
import pytest
import torch

from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neurofed.errors import ConfigError
from workloads import registry
from workloads.interpolation import WORKLOAD, prior
from workloads.interpolation.leaves import dead_leaves
from workloads.interpolation.settings import PRESETS
from workloads.interpolation.task import BICUBIC, PRIVATE, PRIVATE_BICUBIC, PSNR
from workloads.parameters import state_arrays
from workloads.settings import override


def prepare(seed=0, **overrides):
    defaults = {"images": 5, "size": 24, "passes": 1}
    return WORKLOAD.prepare(WORKLOAD.settings("tiny", {k: str(v) for k, v in (defaults | overrides).items()}), seed)


def gathered(task, part, parts):
    """What a worker sends back for its part."""
    model = task.build_model()
    group = CoreGroup(model, Chip.load("core20_28nm"), precision=task.precision)
    for batch in task.train_batches(part, parts, 1, 0):
        group.train_step(batch.inputs, batch.targets, task.loss, task.optimizer(model))
    return state_arrays(model)


def weights(state):
    return state["layers.moments.weight"]


def pooled(task, parts):
    sizes = task.partition_sizes(parts)
    states = [weights(gathered(task, part, parts)).astype(np.float64) for part in range(parts)]
    return sum(n * w for n, w in zip(sizes, states, strict=True)) / sum(sizes)


def patches_of(task):
    found = [b.inputs[0, :, :-1] * 255 for part in range(5) for b in task.train_batches(part, 5, 1, 0)]
    return torch.cat(found)


def test_it_is_installed():
    assert registry.load("interpolation") is WORKLOAD


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_to_their_own_rules(preset):
    chosen = WORKLOAD.settings(preset, {})
    assert override(chosen, {f.name: getattr(chosen, f.name) for f in fields(chosen)}) == chosen


def test_a_worker_sends_the_mean_outer_products_of_its_patches():
    task = prepare()
    batch = next(task.train_batches(1, 5, 1, 0))
    expected = batch.targets.double().T @ batch.inputs[0].double() / batch.size
    state = gathered(task, 1, 5)
    assert weights(state) == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-6)
    assert not state["layers.moments.bias"].any()


def test_a_second_round_changes_nothing_but_the_last_bit():
    task = prepare()
    model = task.build_model()
    states = []
    for round_number in (1, 2):
        for batch in task.train_batches(0, 1, round_number, 0):
            optimizer = task.optimizer(model)
            optimizer.zero_grad()
            task.loss(model(batch.inputs), batch.targets).backward()
            optimizer.step()
        states.append(weights(state_arrays(model)))
    assert states[1] == pytest.approx(states[0], rel=1e-6, abs=1e-6)


def test_statistics_do_not_depend_on_how_the_images_are_divided():
    task = prepare()
    one, five = pooled(task, 1), pooled(task, 5)
    assert five == pytest.approx(one, rel=1e-4, abs=1e-6)


def test_the_dictionaries_are_those_of_all_patches_together():
    task = prepare()
    learned = task.prior(torch.from_numpy(pooled(task, 5)).float())
    patches = patches_of(task)
    direct = prior.Prior.of_moments(prior.moments(patches))
    assert learned.size == 6
    assert torch.allclose(learned.deviations, direct.deviations, rtol=1e-2, atol=0.5)
    members = patches[prior.classify(patches) == 0].double()
    values = np.linalg.eigvalsh(np.cov(members.numpy().T, bias=True))
    assert learned.deviations[0][-3:].numpy() ** 2 == pytest.approx(values[-3:], rel=1e-3)


@pytest.mark.parametrize(("degrees", "kind"), [(0, 0), (90, 4), (45, 2), (135, 6)])
def test_classes_follow_the_direction_of_the_gradient(degrees, kind):
    at = torch.arange(6.0)
    radians = torch.deg2rad(torch.tensor(float(degrees)))
    slope = at[:, None] * torch.sin(radians) + at * torch.cos(radians)
    assert prior.classify(torch.stack([slope.flatten(), -3 * slope.flatten() + 9])).tolist() == [kind, kind]
    corner = torch.zeros(6, 6)
    corner[3, 3] = 1.0
    assert prior.classify(torch.stack([corner.flatten(), torch.zeros(36)])).tolist() == [8, 8]


def test_a_class_without_patches_has_the_dictionary_of_all():
    patches = torch.arange(36.0)[None] * torch.linspace(-1, 1, 40)[:, None]
    learned = prior.Prior.of_moments(prior.moments(patches))
    assert torch.allclose(learned.deviations[0], learned.deviations[8], atol=1e-2)


def test_only_patches_with_too_few_like_them_are_alone():
    distance = torch.tensor([[1.0, 2.0, 3.0, 4.0, 900.0], [1.0, 2.0, 3.0, 900.0, 900.0]])
    learned = prior.Prior(torch.eye(4)[None], torch.ones(1, 4))
    assert learned.alone(distance).tolist() == [False, True]


def test_scores_of_private_images_are_pooled():
    task = prepare()
    model = task.build_model()
    assert set(task.evaluate(model)) == {"loss", BICUBIC, PSNR}
    statistics = torch.from_numpy(pooled(task, 5)).float()
    with torch.no_grad():
        next(model.parameters()).copy_(statistics)
    scores = task.evaluate(model)
    errors = [task._errors(task._image(201, i), None) for i in range(5)]
    bicubic, ours = np.mean(errors, axis=0)
    assert scores[PRIVATE_BICUBIC] == pytest.approx(10 * np.log10(255**2 / bicubic), abs=1e-3)
    assert scores[PRIVATE] == pytest.approx(10 * np.log10(255**2 / ours), abs=1e-3)


def test_noise_hides_the_sums_is_not_repeatable_and_leaves_the_bias_out():
    task = prepare(dp_noise=2.0, private_scores="false")
    first, second = gathered(task, 0, 5), gathered(task, 0, 5)
    plain = weights(gathered(prepare(private_scores="false"), 0, 5))
    size = task.partition_sizes(5)[0]
    patches = size - 37
    difference = weights(first) * size - plain * patches
    assert np.std(difference) == pytest.approx(2.0 * np.sqrt(8) * patches, rel=0.03)
    assert not np.array_equal(weights(first), weights(second))
    assert not first["layers.moments.bias"].any()


def test_noise_goes_with_one_round():
    with pytest.raises(ConfigError, match="expected rounds = 1"):
        prepare(dp_noise=1.0, rounds=2)


def test_more_workers_than_images_are_refused():
    with pytest.raises(ConfigError, match="expected from 1 to 5 workers"):
        prepare().partition_sizes(6)


def test_images_are_functions_of_the_generator():
    images = [dead_leaves(np.random.default_rng(seed), 32) for seed in (0, 0, 1)]
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    assert images[0].std() > 20
