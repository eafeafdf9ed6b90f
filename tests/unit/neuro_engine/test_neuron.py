"""The neurons' dynamics by hand; their gradients are held against autograd in test_engines_vs_autograd."""

import math
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from neuro_engine.neuron import (
    LIF,
    alif,
    fire,
    fire_backward,
    if_node,
    integrate,
    integrate_backward,
    leaky,
    lif_node,
    parametric_lif_node,
    synaptic,
)
from neuro_engine.surrogate import triangle

SETTINGS = settings(max_examples=60, deadline=None)
unit = st.sampled_from([0.0, 0.3, 0.9, 1.0])
neurons = st.builds(
    LIF,
    unit,
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([0.7, 0.9]),
    st.sampled_from(["hard", "soft", "none"]),
    st.booleans(),
    synapse_leak=unit,
    adaptation=st.sampled_from([0.0, 0.3]),
    adaptation_leak=unit,
)


def _run(neuron, values, leak=None):
    """Spikes and membrane of one neuron, as lists."""
    spikes, membrane = fire(torch.tensor(values, dtype=torch.float64).view(-1, 1), neuron, leak)
    return spikes.flatten().tolist(), membrane.flatten().tolist()


def _current(seed, shape=(6, 2, 5), dtype=torch.float32):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.4).to(dtype)


@pytest.mark.parametrize(
    ("neuron", "currents", "spikes", "membrane"),
    [
        (leaky(0.5), [0.8, 0.8, 0.8], [0, 1, 0], [0.8, 1.2, 0.4]),
        (leaky(0.5, reset_mechanism="zero"), [0.8, 0.8, 0.8], [0, 1, 0], [0.8, 1.2, 0.8]),
        (leaky(0.5, 1.0, "none"), [0.8, 0.8, 0.8], [0, 1, 1], [0.8, 1.2, 1.4]),
        (leaky(0.0, 1.0, "none"), [0.8, 1.0, 0.8], [0, 1, 0], [0.8, 1.0, 0.8]),
        (synaptic(0.5, 0.5, 1.0, "none"), [0.5, 0.5, 0.0], [0, 1, 0], [0.5, 1.0, 0.875]),
        (synaptic(0.5, 0.5, 1.0, "zero"), [0.5, 0.5, 0.0], [0, 1, 0], [0.5, 1.0, 0.375]),
        (lif_node(4.0), [4.0, 2.0, 1.0], [1, 0, 0], [1.0, 0.5, 0.625]),
        (lif_node(4.0, decay_input=False), [1.2, 0.5, 0.5], [1, 0, 0], [1.2, 0.5, 0.875]),
        (lif_node(4.0, False, v_reset=None), [1.2, 0.5, 0.5], [1, 0, 0], [1.2, 0.65, 0.9875]),
        (parametric_lif_node(4.0), [4.0, 2.0, 1.0], [1, 0, 0], [1.0, 0.5, 0.625]),
        (if_node(), [0.6, 0.6, 0.6], [0, 1, 0], [0.6, 1.2, 0.6]),
        (if_node(0.5, None), [0.6, 0.6, 0.6], [1, 1, 1], [0.6, 0.7, 0.8]),
        # a = 0, 1, 0.5, 1.25: thresholds 1, 1.4, 1.2, 1.5
        (alif(0.0, 0.4, 0.5), [1.1, 1.3, 1.3, 1.3], [1, 0, 1, 0], [1.1, 1.3, 1.3, 1.3]),
        # The reset subtracts the threshold without its adaptation.
        (alif(1.0, 0.5, 1.0), [1.0, 2.0, 1.0], [1, 1, 1], [1.0, 2.0, 2.0]),
    ],
)
def test_dynamics_by_hand(neuron, currents, spikes, membrane):
    fired, h = _run(neuron, currents)
    assert h == pytest.approx(membrane, rel=1e-12)
    assert fired == spikes


def test_leaky_subtracts_after_the_leak_as_snntorch_does():
    beta, threshold, currents = 0.8, 0.7, [0.9, 0.3, 0.8, 0.1, 0.6, 0.0, 0.5]
    mem, spk, wanted = 0.0, 0.0, []
    for current in currents:
        mem = beta * mem + current - spk * threshold
        spk = float(mem > threshold)
        wanted.append(mem)
    assert _run(leaky(beta, threshold), currents)[1] == pytest.approx(wanted, rel=1e-12)


