"""How busy the cores were, from bills written by hand."""

from __future__ import annotations

import dataclasses

import pytest

from neuro_engine.chip import Chip
from neuro_engine.cost import Cost, LayerCost
from neuro_engine.trace import Engine
from worker.cores import core_busy

CHIP = Chip.load("core20_28nm")


def bill(cycles: int, **loads: dict[Engine, int]) -> Cost:
    layers = {(layer, engine): LayerCost(cycles=n) for layer, own in loads.items() for engine, n in own.items()}
    return Cost(cycles=cycles, layers=layers)


def test_a_layer_on_its_share_of_the_cores_is_as_busy_as_its_slowest_engine() -> None:
    one = bill(100, a={Engine.FP: 1200, Engine.BP: 800})  # engines work at the same time: 1200 over 20 cores
    assert core_busy(one, CHIP) == pytest.approx([0.6] * 20)


def test_cores_go_where_the_work_is() -> None:
    # With k and 20 - k cores, the layers balance at k = 15: 1500 / 15 = 100 and 500 / 5 = 100.
    two = bill(200, a={Engine.FP: 1500}, b={Engine.FP: 500})
    assert core_busy(two, CHIP) == pytest.approx([0.5] * 20)


def test_the_update_is_spread_over_all_cores() -> None:
    found = core_busy(bill(100, a={Engine.UPDATE: 200}), CHIP)
    assert found == pytest.approx([0.1] * 20)


def test_no_work_is_no_load_and_no_core_is_more_than_busy() -> None:
    assert core_busy(Cost(), CHIP) == [0.0] * 20
    assert core_busy(bill(1, a={Engine.FP: 10_000}), CHIP) == [1.0] * 20


def test_one_core_is_the_least() -> None:
    chip = dataclasses.replace(CHIP, cores=dataclasses.replace(CHIP.cores, count=1))
    assert core_busy(bill(10, a={Engine.FP: 4}, b={Engine.FP: 4}), chip) == pytest.approx([0.8])
