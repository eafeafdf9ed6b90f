"""The points of a sweep, and which of them no other beats."""

import random

import pytest

from neuro_engine.chip import Chip, ChipError
from neuro_engine.cost import Efficiencies, cost
from neuro_engine.cost.networks import network
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.sweep import MOST_POINTS, Axis, Point, axis, grid, pareto, setting, sweep

CHIP = Chip.load("core20_28nm")
NONE = Efficiencies(0.0, 0.0, 0.0, 0.0)


def point(seconds, energy):
    return Point({}, seconds, energy, 0.0, NONE)


def beats(a, b):
    no_worse = a.seconds <= b.seconds and a.energy_j <= b.energy_j
    return no_worse and (a.seconds < b.seconds or a.energy_j < b.energy_j)


@pytest.mark.parametrize("seed", range(30))
def test_the_front_is_what_brute_force_finds(seed):
    rng = random.Random(seed)
    side = rng.choice((3, 20, 1000))  # few values make ties
    points = [point(rng.randrange(1, side), rng.randrange(1, side)) for _ in range(rng.randrange(0, 80))]
    expected = [p for p in points if not any(beats(other, p) for other in points)]
    found = pareto(points)
    assert sorted((p.seconds, p.energy_j) for p in expected) == [(p.seconds, p.energy_j) for p in found]


def test_a_grid_has_every_combination_once():
    axes = (Axis("a", (1, 2, 3)), Axis("b", ("x", "y")))
    assert list(grid(axes)) == [{"a": a, "b": b} for a in (1, 2, 3) for b in ("x", "y")]


def test_points_drawn_at_random_are_of_the_grid_and_depend_on_the_seed_alone():
    axes = (Axis("a", tuple(range(100))), Axis("b", tuple(range(100))))
    first, again, other = (list(grid(axes, 50, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert len({(p["a"], p["b"]) for p in first}) == 50
    assert len(list(grid(axes[:1], 500))) == 100


@pytest.mark.parametrize("points", [0, -1, MOST_POINTS + 1])
def test_a_number_of_points_that_is_none_is_refused(points):
    with pytest.raises(ValueError, match="expected at"):
        grid((Axis("a", tuple(range(10 * MOST_POINTS))),), points)


def test_a_range_is_geometric_and_of_the_keys_kind():
    assert axis(CHIP, "lanes.bp_rows=8:64:x2").values == (8, 16, 32, 64)
    assert axis(CHIP, "lanes.bp_rows=1:3:x1.1").values == (1, 2, 3)  # rounded, each once
    assert axis(CHIP, "dram.efficiency = 0.2:0.8:x2").values == pytest.approx((0.2, 0.4, 0.8))
    assert axis(CHIP, "policy.membrane=store16, mask8").values == ("store16", "mask8")


def test_a_setting_is_read_as_its_keys_kind():
    assert setting(CHIP, "lanes.bp_rows=32") == ("lanes.bp_rows", 32)
    assert setting(CHIP, "dram.efficiency=1") == ("dram.efficiency", 1.0)
    with pytest.raises(ChipError, match="whole number"):
        setting(CHIP, "lanes.bp_rows=3.5")


def test_a_point_is_the_bill_of_its_chip_for_one_sample():
    trace = synthetic_trace(network("nmnist"), batch=8)
    values = {"lanes.bp_rows": 8}
    (found,) = sweep(trace, CHIP, iter([values]))
    chip = CHIP.override(values)
    bill = cost(trace, chip)
    assert found.energy_j * 8 == pytest.approx(bill.energy_j)
    assert found.seconds * 8 == pytest.approx(bill.seconds(chip))
    assert found.dram_bytes * 8 == pytest.approx(bill.dram_total_bytes)
    assert found.efficiencies == bill.efficiencies(chip)
