"""Which micro-batches a step is cut into."""

import pytest

from neuro_engine.chip import Chip
from neuro_engine.cost import cost
from neuro_engine.cost.networks import network
from neuro_engine.cost.noc import NocParameters
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.mapping import Setup, greedy, search
from neuro_engine.profile import chip_work, fastest_plan, profile, tiles_of
from neuro_engine.schedule import schedule

CHIP = Chip.load("core20_28nm")
TRACE = synthetic_trace(network("dvs_gesture"), batch=16)
BILL = cost(TRACE, CHIP)


@pytest.mark.parametrize("mapped", [search, greedy])
def test_the_plan_is_the_fastest_of_its_sizes(mapped) -> None:
    cycles = {}
    for size in (1, 2, 4):
        work = chip_work(BILL, TRACE, CHIP, size)
        setup = Setup.of(CHIP, 16 // size, tiles_of(TRACE.geometry))
        cycles[size] = schedule(work, mapped(work, setup), setup, NocParameters.of(CHIP)).cycles
    plan = fastest_plan(BILL, TRACE, CHIP, (1, 2, 4), mapped)
    assert plan.schedule.cycles == cycles[plan.samples] == min(cycles.values())
    assert len(set(cycles.values())) > 1


def test_a_plan_needs_a_size() -> None:
    with pytest.raises(ValueError, match="at least one size"):
        fastest_plan(BILL, TRACE, CHIP, ())


def test_a_size_given_is_the_size_taken() -> None:
    found = profile(network("dvs_gesture"), CHIP, 16)
    other = 16 if found.samples != 16 else 1
    forced = profile(network("dvs_gesture"), CHIP, 16, samples=other)
    assert forced.samples == other
    assert forced.schedule.cycles >= found.schedule.cycles
