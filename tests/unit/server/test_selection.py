"""Who is asked in a round; numbers are computed by hand."""

import math

import numpy as np
import pytest

from neurofed import metrics
from neurofed.errors import ConfigError, NotEnoughWorkersError, UnknownNameError, UnknownSettingError
from neurofed.spec import SELECTIONS
from server.selection import Budget, Candidate, Seen, Selector, Utility, by_energy, by_utility, selection, utilities

NAMES = [f"w{k}" for k in range(10)]
PARTS = {name: k for k, name in enumerate(NAMES)}


def _selector(name, seed=0, sizes=None, least=0, **settings):
    return Selector(selection(name, settings), seed, sizes or [5] * 10, least)


def _rng():
    return np.random.default_rng(0)


def test_each_selection_can_be_made_and_all_is_none():
    assert [name for name in SELECTIONS if selection(name) is None] == ["all"]
    assert [selection(name).name for name in SELECTIONS[1:]] == list(SELECTIONS[1:])


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("unifrom", {}, UnknownNameError),
        ("all", {"fraction": "0.5"}, UnknownSettingError),
        ("uniform", {"budget_j": "1"}, UnknownSettingError),
        ("uniform", {"fraction": "1.5"}, ConfigError),
        ("energy", {"budget_j": "-1"}, ConfigError),
        ("utility", {"alpha": "much"}, ConfigError),
    ],
)
def test_what_is_wrong_is_said(name, settings, error):
    with pytest.raises(error):
        selection(name, settings)


@pytest.mark.parametrize(
    ("fraction", "least", "expected"), [(0.5, 0, 5), (0.3, 0, 3), (0.31, 0, 4), (0.0, 0, 1), (1.0, 0, 10), (0.1, 4, 4)]
)
def test_so_many_are_asked(fraction, least, expected):
    assert len(_selector("uniform", fraction=fraction, least=least).choose(1, PARTS)) == expected


def test_nobody_is_asked_where_nobody_is():
    assert _selector("uniform").choose(1, {}) == frozenset()


def test_uniform_asks_everybody_alike():
    selector = _selector("uniform", fraction=0.3)
    counts = dict.fromkeys(NAMES, 0)
    for number in range(1, 2001):
        for name in selector.choose(number, PARTS):
            counts[name] += 1
    assert all(abs(count - 600) < 100 for count in counts.values()), counts  # 5 standard deviations


def test_more_data_is_asked_more_often_and_no_data_not_never():
    selector = _selector("data-size", sizes=[0, 1, 3] + [0] * 7, fraction=0.1)
    counts = dict.fromkeys(NAMES, 0)
    for number in range(1, 2001):
        (name,) = selector.choose(number, PARTS)
        counts[name] += 1
    assert counts["w2"] / 2000 == pytest.approx(0.75, abs=0.05)
    assert counts["w1"] / 2000 == pytest.approx(0.25, abs=0.05)
    assert len(_selector("data-size", sizes=[0, 1, 3] + [0] * 7, fraction=1.0).choose(1, PARTS)) == 10


def test_energy_asks_those_that_spent_least_within_the_budget():
    spent = {"a": (9.0, 2.0), "b": (3.0, 1.0), "c": (5.0, 1.0)}
    pool = [Candidate(name, 1, Seen(1, energy_j=last, spent_j=total)) for name, (total, last) in spent.items()]
    pool.append(Candidate("d", 1))
    assert by_energy(Budget(), pool, 3, 2, _rng()) == ["d", "b", "c"]
    assert by_energy(Budget(), pool, 9, 2, _rng()) == ["d", "b", "c", "a"]
    assert by_energy(Budget(budget_j=10.0), pool, 9, 2, _rng()) == ["d", "b", "c"]
    with pytest.raises(NotEnoughWorkersError, match=r"round 7: .* within 2 J, got none of 1"):
        by_energy(Budget(budget_j=2.0), pool[:1], 1, 7, _rng())


