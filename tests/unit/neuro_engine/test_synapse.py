"""Operation counts against loops that count one by one, and the dense maps against autograd."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from neuro_engine.synapse import ConvSynapse, ConvTransposeSynapse, LinearSynapse, count_nonzeros

SETTINGS = settings(max_examples=60, deadline=None)


def _sparse(shape, density, generator):
    mask = torch.rand(shape, generator=generator, dtype=torch.float64) < density
    return torch.randn(shape, generator=generator, dtype=torch.float64) * mask


@st.composite
def cases(draw):
    """A convolution or its transpose, with input, gradient and shape of the weights."""
    stride, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    k = torch.Size((draw(st.integers(1, 3)), draw(st.integers(1, 3))))
    padding = draw(st.integers(0, min(k)))
    a, b = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    smallest = [max(1, side - 2 * padding) for side in k]
    if draw(st.booleans()):
        synapse = ConvSynapse(stride, padding, groups)
        weight_shape, channels = torch.Size((a * groups, b, *k)), b * groups
        sides = [draw(st.integers(least, 6)) for least in smallest]
    else:
        synapse = ConvTransposeSynapse(stride, padding, draw(st.integers(0, stride - 1)), groups)
        weight_shape, channels = torch.Size((a * groups, b, *k)), a * groups
        # At least one row and column of output: (side - 1) stride + k + output_padding > 2 padding.
        sides = [draw(st.integers(1 + -(-max(0, 2 * padding - side + 1) // stride), 6)) for side in k]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31 - 1)))
    density = draw(st.sampled_from([0.0, 0.3, 1.0]))
    x = _sparse((draw(st.integers(1, 2)), channels, *sides), density, generator)
    grad = _sparse(synapse.output_shape(x.shape, weight_shape), 0.4, generator)
    return synapse, x, grad, weight_shape


def _triples(synapse, x, grad, weight_shape):
    """(sample, input channel, row, column, output channel, row, column or None) of each operation."""
    transposed = isinstance(synapse, ConvTransposeSynapse)
    small, wide = (x, grad) if transposed else (grad, x)
    groups, (_, per_group, kh, kw) = synapse.groups, weight_shape
    for n, g, r, c in itertools.product(range(len(x)), range(groups), range(small.shape[2]), range(small.shape[3])):
        for s, w, dr, dc in itertools.product(range(small.shape[1] // groups), range(per_group), range(kh), range(kw)):
            row, column = r * synapse.stride + dr - synapse.padding, c * synapse.stride + dc - synapse.padding
            inside = 0 <= row < wide.shape[2] and 0 <= column < wide.shape[3]
            here = (n, g * (small.shape[1] // groups) + s, r, c)
            there = (n, g * per_group + w, row, column) if inside else None
            yield (here, there) if transposed else (there, here)


def _loops(synapse, x, grad, weight_shape):
    """(dense, FP, BP, WG) operations by sample, one by one; dense as a whole."""
    dense, counts = 0, torch.zeros(3, len(x), dtype=torch.int64)
    for source, target in _triples(synapse, x, grad, weight_shape):
        dense += 1
        if source is None or target is None:
            continue
        fires, errs = bool(x[source] != 0), bool(grad[target] != 0)
        counts[:, source[0]] += torch.tensor([fires, errs, fires and errs])
    return dense, counts


@SETTINGS
@given(cases())
def test_convolution_operations_are_those_of_a_loop(case):
    synapse, x, grad, weight_shape = case
    x_counts, grad_counts = count_nonzeros(x, synapse.groups), count_nonzeros(grad, synapse.groups)
    dense, (forwards, backwards, weights) = _loops(synapse, x, grad, weight_shape)
    assert synapse.dense_ops(x.shape, weight_shape) == dense
    assert torch.equal(synapse.forward_ops(x_counts, weight_shape), forwards)
    assert torch.equal(synapse.backward_ops(grad_counts, x.shape, weight_shape), backwards)
    assert torch.equal(synapse.weight_ops(grad_counts, x_counts, weight_shape), weights)


@SETTINGS
@given(cases())
def test_the_maps_are_those_of_torch(case):
    synapse, x, grad, weight_shape = case
    x = x.requires_grad_()
    weight = torch.randn(weight_shape, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(grad.shape[1], dtype=torch.float64, requires_grad=True)
    if isinstance(synapse, ConvSynapse):
        wanted = F.conv2d(x, weight, bias, synapse.stride, synapse.padding, groups=synapse.groups)
    else:
        wanted = F.conv_transpose2d(
            x, weight, bias, synapse.stride, synapse.padding, synapse.output_padding, synapse.groups
        )
    assert synapse.output_shape(x.shape, weight_shape) == wanted.shape
    gradients = torch.autograd.grad(wanted, [x, weight, bias], grad)
    assert torch.allclose(synapse.current(x, weight, bias), wanted)
    assert torch.allclose(synapse.input_gradient(grad, weight, x.shape), gradients[0])
    assert torch.allclose(synapse.weight_gradient(grad, x, weight_shape), gradients[1])
    assert torch.allclose(synapse.bias_gradient(grad), gradients[2])


@SETTINGS
@given(cases())
def test_rows_of_weights_are_the_fan_in_of_an_output(case):
    synapse, x, _, weight_shape = case
    weight = torch.randn(weight_shape, dtype=torch.float64)
    rows = synapse.by_output(weight)
    assert torch.equal(synapse.from_rows(rows, weight_shape), weight)
    for channel, row in enumerate(rows):
        # Only the weights of this row change the current of this channel.
        alone = torch.zeros_like(rows)
        alone[channel] = row
        current = synapse.current(x.detach(), synapse.from_rows(alone, weight_shape), None)
        wanted = torch.zeros_like(current)
        wanted[:, channel] = synapse.current(x.detach(), weight, None)[:, channel]
        assert torch.allclose(current, wanted)


@SETTINGS
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(0, 999))
def test_linear_operations_are_those_of_a_loop(n, inputs, outputs, seed):
    generator = torch.Generator().manual_seed(seed)
    synapse, weight_shape = LinearSynapse(), torch.Size((outputs, inputs))
    x, grad = _sparse((n, inputs), 0.4, generator), _sparse((n, outputs), 0.5, generator)
    counts = torch.zeros(3, n, dtype=torch.int64)
    for i, o, c in itertools.product(range(n), range(outputs), range(inputs)):
        fires, errs = bool(x[i, c] != 0), bool(grad[i, o] != 0)
        counts[:, i] += torch.tensor([fires, errs, fires and errs])
    x_counts, grad_counts = count_nonzeros(x), count_nonzeros(grad)
    assert synapse.dense_ops(x.shape, weight_shape) == n * inputs * outputs
    assert torch.equal(synapse.forward_ops(x_counts, weight_shape), counts[0])
    assert torch.equal(synapse.backward_ops(grad_counts, x.shape, weight_shape), counts[1])
    assert torch.equal(synapse.weight_ops(grad_counts, x_counts, weight_shape), counts[2])


def test_nonzeros_are_counted_by_group_and_position():
    x = torch.tensor([[[[1.0, 0.0]], [[2.0, 0.0]], [[0.0, 0.0]], [[0.0, -1.0]]]], dtype=torch.float16)
    assert count_nonzeros(x).tolist() == [[[[2, 1]]]]
    assert count_nonzeros(x, 2).tolist() == [[[[2, 0]], [[0, 1]]]]
    assert count_nonzeros(x, 4).tolist() == [[[[1, 0]], [[1, 0]], [[0, 0]], [[0, 1]]]]
    assert count_nonzeros(x.to(memory_format=torch.channels_last), 2).tolist() == [[[[2, 0]], [[0, 1]]]]
    assert count_nonzeros(torch.tensor([[0.0, 3.0, 1.0]])).tolist() == [[2]]
    assert count_nonzeros(x).dtype == torch.int32


@pytest.mark.parametrize("more", [1, 3])
def test_counts_are_exact_where_32_bit_floats_would_round(more):
    many = 2**24 + more
    counts = torch.tensor([[many]], dtype=torch.int32)
    shape = torch.Size((many, many))
    assert LinearSynapse().forward_ops(counts, shape).tolist() == [many * many]
    assert LinearSynapse().weight_ops(counts, counts, shape).tolist() == [many * many]
    maps = torch.full((1, 1, 2, 2), many, dtype=torch.int32)
    kernel = torch.Size((1, many, 1, 1))
    assert ConvSynapse().forward_ops(maps, kernel).tolist() == [4 * many]
    assert ConvSynapse().weight_ops(torch.full((1, 1, 2, 2), 5, dtype=torch.int32), maps, kernel).tolist() == [
        20 * many
    ]
