"""What must hold of every aggregation rule."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.aggregation import BUILT_IN, rule
from server.aggregation.base import Update, most_examples

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])

MOST = 11
values = st.floats(-64, 64, width=32)
tensors = st.tuples(arrays.arrays(np.float32, (3, 2), elements=values), arrays.arrays(np.float64, 2, elements=values))
START = {"w": np.full((3, 2), 0.5, np.float32), "v": np.zeros(2), "steps": np.array(7)}


def _update(pair, examples):
    model = {"w": pair[0], "v": pair[1], "steps": np.array(9)}
    return Update(model, examples, {"w": pair[0], "v": pair[1]})


updates = st.builds(_update, tensors, st.integers(1, most_examples(MOST)))


def _round(name, given_updates):
    strategy = rule(name)
    state = strategy.init(START, MOST)
    for update in given_updates:
        state = strategy.add(state, update if strategy.sends_memory else Update(update.model, update.examples))
    return strategy.finish(state), strategy.memory(state)


def _bits(*models):
    return [{name: np.asarray(array).tobytes() for name, array in model.items()} for model in models]


@pytest.mark.parametrize("name", BUILT_IN)
@untimed
@given(st.lists(updates, min_size=7, max_size=9), st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_without_effect(name, given_updates, shuffler):
    expected = _bits(*_round(name, given_updates))
    shuffled = list(given_updates)
    shuffler.shuffle(shuffled)
    assert _bits(*_round(name, shuffled)) == expected


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"fedavgm", "fedadam", "fedyogi", "fedadagrad"}))
@untimed
@given(st.lists(updates, min_size=7, max_size=9))
def test_the_result_lies_among_the_updates_and_the_model_they_began_with(name, given_updates):
    result, _ = _round(name, given_updates)
    for key in ("w", "v"):
        stack = np.stack([START[key], *(u.model[key] for u in given_updates)])
        assert np.all(result[key] >= stack.min(0) - 1e-4)
        assert np.all(result[key] <= stack.max(0) + 1e-4)
    assert result["steps"] == 7


@pytest.mark.parametrize("name", BUILT_IN)
@untimed
@given(tensors, st.integers(7, 9))
def test_what_all_agree_on_is_the_direction(name, pair, count):
    result, _ = _round(name, [_update(pair, 3)] * count)
    for key, wanted in (("w", pair[0]), ("v", pair[1])):
        moved, asked = result[key].astype(np.float64) - START[key], wanted.astype(np.float64) - START[key]
        assert np.all(moved * asked >= -1e-4)
        if not BUILT_IN[name].defaults.__class__.__name__.startswith("Adaptive"):
            np.testing.assert_allclose(result[key], wanted, rtol=1e-5, atol=1e-5)