def test_utility_is_oorts():
    pool = [
        Candidate("a", 10, Seen(1, loss=2.0, chip_s=1.0)),
        Candidate("b", 10, Seen(4, loss=1.0, chip_s=1.0)),
        Candidate("c", 10, Seen(4, loss=1.0, chip_s=2.0)),
    ]
    worth = utilities(Utility(), pool, 5)
    # the 95th percentile of 20, 10, 10 is 19; longer than the median of 1 s counts as (1 / 2)^2
    a, b = 1 + math.sqrt(0.1 * math.log(5)), 10 / 19 + math.sqrt(0.1 * math.log(5) / 4)
    assert worth == pytest.approx([a, b, b / 4])
    assert utilities(Utility(alpha=0.0), pool, 5) == pytest.approx([a, b, b])
    assert utilities(Utility(round_s=0.5), pool, 5) == pytest.approx([a / 4, b / 4, b / 16])


def test_utility_explores_and_then_asks_the_best():
    known = [Candidate(f"k{k}", 10, Seen(1, loss=loss, chip_s=1.0)) for k, loss in enumerate((0.1, 0.1, 4.0, 4.0))]
    new = [Candidate(f"n{k}", 10) for k in range(4)]
    chosen = by_utility(Utility(exploration=0.5, decay=1.0), [*known, *new], 4, 1, _rng())
    assert sorted(name[0] for name in chosen) == ["k", "k", "n", "n"]
    assert {"k2", "k3"} < set(chosen)
    assert {*by_utility(Utility(exploration=1.0), [*known, *new], 4, 1, _rng())} == {"n0", "n1", "n2", "n3"}
    late = by_utility(Utility(), [*known, *new], 4, 1000, _rng())
    assert sorted(name[0] for name in late) == ["k", "k", "k", "n"], "0.2 of 4, rounded"
    assert len(by_utility(Utility(), new, 3, 1, _rng())) == 3
    assert len(by_utility(Utility(exploration=0.0, least_exploration=0.0), [*known[:1], *new], 3, 1, _rng())) == 3


def test_a_liar_about_its_loss_is_worth_no_more_than_the_highest_of_the_others():
    pool = [Candidate(f"w{k}", 10, Seen(1, loss=1.0, chip_s=1.0)) for k in range(99)]
    worth = utilities(Utility(), [*pool, Candidate("liar", 10, Seen(1, loss=1e30, chip_s=1.0))], 2)
    assert worth[-1] == worth[0]


def test_what_is_no_number_counts_as_nothing():
    selector = _selector("utility")
    selector.learn(1, "w0", {metrics.LOSS: float("nan"), metrics.CHIP_S: "fast", metrics.ENERGY_J: -3.0})
    assert selector.seen["w0"] == Seen(1)


def test_energy_adds_up_over_the_rounds_and_across_a_restart():
    selector = _selector("energy")
    selector.learn(1, "w0", {metrics.ENERGY_J: 2.0})
    again = _selector("energy")
    again.restore(selector.state)
    again.learn(3, "w0", {metrics.ENERGY_J: 3.0, metrics.LOSS: 0.5, metrics.CHIP_S: 4.0})
    assert again.seen == {"w0": Seen(3, 0.5, 4.0, 3.0, 5.0)}


def test_absurd_numbers_are_cut_off():
    selector = _selector("utility", sizes=[10**6] * 10, exploration=0.0, least_exploration=0.0)
    for name in NAMES:
        selector.learn(1, name, dict.fromkeys((metrics.LOSS, metrics.CHIP_S, metrics.ENERGY_J), 1.7e308))
    assert len(selector.choose(2, PARTS)) == 5


@pytest.mark.parametrize("name", SELECTIONS[1:])
def test_within_a_round_the_choice_stays(name):
    selector = _selector(name, fraction=0.3)
    for number in range(1, 20):
        asked = selector.choose(number, PARTS)
        for worker in asked:
            selector.learn(number, worker, {metrics.LOSS: 1 / number, metrics.CHIP_S: 1.0, metrics.ENERGY_J: 1.0})
            assert selector.choose(number, PARTS) == asked
