"""What must hold of any federated average."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neurofed.errors import UpdateError
from server.aggregation.base import Update, most_examples
from server.aggregation.fedavg import FEDAVG

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

values = st.floats(-64, 64, width=32)
MOST = most_examples(8)


def _tensor(elements=values):
    return arrays.arrays(np.float32, (3, 2), elements=elements)


updates = st.builds(lambda array, examples: Update({"w": array}, examples), _tensor(), st.integers(1, MOST))
START = {"w": np.zeros((3, 2), np.float32)}


def _average(given_updates):
    state = FEDAVG.init(START, 8)
    for update in given_updates:
        state = FEDAVG.add(state, update)
    return FEDAVG.finish(state)["w"]


@untimed
@given(st.lists(updates, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_without_effect(given_updates, shuffler):
    expected = _average(given_updates).tobytes()
    shuffled = list(given_updates)
    shuffler.shuffle(shuffled)
    assert _average(shuffled).tobytes() == expected


@untimed
@given(st.lists(updates, min_size=1, max_size=8))
def test_the_result_is_the_weighted_mean(given_updates):
    mean = np.average(
        [u.model["w"].astype(np.float64) for u in given_updates], axis=0, weights=[u.examples for u in given_updates]
    )
    # The fixed point is good to 2^-41; sums of opposite signs cancel, so the bound is on the values that went in.
    np.testing.assert_allclose(_average(given_updates), mean, rtol=1e-6, atol=1e-9)


@untimed
@given(st.lists(updates, min_size=1, max_size=8))
def test_the_result_lies_between_the_least_and_the_greatest(given_updates):
    stack = np.stack([u.model["w"] for u in given_updates])
    result = _average(given_updates)
    assert np.all(result >= stack.min(0) - 1e-9)
    assert np.all(result <= stack.max(0) + 1e-9)


@untimed
@given(
    st.lists(updates, min_size=1, max_size=7),
    st.one_of(st.just(np.nan), st.just(np.inf), st.floats(65.0, 2.0**100, width=32, allow_infinity=False)),
    st.integers(0, 5),
    st.sampled_from([1.0, -1.0]),
    st.data(),
)
def test_a_poisoned_update_leaves_no_mark(given_updates, value, index, sign, data):
    expected = _average(given_updates).tobytes()
    poison = np.zeros((3, 2), np.float32)
    poison.flat[index] = sign * value
    position = data.draw(st.integers(0, len(given_updates)))
    state = FEDAVG.init(START, 8)
    for update in given_updates[:position]:
        state = FEDAVG.add(state, update)
    with pytest.raises(UpdateError):
        FEDAVG.add(state, Update({"w": poison}, 1))
    for update in given_updates[position:]:
        state = FEDAVG.add(state, update)
    assert FEDAVG.finish(state)["w"].tobytes() == expected
