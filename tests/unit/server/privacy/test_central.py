"""Differential privacy as a wrapper of rules: clipping, noise, memory, settings."""

import math

import numpy as np
import pytest

from neurofed import metrics
from neurofed.errors import ConfigError, UpdateError
from server.aggregation import rule
from server.aggregation.base import Update
from server.privacy.central import CLIP, MEANS, ROUNDS, Adaptive, Fixed, private, sum_noise

KEY = bytes(range(32))
NOISELESS = 1e-9
"""So little noise that it does not show in 32 bits."""
MODEL = {"w": np.array([1.0, 2.0], np.float32), "v": np.zeros((2, 1), np.float32), "steps": np.array(7)}


def update(w, v=((0.0,), (0.0,)), examples=1, steps=9):
    return Update({"w": np.array(w, np.float32), "v": np.array(v, np.float32), "steps": np.array(steps)}, examples)


def run_round(wrapped, updates, memory=None, model=MODEL, workers=5):
    state = wrapped.init(model, workers, memory or {})
    for one in updates:
        state = wrapped.add(state, one)
    return wrapped.finish(state), state


def test_the_mean_of_clipped_differences_by_hand():
    dp = private(rule("fedavg"), Fixed(clip=1.0, noise=NOISELESS), KEY)
    # differences: (3, 4) is 5 long and becomes (0.6, 0.8); (0.1, 0) stays as it is
    model, _ = run_round(dp, [update([4.0, 6.0], examples=1000), update([1.1, 2.0])])
    np.testing.assert_allclose(model["w"], [1.0 + 0.7 / 2, 2.0 + 0.8 / 2], atol=1e-6)
    assert model["steps"] == 7


def test_the_length_is_that_of_all_tensors_together():
    dp = private(rule("fedavg"), Fixed(clip=1.0, noise=NOISELESS), KEY)
    model, _ = run_round(dp, [update([4.0, 2.0], [[4.0], [0.0]])])
    np.testing.assert_allclose(model["w"], [1.6, 2.0], atol=1e-6)
    np.testing.assert_allclose(model["v"], [[0.8], [0.0]], atol=1e-6)


def test_no_update_adds_more_than_the_bound_in_whole_numbers():
    rng = np.random.default_rng(0)
    model = {"w": np.zeros(50_000, np.float32)}
    dp = private(rule("fedavg"), Fixed(clip=0.5, noise=1.0), KEY)
    for scale in (1e-3, 1.0, 1e3):
        state = dp.init(model, 1)
        dp.add(state, Update({"w": rng.normal(0, scale, 50_000).astype(np.float32)}, 1))
        length = math.isqrt(sum(int(q) ** 2 for q in state.sums["w"]))
        assert 0 < length <= 0.5 * 2**40


def test_the_noise_has_the_deviation_that_was_asked_for():
    model = {"w": np.zeros(200_000, np.float32)}
    dp = private(rule("fedavg"), Fixed(clip=2.0, noise=3.0), KEY)
    result, _ = run_round(dp, [Update({"w": np.zeros(200_000, np.float32)}, 1)] * 4, model=model)
    assert np.std(result["w"]) == pytest.approx(3.0 * 2.0 / 4, rel=0.01)
    assert abs(np.mean(result["w"])) < 5 * 1.5 / math.sqrt(200_000)


def test_a_round_done_again_has_the_same_bits_and_another_key_has_not():
    updates = [update([1.5, 2.0]), update([1.0, 1.0])]
    same = [run_round(private(rule("fedavg"), Fixed(noise=1.0), KEY), updates)[0] for _ in range(2)]
    other, _ = run_round(private(rule("fedavg"), Fixed(noise=1.0), bytes(32)), updates)
    assert same[0]["w"].tobytes() == same[1]["w"].tobytes() != other["w"].tobytes()


def test_other_updates_in_the_same_round_get_other_noise():
    """If the noise were the same, the difference of the two models would be that of the updates."""
    dp = private(rule("fedavg"), Fixed(noise=1.0), KEY)
    one, _ = run_round(dp, [update([1.5, 2.0])])
    two, _ = run_round(dp, [update([1.25, 2.0])])
    assert abs(float(one["w"][0] - two["w"][0]) - 0.25) > 1e-3


def test_the_next_round_gets_other_noise_and_counts_on():
    dp = private(rule("fedavg"), Fixed(noise=1.0), KEY)
    still = [update(MODEL["w"])]
    first, state = run_round(dp, still)
    second, state = run_round(dp, still, dp.memory(state))
    assert dp.memory(state)[ROUNDS] == 2
    assert first["w"].tobytes() != second["w"].tobytes()


@pytest.mark.parametrize("name", MEANS)
def test_with_hardly_any_noise_a_rule_does_what_it_does_with_equal_weights(name):
    updates = [update([1.25, 2.5]), update([0.5, 2.25]), update([1.125, 1.875])]
    dp, plain = private(rule(name), Fixed(clip=64.0, noise=NOISELESS), KEY), rule(name)
    ours, theirs = {}, {}
    model = expected = MODEL
    for _ in range(3):
        model, state = run_round(dp, updates, ours, model)
        ours = dp.memory(state)
        expected, state = run_round(plain, updates, theirs, expected)
        theirs = plain.memory(state)
        np.testing.assert_allclose(model["w"], expected["w"], atol=2e-6)
    assert set(ours) - {ROUNDS, CLIP} == set(theirs)
    assert dp.client == plain.client


