"""A trace's counts by layer, engine and time step equal counts made one operation at a time."""

import math

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch.nn.grad import conv2d_input, conv2d_weight

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_layer, run_synapse
from neuro_engine.kernels import native
from neuro_engine.neuron import LIF
from neuro_engine.precision import FP16, FP32
from neuro_engine.surrogate import triangle
from neuro_engine.synapse import ConvSynapse, ConvTransposeSynapse, LinearSynapse
from neuro_engine.trace import Engine, TensorClass, Trace

T, B = 3, 2


@st.composite
def layers(draw):
    """A synapse, the features of its input and the shape of its weights."""
    kind = draw(st.sampled_from(["linear", "conv", "transposed"]))
    groups = draw(st.sampled_from([1, 1, 2]))
    inputs, outputs = draw(st.integers(1, 5)) * groups, draw(st.integers(1, 5)) * groups
    if kind == "linear":
        return LinearSynapse(), (inputs,), (outputs, inputs)
    k, stride, padding = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 1))
    if kind == "conv":
        side = draw(st.integers(max(1, k - 2 * padding), 7))
        return ConvSynapse(stride, padding, groups), (inputs, side, side), (outputs, inputs // groups, k, k)
    padding = min(padding, (k - 1) // 2)
    side = draw(st.integers(1, 4))
    return ConvTransposeSynapse(stride, padding, 0, groups), (inputs, side, side), (inputs, outputs // groups, k, k)


def _mask(x):
    return (x != 0).double()


def _by_hand(synapse, x, grad, weight):
    """Operations of FP, BP and WG in one time step: masks in place of values, ones in place of weights."""
    x, grad, one = _mask(x), _mask(grad), torch.ones(weight.shape, dtype=torch.float64)
    if isinstance(synapse, LinearSynapse):
        return (x @ one.T).sum(), (grad @ one).sum(), (grad.T @ x).sum()
    shape = (synapse.stride, synapse.padding)
    if isinstance(synapse, ConvSynapse):
        return (
            F.conv2d(x, one, None, *shape, groups=synapse.groups).sum(),
            conv2d_input(x.shape, one, grad, *shape, groups=synapse.groups).sum(),
            conv2d_weight(x, one.shape, grad, *shape, groups=synapse.groups).sum(),
        )
    return (
        F.conv_transpose2d(x, one, None, *shape, groups=synapse.groups).sum(),
        F.conv2d(grad, one, None, *shape, groups=synapse.groups).sum(),
        conv2d_weight(grad, one.shape, x, *shape, groups=synapse.groups).sum(),
    )


@settings(max_examples=80, deadline=None)
@given(
    layers(),
    st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    st.booleans(),
    st.sampled_from([FP16, FP32]),
    st.integers(0, 2**31 - 1),
)
def test_synaptic_operations(layer, density, grad_density, graded, precision, seed):
    synapse, features, weight_shape = layer
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand((T, B, *features), generator=generator) < density).float()
    if graded:
        x = x * torch.randint(1, 4, x.shape, generator=generator)
    trace = Trace()
    spec = LayerSpec("layer", synapse, LIF(), triangle(), graded, trace, precision)
    weight = torch.randn(weight_shape, generator=generator).requires_grad_()
    x.requires_grad_()
    current = run_synapse(x, weight, None, spec)
    grad = torch.randint(1, 9, current.shape, generator=generator).float()
    grad = grad * (torch.rand(current.shape, generator=generator) < grad_density)
    current.backward(grad)
    by_step = [_by_hand(synapse, x[t].detach(), grad[t], weight) for t in range(T)]
    for n, engine in enumerate((Engine.FP, Engine.BP, Engine.WG)):
        counted = trace.count("layer", engine)
        assert counted.step_ops == tuple(int(step[n]) for step in by_step)
        assert counted.executed_ops == sum(counted.step_ops)
        assert counted.dense_ops >= counted.executed_ops
    assert trace.count("layer", Engine.BP).step_events == tuple(int(_mask(grad[t]).sum()) for t in range(T))
    source = TensorClass.INPUT if graded else TensorClass.SPIKES
    assert trace.count("layer", Engine.FP).reads[source].nonzeros == int(_mask(x).sum())
    shape = trace.geometry["layer"]
    assert shape.weights == weight.numel()
    assert shape.inputs * shape.steps * B == x.numel()
    assert shape.neurons * shape.steps * B == current.numel()
    assert all(
        shape.synapses * shape.steps * B == trace.count("layer", engine).dense_ops for engine in (Engine.FP, Engine.WG)
    )
    assert math.prod(shape.weight_gradient) * shape.groups == shape.synapses
    for product in (shape.forward, shape.backward):  # a pixel meets a whole number of taps only on average
        assert (
            shape.synapses <= math.prod(product) * shape.groups < shape.synapses + product.m * product.n * shape.groups
        )


@settings(max_examples=60, deadline=None)
@given(layers(), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from([FP16, FP32]), st.integers(0, 2**31 - 1))
@pytest.mark.parametrize("crossover", ["0", "1.1"], ids=["dense", "events"])
def test_spikes(crossover, layer, density, precision, seed):
    synapse, features, weight_shape = layer
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand((T, B, *features), generator=generator) < density).float()
    weight = torch.randn(weight_shape, generator=generator)
    trace = Trace()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEUROFED_CROSSOVER", crossover)
        traced = run_layer(x, weight, None, LayerSpec("layer", synapse, LIF(), triangle(), False, trace, precision))
        plain = run_layer(x, weight, None, LayerSpec("layer", synapse, LIF(), triangle(), False, None, precision))
    assert torch.equal(traced, plain), "counting changes nothing"
    counted = trace.count("layer", Engine.FP)
    assert counted.step_events == tuple(int(step.sum()) for step in traced.float())
    assert counted.neuron_updates == traced.numel()


@pytest.mark.skipif(native.library() is None, reason="no kernels for this machine and no compiler")
def test_a_constant_input_is_computed_and_counted_once():
    x = (torch.rand((2, 3, 6, 6), generator=torch.Generator().manual_seed(0)) < 0.3).float()
    weight = torch.randn((5, 3, 3, 3), generator=torch.Generator().manual_seed(1))
    traces, results = (Trace(), Trace()), []
    for trace, steps in zip(traces, (x.expand(4, *x.shape), x.repeat(4, 1, 1, 1, 1)), strict=True):
        leaf = weight.clone().requires_grad_()
        spikes = run_layer(steps, leaf, None, LayerSpec("layer", ConvSynapse(1, 1), LIF(), triangle(), trace=trace))
        spikes.cumsum(0).square().sum().backward()
        results.append((spikes.detach(), leaf.grad))
    once, each = (trace.count("layer", Engine.FP) for trace in traces)
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-5)
    assert 4 * once.executed_ops == each.executed_ops
    assert once.step_events == each.step_events
