import json
import math

import pytest
import torch

from neuro_engine.cost import Cost
from neurofed import metrics, spec
from neurofed.errors import ConfigError, UnknownChipError
from neurofed.v1.control_pb2 import RunSpec
from worker.trainer import Trainer, cost_numbers, load_chip, run_key
from workloads import registry
from workloads.parameters import state_arrays

SETTINGS = {"train_clips": "48"}
PARTS = 3


def _config(**changes):
    run = spec.default_spec()
    run.MergeFrom(RunSpec(preset="tiny", seed=3, settings=SETTINGS))
    for name, value in changes.items():
        setattr(run, name, value)
    return spec.to_run_config(run)


def _quiet(done, of, current):
    pass


@pytest.fixture(scope="module")
def arrays():
    workload = registry.load(spec.DEFAULT_WORKLOAD)
    task = workload.prepare(workload.settings("tiny", SETTINGS), 3)
    model = task.build_model()
    task.calibrate(model)
    return state_arrays(model)


def _bits(model):
    return {name: array.tobytes() for name, array in model.items()}


def _repeatable(numbers):
    return {name: value for name, value in numbers.items() if name != metrics.TRAIN_S}


def test_the_same_task_gives_the_same_bits(arrays):
    before, trainer = _bits(arrays), Trainer(_config(), "core20_28nm")
    first = trainer.train(arrays, 1, PARTS, 1, _quiet)
    trainer.train(arrays, 0, PARTS, 2, _quiet)
    torch.manual_seed(99)
    again = trainer.train(arrays, 1, PARTS, 1, _quiet)
    fresh = Trainer(_config(), "core20_28nm").train(arrays, 1, PARTS, 1, _quiet)
    assert _bits(first.arrays) == _bits(again.arrays) == _bits(fresh.arrays)
    assert _repeatable(first.numbers) == _repeatable(again.numbers) == _repeatable(fresh.numbers)
    assert _bits(arrays) == before
    assert list(first.arrays) == list(arrays)
    assert _bits(first.arrays) != before


def test_tracing_changes_no_bit(arrays):
    traced = Trainer(_config(), "core20_28nm").train(arrays, 0, PARTS, 1, _quiet)
    plain = Trainer(_config(trace=False), "core20_28nm").train(arrays, 0, PARTS, 1, _quiet)
    assert _bits(traced.arrays) == _bits(plain.arrays)
    assert set(plain.numbers) == {metrics.NUM_EXAMPLES, metrics.STEPS, metrics.LOSS, metrics.TRAIN_S}
    assert plain.numbers[metrics.LOSS] == traced.numbers[metrics.LOSS]


def test_part_and_round_matter(arrays):
    trainer = Trainer(_config(), "core20_28nm")
    results = [trainer.train(arrays, part, PARTS, n, _quiet) for part, n in ((0, 1), (1, 1), (0, 2))]
    assert len({str(_bits(r.arrays)) for r in results}) == 3


def test_the_parts_of_the_bill_sum_to_their_totals(arrays):
    trainer = Trainer(_config(), "core20_28nm")
    numbers = trainer.train(arrays, 0, PARTS, 1, _quiet).numbers
    energy = metrics.parts(numbers, metrics.ENERGY_J)
    dram = metrics.parts(numbers, metrics.DRAM_BYTES)
    cycles = metrics.parts(numbers, metrics.CYCLES)
    assert math.fsum(energy.values()) == pytest.approx(numbers[metrics.ENERGY_J], rel=1e-9)
    assert numbers[metrics.ENERGY_J] > 0
    assert sum(dram.values()) == numbers[metrics.DRAM_BYTES] > 0
    assert set(cycles) == {"fp", "bp", "wg", "update"}
    assert all(value > 0 for value in cycles.values())
    chip = load_chip("core20_28nm")
    assert numbers[metrics.CHIP_S] == pytest.approx(numbers[metrics.CYCLES] / chip.clock.frequency_hz)
    assert {name.split("/")[0] for name in energy} <= {"fp", "bp", "wg", "update"}


def test_a_bill_says_how_fast_the_boards_link_is(arrays):
    chip = load_chip("core20_28nm")
    numbers = Trainer(_config(), chip.name).train(arrays, 0, PARTS, 1, _quiet).numbers
    assert numbers[metrics.LINK_BYTES_PER_S] == chip.link.bandwidth_bytes_per_s
    slow = chip.override({"link.bandwidth_bytes_per_s": 1e6})
    assert cost_numbers(Cost(), slow)[metrics.LINK_BYTES_PER_S] == 1e6