def test_a_neuron_fires_at_the_threshold():
    assert _run(LIF(threshold=0.5), [0.5, 0.0])[0] == [1, 0]


@SETTINGS
@given(neurons, st.integers(0, 10**6), st.floats(0.1, 0.9))
def test_a_given_leak_takes_the_place_of_the_neurons_own(neuron, seed, leak):
    current = _current(seed, dtype=torch.float64)
    given_leak = torch.tensor(leak, dtype=torch.float64)
    own = replace(neuron, leak=leak)
    assert all(torch.equal(a, b) for a, b in zip(fire(current, neuron, given_leak), fire(current, own), strict=True))
    assert torch.equal(integrate(current, neuron, given_leak), integrate(current, own))


@pytest.mark.parametrize("leak", [0.2, 0.75])
def test_decaying_input_follows_the_learned_leak(leak):
    current = _current(0, dtype=torch.float64)
    given_leak = torch.tensor(leak, dtype=torch.float64)
    learned, fixed = parametric_lif_node(2.0), lif_node(1 / (1 - leak))
    torch.testing.assert_close(fire(current, learned, given_leak)[1], fire(current, fixed)[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(integrate(current, learned, given_leak), integrate(current, fixed), rtol=1e-12, atol=0)


@SETTINGS
@given(neurons, st.integers(0, 10**6))
def test_a_neuron_that_never_fires_integrates(neuron, seed):
    current = _current(seed, dtype=torch.float64)
    silent = replace(neuron, threshold=math.inf, reset="none")
    torch.testing.assert_close(fire(current, silent)[1], integrate(current, neuron), rtol=1e-12, atol=1e-12)


@SETTINGS
@given(neurons, st.integers(0, 10**6), st.booleans())
def test_integrating_has_the_gradient_of_autograd(neuron, seed, learned):
    current = _current(seed, dtype=torch.float64).requires_grad_()
    leak = torch.tensor(0.6, dtype=torch.float64, requires_grad=True) if learned else None
    i = h = torch.zeros_like(current[0])
    outputs = []
    for x in current:
        i = neuron.synapse_leak * i + x
        h = (neuron.leak if leak is None else leak) * h + neuron.gain * i
        outputs.append(h)
    weights = _current(seed + 1, dtype=torch.float64)
    membrane = integrate(current.detach(), neuron, leak)
    torch.testing.assert_close(membrane, torch.stack(outputs).detach(), rtol=1e-12, atol=1e-12)
    leaves = [current] if leak is None else [current, leak]
    wanted = torch.autograd.grad((torch.stack(outputs) * weights).sum(), leaves)
    grads = integrate_backward(weights, membrane, neuron, leak)
    assert (grads[1] is None) == (leak is None)
    for grad, want in zip(grads, wanted, strict=False):
        torch.testing.assert_close(grad, want, rtol=1e-10, atol=1e-10)


@SETTINGS
@given(neurons, st.integers(0, 10**6), st.booleans())
def test_bp_knows_which_neurons_fired_from_what_is_stored_in_16_bits(neuron, seed, by_storage):
    # Many a membrane meets the threshold, which has no 16-bit value: rounding must not split BP from FP.
    current = (_current(seed) * 20).round() / 20
    neuron = replace(neuron, reset="hard", detach_reset=True, synapse_leak=0.0)
    source, storage = (current, torch.float16) if by_storage else (current.half(), None)
    spikes, membrane = fire(source, neuron, None, storage)
    assert spikes.dtype == membrane.dtype == torch.float16
    grad = torch.zeros_like(membrane)
    grad[-1] = 1
    grad_current, _ = fire_backward(grad, membrane, neuron, triangle(100.0))
    passed = torch.ones_like(grad_current[0])
    for t in reversed(range(len(spikes) - 1)):  # a hard reset passes nothing on where the neuron fired
        passed = passed * (1 - spikes[t].float()) * neuron.leak
        assert torch.equal(grad_current[t] != 0, passed != 0)


@SETTINGS
@given(neurons, st.integers(0, 10**6))
def test_16_bits_are_computed_in_32_and_rounded_as_they_are_stored(neuron, seed):
    current = _current(seed).half()
    spikes, membrane = fire(current, neuron)
    h = _stepwise(current.float(), neuron)
    assert torch.equal(membrane, h.half())
    wanted = fire(current.float(), neuron, None, torch.float16)
    assert torch.equal(spikes, wanted[0])
    grad = _current(seed + 1).half()
    wide = fire_backward(grad.float(), membrane.float(), neuron, triangle())[0]
    narrow = fire_backward(grad, membrane, neuron, triangle())[0]
    assert narrow.dtype == torch.float32
    assert torch.equal(narrow, wide)


def _stepwise(current, neuron):
    """The membrane, where each step reads what the one before stored in 16 bits."""
    i = v = a = torch.zeros_like(current[0])
    rows = []
    for x in current:
        i = torch.add(x, i, alpha=neuron.synapse_leak)
        h = torch.add(i * neuron.gain, v, alpha=neuron.leak).half().float()
        s = (h >= neuron.threshold + neuron.adaptation * a).float()
        v = {"hard": h * (1 - s), "soft": torch.sub(h, s, alpha=neuron.threshold), "none": h}[neuron.reset]
        a = neuron.adaptation_leak * a + s
        rows.append(h)
    return torch.stack(rows)


@SETTINGS
@given(neurons, st.integers(0, 10**6))
def test_neither_current_nor_gradient_nor_membrane_is_written_to(neuron, seed):
    current, grad = _current(seed), _current(seed + 1)
    membrane = fire(current, neuron)[1]
    arguments = (current, grad, membrane)
    before = [x.clone() for x in arguments]
    integrate_backward(grad, integrate(current, neuron), neuron)
    fire_backward(grad, membrane, neuron, triangle())
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


def test_a_current_that_is_the_same_at_each_step_may_be_a_view():
    current = _current(0, (1, 2, 5)).expand(4, 2, 5)
    neuron = LIF(synapse_leak=0.5)
    assert torch.equal(fire(current, neuron)[1], fire(current.contiguous(), neuron)[1])
    assert torch.equal(integrate(current, neuron), integrate(current.contiguous(), neuron))


def test_detaching_stops_the_gradient_through_the_adaptation_too():
    neuron = alif(0.0, 0.5, 0.9, detach_reset=True)
    membrane = fire(_current(1, dtype=torch.float64), neuron)[1]
    grad = torch.zeros_like(membrane)
    grad[-1] = 1
    detached = fire_backward(grad, membrane, neuron, triangle())[0]
    attached = fire_backward(grad, membrane, replace(neuron, detach_reset=False), triangle())[0]
    assert not detached[:-1].any()
    assert attached[:-1].any()


def test_a_learned_leak_of_one_leaves_gradients_finite_where_the_input_decays_to_nothing():
    neuron, leak = parametric_lif_node(), torch.ones((), dtype=torch.float32)
    current = _current(2)
    membrane = fire(current, neuron, leak)[1]
    grads = fire_backward(torch.ones_like(current), membrane, neuron, triangle(2.0), leak)
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(leak=1.1), r"expected leak of 0\.\.1, got 1\.1"),
        (lambda: LIF(synapse_leak=-0.1), r"expected synapse_leak of 0\.\.1, got -0\.1"),
        (lambda: LIF(adaptation_leak=2.0), r"expected adaptation_leak of 0\.\.1, got 2\.0"),
        (lambda: LIF(reset="firm"), "expected a reset of 'hard', 'soft' or 'none', got 'firm'"),
        (lambda: LIF(leak=1.0, learn_leak=True), r"begin between 0 and 1, got 1\.0"),
        (lambda: LIF(decay_input=True), "learn_leak only"),
        (lambda: leaky(0.5, reset_mechanism="soft"), "expected a reset mechanism of .*'subtract'.*, got 'soft'"),
        (lambda: leaky(0.0), "expected a beta above 0"),
        (lambda: lif_node(1.0), r"expected a time constant above 1 step, got 1\.0"),
        (lambda: parametric_lif_node(0.5), r"expected a time constant above 1 step, got 0\.5"),
        (lambda: lif_node(v_reset=-0.1), r"expected a reset to 0\.0, or None .*, got -0\.1"),
        (lambda: if_node(v_reset=0.2), r"expected a reset to 0\.0, or None .*, got 0\.2"),
    ],
)
def test_settings_that_are_not_supported_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
