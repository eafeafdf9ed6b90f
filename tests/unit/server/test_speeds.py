"""How much of the work each worker does."""

import math

import pytest

from neurofed import metrics
from server.speeds import Speeds


def _numbers(chip_s, steps):
    return {metrics.CHIP_S: chip_s, metrics.STEPS: steps}


def test_the_fastest_does_all_and_others_their_fraction():
    speeds = Speeds()
    speeds.learn("slow", _numbers(8.0, 4))
    speeds.learn("fast", _numbers(2.0, 4))
    assert speeds.work(["fast", "new", "slow"]) == {"fast": 1.0, "new": 1.0, "slow": 0.25}
    assert speeds.work(["slow"]) == {"slow": 1.0}
    assert speeds.work([]) == {}


def test_the_last_word_counts():
    speeds = Speeds()
    speeds.learn("a", _numbers(1.0, 1))
    speeds.learn("b", _numbers(1.0, 1))
    speeds.learn("b", _numbers(8.0, 4))
    assert speeds.work("ab") == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {metrics.STEPS: 3},
        {metrics.CHIP_S: 1.0},
        _numbers(0.0, 3),
        _numbers(-1.0, 3),
        _numbers(math.nan, 3),
        _numbers(math.inf, 3),
        _numbers(1.0, 0),
        _numbers(1.0, 2.5),
        _numbers([1.0], 3),
        _numbers(5e-324, 10**9),
    ],
    ids=str,
)
def test_what_is_no_speed_is_passed_over(numbers):
    speeds = Speeds()
    speeds.learn("a", numbers)
    assert speeds.step_s == {}
