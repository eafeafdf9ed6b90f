"""What must hold of private aggregation."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from support_secagg import STEPS, Round

from neurofed.errors import NotEnoughWorkersError
from neurofed.secagg import shamir
from server.aggregation import rule
from server.aggregation.base import Update
from server.aggregation.exact import ExactSum
from server.privacy.central import MEANS, Adaptive, Fixed, private
from server.privacy.secagg import mean_of, threshold_for

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])

values = st.floats(-64, 64, width=32)
models = st.builds(
    lambda w, v: {"w": w, "v": v, "steps": np.array(9)},
    arrays.arrays(np.float32, (3, 2), elements=values),
    arrays.arrays(np.float64, 2, elements=st.floats(-64, 64)),
)
START = {"w": np.full((3, 2), 0.5, np.float32), "v": np.zeros(2), "steps": np.array(7)}


@st.composite
def rounds(draw):
    """Models and examples by worker, and who vanishes before which step."""
    numbers = draw(st.lists(st.integers(0, 2**63 - 1), min_size=3, max_size=9, unique=True))
    given_models = {n: (draw(models), draw(st.integers(1, 10_000))) for n in numbers}
    gone = draw(st.lists(st.sampled_from(numbers), max_size=3, unique=True))
    return given_models, {n: draw(st.sampled_from(STEPS)) for n in gone}


@untimed
@given(rounds())
def test_the_masked_sum_is_the_exact_sum_of_those_who_sent(case):
    given_models, vanish = case
    counted = [n for n in given_models if vanish.get(n, "shares") == "shares"]
    threshold = threshold_for(len(given_models))
    masked = Round(given_models, threshold, vanish)
    if len(given_models) - len(vanish) < threshold:
        with pytest.raises(NotEnoughWorkersError):
            masked.run()
        return
    sums = ExactSum(START)
    for n in counted:
        sums.add(*given_models[n])
    mean, examples = mean_of(masked.run(), START, len(counted))
    assert examples == sums.weight
    assert {n: a.tobytes() for n, a in mean.items()} == {n: a.tobytes() for n, a in sums.settle().items()}


@untimed
@given(st.binary(min_size=32, max_size=32), st.data())
def test_any_shares_as_many_as_the_threshold_give_the_secret(secret, data):
    count = data.draw(st.integers(1, 12))
    threshold = data.draw(st.integers(1, count))
    shares = shamir.split(secret, threshold, count)
    holders = data.draw(st.permutations(range(1, count + 1)))[: data.draw(st.integers(threshold, count))]
    assert shamir.Joiner(holders).secret({x: shares[x - 1] for x in holders}) == secret


updates = st.lists(st.builds(Update, models, st.integers(1, 1000)), min_size=1, max_size=6)


@pytest.mark.parametrize("name", MEANS)
@untimed
@given(updates, st.randoms(use_true_random=False))
def test_the_order_of_arrival_is_without_effect_on_a_private_rule(name, given_updates, shuffler):
    results = []
    for _ in range(2):
        shuffler.shuffle(given_updates)
        dp = private(rule(name), Adaptive(clip=0.5, noise=0.1), bytes(32))
        state = dp.init(START, 6)
        for update in given_updates:
            state = dp.add(state, update)
        model, memory = dp.finish(state), dp.memory(state)
        results.append({n: np.asarray(a).tobytes() for n, a in (*model.items(), *memory.items())})
    assert results[0] == results[1]


@untimed
@given(updates, models, st.floats(1e-3, 8.0))
def test_one_worker_moves_the_sum_by_no_more_than_the_bound(given_updates, other, clip):
    """Sums are whole numbers, so this holds to the last bit."""
    dp = private(rule("fedavg"), Fixed(clip=clip, noise=1.0), bytes(32))
    state = dp.init(START, 7)
    for update in given_updates:
        state = dp.add(state, update)
    before = {name: sums.copy() for name, sums in state.sums.items()}
    state = dp.add(state, Update(other, 1))
    squares = sum(int(d) ** 2 for name, sums in state.sums.items() for d in sums - before[name])
    assert squares <= (clip * 2**40) ** 2


@untimed
@given(st.lists(updates, min_size=2, max_size=3), st.sampled_from(MEANS))
def test_a_resumed_run_has_the_same_bits(history, name):
    def run(restarts):
        dp = private(rule(name), Adaptive(clip=0.5, noise=0.1), bytes(32))
        model, memory = START, {}
        for given_updates in history:
            if restarts:  # through what a checkpoint keeps
                dp = private(rule(name), Adaptive(clip=0.5, noise=0.1), bytes(32))
                memory = {n: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for n, a in memory.items()}
                model = dict(reversed(model.items()))
            state = dp.init(model, 6, memory)
            for update in given_updates:
                state = dp.add(state, update)
            model, memory = dp.finish(state), dp.memory(state)
        return {n: np.asarray(a).tobytes() for n, a in (*model.items(), *memory.items())}

    assert run(restarts=True) == run(restarts=False)
