"""The engines' gradients against the same equations written with plain autograd operations."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_layer
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import ConvSynapse, LinearSynapse

RESETS = ["hard", "soft", "none"]
SCALES = {"rectangle": 1.0, "triangle": 1.0, "sigmoid": 4.0, "atan": 2.0}
DYNAMICS = [(0.5, 1.0), (0.75, 0.25), (1.0, 1.0)]
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
        else:
            phi = scale / 2 / (1 + (math.pi / 2 * scale * x) ** 2)
        return grad * phi, None


def _reference(x, weight, bias, synapse, neuron, kind):
    """One layer, one time step after the other."""
    v, outputs = None, []
    for frame in x:
        if isinstance(synapse, ConvSynapse):
            current = F.conv2d(frame, weight, bias, synapse.stride, synapse.padding)
        else:
            current = frame @ weight.T + bias
        h = neuron.gain * current + (0.0 if v is None else neuron.leak * v)
        if kind is None:
            v = h
            outputs.append(h)
            continue
        s = _Spike.apply(h - neuron.threshold, kind)
        r = s.detach() if neuron.detach_reset else s
        v = {"hard": h * (1 - r), "soft": h - neuron.threshold * r, "none": h}[neuron.reset]
        outputs.append(s)
    return torch.stack(outputs)


def _engines(x, weight, bias, synapse, neuron, kind):
    surrogate = None if kind is None else Surrogate(kind, SCALES[kind])
    return run_layer(x, weight, bias, LayerSpec("layer", synapse, neuron, surrogate, analog_input=True))


def _tensors(seed, x_shape, *weight_shapes, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.rand(x_shape, generator=generator, dtype=torch.float64) * 2]
    for shape in weight_shapes:
        fan_in = math.prod(shape[1:])
        tensors.append(torch.randn(shape, generator=generator, dtype=torch.float64) * scale / math.sqrt(fan_in))
        tensors.append(torch.randn(shape[0], generator=generator, dtype=torch.float64) * 0.2 + 0.2)
    return [t.requires_grad_() for t in tensors]


def _compare(layers, tensors, neuron, kinds):
    """Worst relative error over all gradients; the spikes themselves must be the same."""
    outputs, gradients = [], []
    for run in (_engines, _reference):
        y, hidden = tensors[0], []
        for n, synapse in enumerate(layers):
            if isinstance(synapse, LinearSynapse):
                y = y.flatten(2)
            y = run(y, tensors[1 + 2 * n], tensors[2 + 2 * n], synapse, neuron, kinds[n])
            hidden.append(y)
        weights = torch.linspace(-1, 1.5, y.numel(), dtype=torch.float64).view_as(y)
        gradients.append(torch.autograd.grad((y * weights).sum() + (y.mean(0) ** 2).sum(), tensors))
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
    assert cases == 72
    assert worst <= LIMIT, f"worst relative error of {cases} cases: {worst:.3g}"


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 0), (2, 1)])
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "attached"])
@pytest.mark.parametrize("reset", RESETS)
def test_convolution_gradients_are_those_of_autograd(reset, detach, stride, padding):
    side, worst = (6 + 2 * padding - 3) // stride + 1, 0.0
    for kind, (leak, gain) in zip(SCALES, [*DYNAMICS, (0.5, 1.0)], strict=True):
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
