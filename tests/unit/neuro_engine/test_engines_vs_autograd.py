"""The engines' gradients against the same equations written with plain autograd operations."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_layer, run_neuron
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import ConvSynapse, LinearSynapse

RESETS = ["hard", "soft", "none"]
SCALES = {"rectangle": 1.0, "triangle": 1.0, "sigmoid": 4.0, "atan": 2.0, "fast_sigmoid": 5.0}
DYNAMICS = [(0.5, 1.0), (0.75, 0.25), (1.0, 1.0)]
NEURONS = {
    "lif": LIF(0.75),
    "if": LIF(1.0),
    "memoryless": LIF(0.0),
    "drop": LIF(0.75, reset_by=0.6),
    "current-based": LIF(0.75, 0.5, synapse_leak=0.6),
    "alif": LIF(0.75, adaptation=0.3, adaptation_leak=0.8),
    "current-based alif": LIF(0.75, 0.5, synapse_leak=0.6, adaptation=0.3),
    "plif": LIF(0.75, learn_leak=True),
    "plif with decaying input": LIF(0.6, 2.0, learn_leak=True, decay_input=True),
    "current-based adaptive plif": LIF(
        0.6, 1.5, synapse_leak=0.4, adaptation=0.2, learn_leak=True, decay_input=True, reset_by=0.7
    ),
}
THRESHOLD = 0.9
LIMIT = 1e-10


class _Spike(torch.autograd.Function):
    """Step forward, surrogate backward."""

    @staticmethod
    def forward(ctx, x, kind):
        ctx.save_for_backward(x)
        ctx.kind = kind
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        scale = SCALES[ctx.kind]
        if ctx.kind == "rectangle":
            phi = torch.where(x.abs() < 1 / (2 * scale), scale, 0.0)
        elif ctx.kind == "triangle":
            phi = torch.where(x.abs() < scale, (scale - x.abs()) / scale**2, 0.0)
        elif ctx.kind == "sigmoid":
            phi = scale / (2 + torch.exp(scale * x) + torch.exp(-scale * x))
        elif ctx.kind == "fast_sigmoid":
            phi = 1 / (1 + scale * x.abs()) ** 2
        else:
            phi = scale / 2 / (1 + (math.pi / 2 * scale * x) ** 2)
        return grad * phi, None


def _dynamics(currents, neuron, kind, leak):
    """The neuron, one time step after the other; `kind` None never fires."""
    leak = neuron.leak if leak is None else leak
    gain = neuron.gain * (1 - leak) if neuron.decay_input else neuron.gain
    drop = neuron.threshold if neuron.reset_by is None else neuron.reset_by
    i = v = a = torch.zeros_like(currents[0])
    outputs = []
    for current in currents:
        i = neuron.synapse_leak * i + current
        h = leak * v + gain * i
        if kind is None:
            v = h
            outputs.append(h)
            continue
        s = _Spike.apply(h - neuron.threshold - neuron.adaptation * a, kind)
        r = s.detach() if neuron.detach_reset else s
        v = {"hard": h * (1 - r), "soft": h - drop * r, "none": h}[neuron.reset]
        a = neuron.adaptation_leak * a + r
        outputs.append(s)
    return torch.stack(outputs)


def _reference(x, weight, bias, synapse, neuron, kind, leak=None):
    """One layer."""
    if isinstance(synapse, ConvSynapse):
        currents = [F.conv2d(frame, weight, bias, synapse.stride, synapse.padding) for frame in x]
    else:
        currents = [frame @ weight.T + bias for frame in x]
    return _dynamics(currents, neuron, kind, leak)


def _engines(x, weight, bias, synapse, neuron, kind, leak=None):
    surrogate = None if kind is None else Surrogate(kind, SCALES[kind])
    return run_layer(x, weight, bias, LayerSpec("layer", synapse, neuron, surrogate, analog_input=True), leak)


def _tensors(seed, x_shape, *weight_shapes, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.rand(x_shape, generator=generator, dtype=torch.float64) * 2]
    for shape in weight_shapes:
        fan_in = math.prod(shape[1:])
        tensors.append(torch.randn(shape, generator=generator, dtype=torch.float64) * scale / math.sqrt(fan_in))
        tensors.append(torch.randn(shape[0], generator=generator, dtype=torch.float64) * 0.2 + 0.2)
    return [t.requires_grad_() for t in tensors]


def _compare(layers, tensors, neuron, kinds, leak=None):
    """Worst relative error over all gradients, the leak's too; the spikes themselves must be the same."""
    outputs, gradients = [], []
    leaves = tensors if leak is None else [*tensors, leak]
    for run in (_engines, _reference):
        y, hidden = tensors[0], []
        for n, synapse in enumerate(layers):
            if isinstance(synapse, LinearSynapse):
                y = y.flatten(2)
            y = run(y, tensors[1 + 2 * n], tensors[2 + 2 * n], synapse, neuron, kinds[n], leak)
            hidden.append(y)
        weights = torch.linspace(-1, 1.5, y.numel(), dtype=torch.float64).view_as(y)
        gradients.append(torch.autograd.grad((y * weights).sum() + (y.mean(0) ** 2).sum(), leaves))
        outputs.append(hidden)
    for n, kind in enumerate(kinds):
        if kind is not None:
            assert torch.equal(outputs[0][n], outputs[1][n])
            assert 0 < outputs[0][n].mean() < 1, "a silent or saturated layer shows nothing"
    assert all(g.abs().max() > 0 for g in gradients[1])
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("dynamics", DYNAMICS, ids=str)
@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", RESETS)
def test_linear_gradients_are_those_of_autograd(reset, detach, kind, dynamics):
    leak, gain = dynamics
    neuron = LIF(leak, gain, THRESHOLD, reset, detach)
    tensors = _tensors(7, (6, 4, 10), (9, 10), (5, 9))
    worst = _compare([LinearSynapse(), LinearSynapse()], tensors, neuron, [kind, kind])
    assert worst <= LIMIT, f"worst relative error {worst:.3g}"


