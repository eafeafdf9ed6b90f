"""Whoever is there and whatever was reported: the choice is well-formed, and a function of the state alone."""

import json

from hypothesis import given
from hypothesis import strategies as st

from neurofed import metrics
from server.selection import Selector, selection

NAMES = [f"w{k}" for k in range(12)]
REPORT = st.fixed_dictionaries(
    {}, optional={name: st.floats() for name in (metrics.LOSS, metrics.CHIP_S, metrics.ENERGY_J)}
)
HISTORY = st.lists(st.tuples(st.integers(1, 50), st.sampled_from(NAMES), REPORT), max_size=30)
CHOSEN = st.tuples(
    st.sampled_from(["uniform", "data-size", "energy", "utility"]), st.floats(0, 1), st.integers(0, 2**31 - 1)
)


def _selector(chosen, sizes, history):
    name, fraction, seed = chosen
    selector = Selector(selection(name, {"fraction": fraction}), seed, sizes)
    for number, worker, numbers in history:
        selector.learn(number, worker, numbers)
    return selector


@given(
    CHOSEN,
    st.lists(st.integers(0, 10**6), min_size=12, max_size=12),
    HISTORY,
    st.sets(st.sampled_from(NAMES), min_size=1),
    st.integers(1, 10**6),
    st.randoms(use_true_random=False),
)
def test_a_choice_is_of_those_that_are_there_and_depends_on_nothing_but_the_state(
    chosen, sizes, history, present, number, shuffler
):
    parts = {name: NAMES.index(name) for name in sorted(present)}
    selector = _selector(chosen, sizes, history)
    asked = selector.choose(number, parts)
    assert asked <= present
    assert 1 <= len(asked) <= len(present)
    assert len(asked) >= min(len(present), chosen[1] * len(present) - 1e-6)
    again = _selector(chosen, sizes, [])
    again.restore(json.loads(json.dumps(selector.state)))
    shuffled = shuffler.sample(sorted(parts), len(parts))
    assert again.choose(number, {name: parts[name] for name in shuffled}) == asked
    assert selector.choose(number, parts) == asked, "asking changes nothing"


@given(CHOSEN, HISTORY, st.randoms(use_true_random=False))
def test_the_order_in_which_a_rounds_updates_arrive_is_without_effect(chosen, history, shuffler):
    unique = {(number, worker): (number, worker, numbers) for number, worker, numbers in history}
    by_round = sorted(unique.values(), key=lambda row: row[0])
    shuffled = sorted(shuffler.sample(by_round, len(by_round)), key=lambda row: row[0])
    parts = {name: k for k, name in enumerate(NAMES)}
    one, other = (_selector(chosen, [1] * 12, rows) for rows in (by_round, shuffled))
    assert one.state == other.state
    assert one.choose(51, parts) == other.choose(51, parts)
