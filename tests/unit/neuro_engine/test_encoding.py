import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from neuro_engine.encoding import delta, direct, latency, rate

SETTINGS = settings(max_examples=60, deadline=None)
DTYPES = [torch.float16, torch.float32, torch.float64]
seeds, steps, dtypes = st.integers(0, 2**31 - 1), st.integers(1, 12), st.sampled_from(DTYPES)
taus = st.sampled_from([None, 0.5, 1.0, 5.0])


def _unit(seed, shape=(3, 2, 4), dtype=torch.float32):
    """Values of 0..1, both ends included."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return ((x - 0.1) * 1.25).clamp_(0, 1).to(dtype)


@SETTINGS
@given(seeds, steps, dtypes)
def test_direct_is_the_value_at_each_step_and_takes_no_memory(seed, steps, dtype):
    x = _unit(seed, dtype=dtype)
    y = direct(x, steps)
    assert y.shape == (steps, *x.shape)
    assert all(torch.equal(frame, x) for frame in y)
    assert y[0].data_ptr() == y[-1].data_ptr() == x.data_ptr()


@SETTINGS
@given(seeds, steps, dtypes)
def test_rate_is_a_function_of_its_generator_and_certain_at_both_ends(seed, steps, dtype):
    x = _unit(seed, dtype=dtype)
    y, again = (rate(x, steps, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(y, again)
    assert y.shape == (steps, *x.shape)
    assert y.dtype == dtype
    assert set(y.unique().tolist()) <= {0.0, 1.0}
    assert (y[:, x == 0] == 0).all()
    assert (y[:, x == 1] == 1).all()


def test_rate_fires_with_the_value_as_probability_at_each_step_anew():
    n = 20000
    y = rate(torch.full((n,), 0.3), 2, torch.Generator().manual_seed(1))
    spread = math.sqrt(0.3 * 0.7 / n)
    assert all(abs(step.mean().item() - 0.3) < 4 * spread for step in y)
    assert abs((y[0] * y[1]).mean().item() - 0.09) < 4 * math.sqrt(0.09 * 0.91 / n)


@SETTINGS
@given(seeds, steps, dtypes, taus, st.sampled_from([0.01, 0.25, 0.6]))
def test_latency_is_at_most_one_spike_and_never_later_for_a_larger_value(seed, steps, dtype, tau, threshold):
    x = _unit(seed, dtype=dtype)
    y = latency(x, steps, threshold, tau)
    assert y.shape == (steps, *x.shape)
    assert y.dtype == dtype
    assert set(y.unique().tolist()) <= {0.0, 1.0}
    counts = y.sum(0)
    assert (counts <= 1).all()
    assert (counts[x.double() <= threshold] == 0).all()
    if tau is None:
        assert (counts[x.double() > threshold] == 1).all()
    fired = counts.bool()
    times = torch.where(fired, y.argmax(0), steps).flatten()[x.flatten().argsort()]
    assert (times.diff() <= 0).all()


@SETTINGS
@given(seeds, steps)
def test_linear_latency_is_the_formula(seed, steps):
    x = _unit(seed)
    y = latency(x, steps, 0.05)
    for value, train in zip(x.flatten().tolist(), y.flatten(1).T.tolist(), strict=True):
        if value > 0.05:
            assert abs(train.index(1.0) - (steps - 1) * (1 - value)) <= 0.5 + 1e-5


def test_latencies_by_hand():
    x = torch.tensor([[1.0, 0.75, 0.5, 0.0]])
    assert latency(x, 5)[:, 0].argmax(0).tolist() == [0, 1, 2, 0]
    assert latency(x, 5)[:, 0].sum(0).tolist() == [1, 1, 1, 0]
    # tau ln(x / (x - 0.4)): 4 ln(5/3) = 2.04, 4 ln(0.75 / 0.35) = 3.05, 4 ln 5 = 6.4 after the last step.
    y = latency(x, 5, threshold=0.4, tau=4.0)[:, 0]
    assert y.argmax(0).tolist() == [2, 3, 0, 0]
    assert y.sum(0).tolist() == [1, 1, 0, 0]


def test_rc_latency_is_when_a_charging_membrane_reaches_the_threshold():
    x, threshold, tau = torch.linspace(0.3, 1, 20, dtype=torch.float64), 0.2, 10.0
    times = latency(x, 100, threshold, tau).argmax(0)
    for value, time in zip(x.tolist(), times.tolist(), strict=True):
        before, after = (value * (1 - math.exp(-(time + half) / tau)) for half in (-0.5, 0.5))
        assert before <= threshold <= after


@SETTINGS
@given(seeds, st.integers(1, 6), dtypes, st.sampled_from([0.1, 0.5, 1.0]))
def test_delta_is_one_event_for_each_change_and_swaps_its_channels_with_the_sign(seed, steps, dtype, threshold):
    frames = _unit(seed, (steps, 2, 3, 2, 2), dtype)
    events = delta(frames, threshold)
    assert events.shape == (steps, 2, 6, 2, 2)
    assert events.dtype == dtype
    on, off = events[:, :, :3], events[:, :, 3:]
    assert not events[0].any()
    assert not (on * off).any()
    changed = frames.diff(dim=0).abs() >= threshold
    assert torch.equal((on + off)[1:].bool(), changed)
    assert torch.equal(delta(-frames, threshold), torch.cat((off, on), 2))


def test_delta_by_hand():
    frames = torch.tensor([1.0, 2.0, 0.0, 0.5, 2.0]).view(5, 1, 1)
    assert delta(frames, 1.0)[:, 0].tolist() == [[0, 0], [1, 0], [0, 1], [0, 0], [1, 0]]


@pytest.mark.parametrize("encode", [direct, rate, latency])
def test_no_steps_and_no_batch_are_refused(encode):
    with pytest.raises(ValueError, match="expected at least 1 time step, got 0"):
        encode(torch.zeros(2), 0)
    with pytest.raises(ValueError, match="got a single number"):
        encode(torch.tensor(0.5), 2)


@pytest.mark.parametrize("encode", [rate, latency])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf])
def test_values_beyond_the_unit_interval_are_refused(encode, value):
    with pytest.raises(ValueError, match=r"expected values of 0\.\.1, got"):
        encode(torch.tensor([0.5, value]), 2)


@pytest.mark.parametrize("encode", [rate, latency, delta])
def test_integers_are_refused(encode):
    with pytest.raises(ValueError, match=r"expected floating-point values, got torch\.uint8"):
        encode(torch.zeros(2, 1, 1, dtype=torch.uint8), 1)


@pytest.mark.parametrize(
    ("threshold", "tau", "message"),
    [(-0.1, None, "threshold"), (1.0, None, "threshold"), (0.0, 1.0, "above 0"), (0.1, 0.0, "above 0")],
)
def test_latencies_that_mean_nothing_are_refused(threshold, tau, message):
    with pytest.raises(ValueError, match=message):
        latency(torch.zeros(2), 3, threshold, tau)


def test_delta_refuses_frames_without_channels_or_time_and_thresholds_of_zero():
    with pytest.raises(ValueError, match=r"got \(4, 2\)"):
        delta(torch.zeros(4, 2), 0.1)
    with pytest.raises(ValueError, match=r"got \(0, 2, 1\)"):
        delta(torch.zeros(0, 2, 1), 0.1)
    with pytest.raises(ValueError, match="expected a threshold above 0, got 0"):
        delta(torch.zeros(2, 2, 1), 0.0)