def test_all_cases_are_covered_and_the_worst_error_is_small():
    worst, cases = 0.0, 0
    for reset, detach, kind, (leak, gain) in product(RESETS, [True, False], SCALES, DYNAMICS):
        tensors = _tensors(cases, (5, 3, 8), (7, 8), (4, 7))
        neuron = LIF(leak, gain, THRESHOLD, reset, detach)
        # A readout on top, so that silence of the upper layer cannot hide the lower one.
        worst = max(worst, _compare([LinearSynapse(), LinearSynapse()], tensors, neuron, [kind, None]))
        cases += 1
    assert cases == 90
    assert worst <= LIMIT, f"worst relative error of {cases} cases: {worst:.3g}"


def _leak(neuron, *shape):
    """A learned leak, or None where the neuron does not learn it."""
    if not neuron.learn_leak:
        return None
    return torch.full(shape, neuron.leak, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("name", NEURONS)
def test_gradients_of_every_kind_of_neuron_are_those_of_autograd(name):
    worst, cases = 0.0, 0
    for reset, detach, kind in product(RESETS, [True, False], SCALES):
        neuron = replace(NEURONS[name], threshold=THRESHOLD, reset=reset, detach_reset=detach)
        tensors = _tensors(cases, (6, 3, 8), (7, 8), (4, 7))
        worst = max(worst, _compare([LinearSynapse()] * 2, tensors, neuron, [kind, None], _leak(neuron)))
        cases += 1
    assert cases == 30
    assert worst <= LIMIT, f"worst relative error of {cases} cases: {worst:.3g}"


@pytest.mark.parametrize("name", [n for n in NEURONS if NEURONS[n].learn_leak])
@pytest.mark.parametrize("shape", [(1,), (3, 1, 1), (3, 4, 4)], ids=str)
def test_leaks_learned_by_channel_or_neuron_have_the_gradient_of_autograd(name, shape):
    neuron = replace(NEURONS[name], threshold=THRESHOLD, reset="soft", detach_reset=False)
    tensors = _tensors(3, (4, 4, 2, 6, 6), (3, 2, 3, 3), scale=4)
    worst = _compare([ConvSynapse()], tensors, neuron, ["triangle"], _leak(neuron, *shape))
    assert worst <= LIMIT, f"worst relative error {worst:.3g}"


@pytest.mark.parametrize("name", NEURONS)
def test_a_neuron_alone_is_the_neuron_of_a_layer(name):
    neuron, leak = replace(NEURONS[name], threshold=THRESHOLD), _leak(NEURONS[name])
    (current,) = _tensors(11, (6, 4, 10))
    spec = LayerSpec("layer", LinearSynapse(), neuron, Surrogate("triangle", 1.0))
    leaves = [current] if leak is None else [current, leak]
    spikes, wanted = run_neuron(current, spec, leak), _dynamics(current, neuron, "triangle", leak)
    assert torch.equal(spikes, wanted)
    weights = torch.linspace(-1, 1.5, spikes.numel(), dtype=torch.float64).view_as(spikes)
    gradients = (torch.autograd.grad((y * weights).sum(), leaves) for y in (spikes, wanted))
    for a, b in zip(*gradients, strict=True):
        assert (a - b).abs().max() / b.abs().max() <= LIMIT


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 1)])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", RESETS)
def test_convolution_gradients_are_those_of_autograd(reset, detach, stride, padding):
    side, worst = (6 + 2 * padding - 3) // stride + 1, 0.0
    for kind, (leak, gain) in zip(SCALES, [*DYNAMICS, *DYNAMICS[:2]], strict=True):
        tensors = _tensors(3, (4, 4, 2, 6, 6), (3, 2, 3, 3), (8, 3 * side * side), scale=4 / gain)
        neuron = LIF(leak, gain, THRESHOLD, reset, detach)
        worst = max(
            worst, _compare([ConvSynapse(stride, padding), LinearSynapse()], tensors, neuron, [kind, "sigmoid"])
        )
    assert worst <= LIMIT, f"worst relative error {worst:.3g}"


def test_two_convolutions_pass_the_gradient_through():
    tensors = _tensors(5, (4, 2, 2, 7, 7), (3, 2, 3, 3), (4, 3, 3, 3))
    worst = _compare([ConvSynapse(2, 1), ConvSynapse(1, 1)], tensors, LIF(0.5, 1.0, THRESHOLD), ["triangle"] * 2)
    assert worst <= LIMIT, f"worst relative error {worst:.3g}"


def test_a_layer_without_bias_has_the_same_weight_gradient():
    x, weight, _ = _tensors(9, (4, 3, 6), (5, 6))
    spec = LayerSpec("layer", LinearSynapse(), LIF(), Surrogate("triangle", 1.0), analog_input=True)
    zero = torch.zeros(5, dtype=torch.float64)
    without = torch.autograd.grad(run_layer(x, weight, None, spec).sum(), [x, weight])
    with_zero = torch.autograd.grad(run_layer(x, weight, zero, spec).sum(), [x, weight])
    assert all(torch.equal(a, b) for a, b in zip(without, with_zero, strict=True))