def test_the_counts_are_plausible(arrays):
    numbers = Trainer(_config(), "core20_28nm").train(arrays, 0, PARTS, 1, _quiet).numbers
    executed, dense = (metrics.parts(numbers, name) for name in (metrics.OPS_EXECUTED, metrics.OPS_DENSE))
    assert set(executed) == set(dense) == {"fp", "bp", "wg"}
    assert all(0 < executed[engine] < dense[engine] for engine in dense)
    rates = metrics.parts(numbers, metrics.SPIKE_RATE)
    assert set(rates) == {"conv1", "conv2", "conv3"}
    assert min(rates.values()) <= numbers[metrics.SPIKE_RATE] <= max(rates.values())
    assert set(metrics.parts(numbers, metrics.GRADIENT_DENSITY)) == {*rates, "readout"}
    assert numbers[metrics.NUM_EXAMPLES] == 16
    assert all(math.isfinite(value) for value in numbers.values())


def test_every_step_is_reported(arrays):
    told = []
    result = Trainer(_config(), "core20_28nm").train(arrays, 0, PARTS, 1, lambda *step: told.append(step))
    assert [done for done, _, _ in told] == list(range(1, len(told) + 1))
    assert {of for _, of, _ in told} == {len(told)}
    assert told[-1][2][metrics.LOSS] == result.numbers[metrics.LOSS]
    assert told[-1][2][metrics.SPIKE_RATE] == result.numbers[metrics.SPIKE_RATE]


def test_a_report_may_abandon_the_task_and_the_next_is_as_ever(arrays):
    trainer = Trainer(_config(), "core20_28nm")
    expected = trainer.train(arrays, 0, PARTS, 1, _quiet)

    def abandon(done, of, current):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        trainer.train(arrays, 0, PARTS, 1, abandon)
    assert _bits(trainer.train(arrays, 0, PARTS, 1, _quiet).arrays) == _bits(expected.arrays)


def test_arrays_of_another_model_are_refused(arrays):
    trainer = Trainer(_config(), "core20_28nm")
    wrong = dict(list(arrays.items())[1:])
    with pytest.raises(RuntimeError, match="Missing key"):
        trainer.train(wrong, 0, PARTS, 1, _quiet)


@pytest.mark.parametrize("changes", [{"workload": "none"}, {"preset": "huge"}], ids=str)
def test_unknown_names_are_configuration_errors(changes):
    with pytest.raises(ConfigError):
        Trainer(_config(**changes), "core20_28nm")


def test_the_chip_of_the_run_goes_before_that_of_the_worker():
    Trainer(_config(), "no-such-chip")
    with pytest.raises(UnknownChipError):
        Trainer(_config(chip=""), "no-such-chip")
    with pytest.raises(UnknownChipError):
        Trainer(_config(chip="no-such-chip"), "core20_28nm")


def test_the_key_of_a_run_is_that_of_its_configuration_alone():
    config = _config()
    assert run_key(config) == run_key({**config, "server-round": 4})
    assert run_key(dict(reversed(config.items()))) == run_key(config)
    assert run_key(config) != run_key(_config(seed=4))


def test_a_fraction_of_the_work_is_the_first_steps_and_weighs_what_was_used(arrays):
    """What is begun of a step is done as a whole."""
    trainer = Trainer(_config(), "core20_28nm")
    whole = trainer.train(arrays, 0, PARTS, 1, _quiet)
    steps = whole.numbers[metrics.STEPS]
    told = []
    half = trainer.train(arrays, 0, PARTS, 1, lambda *step: told.append(step), 0.5)
    assert half.numbers[metrics.STEPS] == len(told) == math.ceil(steps / 2)
    assert {of for _, of, _ in told} == {len(told)}
    least = trainer.train(arrays, 0, PARTS, 1, _quiet, 1e-9)
    assert least.numbers[metrics.STEPS] == 1
    assert 0 < least.numbers[metrics.NUM_EXAMPLES] < whole.numbers[metrics.NUM_EXAMPLES] == 16
    assert least.numbers[metrics.CHIP_S] < half.numbers[metrics.CHIP_S] < whole.numbers[metrics.CHIP_S]
    assert _bits(trainer.train(arrays, 0, PARTS, 1, _quiet, 1.0).arrays) == _bits(whole.arrays)


def test_examples_seen_twice_weigh_once(arrays):
    settings = json.dumps({**SETTINGS, "local_epochs": "2"})
    twice = Trainer({**_config(), "settings": settings}, "core20_28nm")
    numbers = [twice.train(arrays, 0, PARTS, 1, _quiet, work).numbers for work in (1.0, 0.75, 0.25)]
    assert [n[metrics.NUM_EXAMPLES] for n in numbers][:2] == [16, 16]
    assert numbers[2][metrics.NUM_EXAMPLES] < 16
