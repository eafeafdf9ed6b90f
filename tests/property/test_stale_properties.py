"""What must hold of updates that are late."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurofed.errors import UpdateError
from server.aggregation import stale
from server.aggregation.base import Update
from server.aggregation.fedavg import FEDAVG

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

tensors = arrays.arrays(np.float32, (3, 2), elements=st.floats(-16, 16, width=32))
late = st.tuples(tensors, st.integers(1, 10_000), st.integers(0, 20))
histories = st.lists(tensors, min_size=21, max_size=21)
"""The models of the rounds so far, the newest first."""


def _buffer(models, updates):
    state = FEDAVG.init({"w": models[0]}, 8)
    for array, examples, staleness in updates:
        fresh = stale.brought_up_to_date({"w": array}, {"w": models[staleness]}, {"w": models[0]}, staleness)
        state = FEDAVG.add(state, Update(fresh, examples))
    return FEDAVG.finish(state)["w"]


@untimed
@given(histories, st.lists(late, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_within_a_buffer_is_without_effect(models, updates, shuffler):
    shuffled = list(updates)
    shuffler.shuffle(shuffled)
    assert _buffer(models, shuffled).tobytes() == _buffer(models, updates).tobytes()


@untimed
@given(histories, st.lists(late, min_size=1, max_size=8))
def test_the_result_is_the_model_and_the_weighted_mean_of_the_discounted_steps(models, updates):
    steps = [(a.astype(np.float64) - models[s]) / math.sqrt(1 + s) for a, _, s in updates]
    mean = np.average(steps, axis=0, weights=[examples for _, examples, _ in updates])
    np.testing.assert_allclose(_buffer(models, updates), models[0] + mean, rtol=1e-5, atol=1e-5)


@untimed
@given(tensors, tensors, tensors)
def test_what_is_not_late_is_what_it_was(array, base, model):
    update = {"w": array}
    assert stale.brought_up_to_date(update, {"w": base}, {"w": model}, 0) is update


def test_the_weight_falls_with_the_root_of_the_age():
    assert [stale.weight(s) for s in (0, 3, 8, 99)] == [1.0, 0.5, pytest.approx(1 / 3), 0.1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"w": np.zeros(3, np.float32)},
        {"w": np.zeros((3, 2), np.float64)},
        {"v": np.zeros((3, 2), np.float32)},
        {},
        {"w": np.full((3, 2), np.nan, np.float32)},
        {"w": np.full((3, 2), np.inf, np.float32)},
    ],
    ids=str,
)
def test_what_does_not_fit_is_left_to_the_rule_to_refuse(wrong):
    model = {"w": np.zeros((3, 2), np.float32)}
    fresh = stale.brought_up_to_date(wrong, model, model, 2)
    with pytest.raises(UpdateError):
        FEDAVG.add(FEDAVG.init(model, 1), Update(fresh, 1))


def test_counters_are_taken_over_as_they_are():
    update, base, now = ({"n": np.array([value])} for value in (7, 3, 5))
    assert stale.brought_up_to_date(update, base, now, 4)["n"] == 7