@pytest.mark.parametrize("name", ["median", "krum", "norm-clipping", "scaffold", "bulyan"])
def test_rules_that_look_at_single_updates_are_refused(name):
    with pytest.raises(ConfigError, match="fedavg"):
        private(rule(name), Fixed(noise=1.0), KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        update([math.nan, 0.0]),
        update([math.inf, 0.0]),
        update([0.0, 0.0], examples=0),
        update([0.0, 0.0], examples=-3),
        update([0.0, 0.0, 0.0]),
        Update({"w": MODEL["w"]}, 1),
    ],
    ids=["nan", "infinite", "no examples", "negative examples", "another shape", "a tensor is missing"],
)
def test_what_cannot_be_added_is_refused_and_leaves_no_trace(wrong):
    dp = private(rule("fedavg"), Fixed(noise=1.0), KEY)
    expected, _ = run_round(dp, [update([1.5, 2.0])])
    state = dp.init(MODEL, 5)
    with pytest.raises(UpdateError):
        dp.add(state, wrong)
    state = dp.add(state, update([1.5, 2.0]))
    assert dp.finish(state)["w"].tobytes() == expected["w"].tobytes()


def test_a_round_of_nothing_and_more_updates_than_workers_are_refused():
    dp = private(rule("fedavg"), Fixed(noise=1.0), KEY)
    with pytest.raises(UpdateError, match="at least one"):
        dp.finish(dp.init(MODEL, 5))
    state = dp.add(dp.init(MODEL, 1), update(MODEL["w"]))
    with pytest.raises(UpdateError, match="at most 1"):
        dp.add(state, update(MODEL["w"]))


def test_noise_beyond_what_a_model_may_be_says_what_to_do():
    dp = private(rule("fedavg"), Fixed(clip=64.0, noise=900.0), KEY)
    with pytest.raises(UpdateError, match=r"lower privacy\.noise"):
        run_round(dp, [update(MODEL["w"])])


def test_sums_that_would_not_fit_are_refused_before_anything_is_added():
    dp = private(rule("fedavg"), Fixed(clip=64.0, noise=1.0), KEY)
    with pytest.raises(ConfigError, match="64 bits"):
        dp.init(MODEL, 200_000)


# -- adaptive clipping


@pytest.mark.parametrize(("lengths", "share"), [([0.1, 0.2, 0.3, 5.0], 0.75), ([2.0, 3.0], 0.0), ([0.5], 1.0)])
def test_the_bound_moves_towards_the_quantile(lengths, share):
    settings = Adaptive(clip=1.0, noise=NOISELESS, quantile=0.5, rate=0.2, count_noise=1e-8)
    dp = private(rule("fedavg"), settings, KEY)
    _, state = run_round(dp, [update([1.0 + length, 2.0]) for length in lengths])
    assert float(dp.memory(state)[CLIP]) == pytest.approx(math.exp(-0.2 * (share - 0.5)), rel=1e-6)


def test_the_bound_finds_the_median_length_and_is_used():
    settings = Adaptive(clip=32.0, noise=NOISELESS, rate=0.5, count_noise=1e-8)
    dp = private(rule("fedavg"), settings, KEY)
    memory = {}
    for _ in range(60):
        _, state = run_round(dp, [update([1.0 + d, 2.0]) for d in (0.25, 0.5, 1.0, 2.0, 4.0)], memory)
        memory = dp.memory(state)
    assert 0.5 <= float(memory[CLIP]) <= 2.0
    model, _ = run_round(dp, [update([5.0, 2.0])], memory)
    assert float(model["w"][0] - 1.0) == pytest.approx(float(memory[CLIP]), rel=1e-5)


def test_noise_of_sum_and_count_together_are_worth_the_noise_that_was_asked_for():
    for workers, count_noise in [(5, 0.0), (1000, 0.0), (20, 3.0)]:
        spread, count = sum_noise(Adaptive(noise=1.5, count_noise=count_noise), workers)
        assert spread**-2 + (2 * count) ** -2 == pytest.approx(1.5**-2)
    assert sum_noise(Adaptive(noise=1.5), 1000)[1] == 50.0
    assert sum_noise(Fixed(noise=1.5), 1000) == (1.5, 0.0)


def test_a_count_without_enough_noise_is_refused():
    with pytest.raises(ConfigError, match=r"count_noise: expected more than half of the noise, 0\.75, got 0\.7"):
        sum_noise(Adaptive(noise=1.5, count_noise=0.7), 5)


# -- what is reported


def test_each_round_reports_what_was_spent_so_far():
    pytest.importorskip("dp_accounting")
    dp = private(rule("fedavg"), Fixed(clip=0.5, noise=2.0, delta=1e-6), KEY)
    _, state = run_round(dp, [update(MODEL["w"])])
    first = dp.numbers(state)
    _, state = run_round(dp, [update(MODEL["w"])], dp.memory(state))
    second = dp.numbers(state)
    assert first[metrics.DELTA] == 1e-6
    assert first[metrics.CLIP] == 0.5
    assert 0 < first[metrics.EPSILON] < second[metrics.EPSILON]
