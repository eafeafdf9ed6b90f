"""Every native kernel against its plain torch reference, on random shapes, densities and strides."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from neuro_engine.kernels import native, reference
from neuro_engine.kernels.native import Geometry
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

pytestmark = pytest.mark.skipif(native.library() is None, reason="no kernels for this machine and no compiler")

DENSITIES = [0.0, 0.01, 0.1, 0.5, 1.0]
SETTINGS = settings(max_examples=60, deadline=None)
densities = st.sampled_from(DENSITIES)
dtypes = st.sampled_from([torch.float32, torch.float16])
channels = st.sampled_from([1, 3, 15, 16, 17, 48, 64, 65, 130])
seeds = st.integers(0, 2**31 - 1)


def _values(generator, shape, density, dtype, *, graded):
    mask = (torch.rand(shape, generator=generator) < density).to(torch.float32)
    values = mask * torch.randn(shape, generator=generator) if graded else mask
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return values.to(dtype).contiguous(memory_format=layout)


def _close(result, wanted, terms, magnitude=None):
    """Equal but for the order of a sum of `terms` products and the last rounding.

    The bound of a sum's error is terms x unit x the sum of the absolute products, which is `magnitude`.
    """
    assert result.shape == wanted.shape
    assert result.dtype == wanted.dtype
    if not wanted.numel():
        return
    magnitude = wanted.abs().max() * torch.ones(()) if magnitude is None else magnitude
    limit = (terms + 2) * 2.0**-24 * magnitude.double() + torch.finfo(result.dtype).eps * wanted.double().abs()
    smallest = torch.finfo(result.dtype).smallest_normal * torch.finfo(result.dtype).eps
    assert ((result.double() - wanted.double()).abs() <= limit + smallest).all()


@st.composite
def convolutions(draw):
    k, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, k - 1))
    h, w = draw(st.integers(max(1, k - 2 * padding), 9)), draw(st.integers(max(1, k - 2 * padding), 9))
    n, c, o = draw(st.integers(1, 3)), draw(channels), draw(channels)
    oh, ow = (h + 2 * padding - k) // stride + 1, (w + 2 * padding - k) // stride + 1
    return Geometry(n, h, w, c, oh, ow, o, k, k, stride, padding, 0)


def _swapped(g):
    return Geometry(g.n, g.oh, g.ow, g.oc, g.h, g.w, g.c, g.kh, g.kw, g.stride, g.padding, 1 - g.transposed)


@SETTINGS
@given(convolutions(), densities, dtypes, dtypes, st.booleans(), st.booleans(), st.booleans(), seeds)
def test_gather_is_the_convolution_and_its_transpose(g, density, dtype, out_dtype, graded, back, with_bias, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((g.oc, g.c, g.kh, g.kw), generator=generator) / math.sqrt(g.c * g.kh * g.kw)
    geometry = _swapped(g) if back else g
    x = _values(generator, (geometry.n, geometry.c, geometry.h, geometry.w), density, dtype, graded=graded)
    bias = torch.randn(geometry.oc, generator=generator) if with_bias else None
    shape = (geometry.n, geometry.oc, geometry.oh, geometry.ow)
    wanted = reference.gather(x, weight, bias, geometry, shape, out_dtype, transposed=back)
    sizes = (x.abs(), weight.abs(), None if bias is None else bias.abs())
    most = reference.gather(*sizes, geometry, shape, torch.float64, transposed=back)
    terms = geometry.c * g.kh * g.kw + 1
    found = native.gather(x, weight, bias, geometry, shape, out_dtype, transposed=back)
    _close(found, wanted, terms, most)
    spikes, _ = native.pack(x)
    if spikes is not None:
        packed = native.gather(spikes, weight, bias, geometry, shape, out_dtype, transposed=back)
        _close(packed, wanted, terms, most)


@SETTINGS
@given(convolutions(), densities, densities, dtypes, dtypes, st.booleans(), st.booleans(), seeds)
def test_scatter_is_the_gradient_of_the_weights(g, density, grad_density, dtype, grad_dtype, graded, back, seed):
    generator = torch.Generator().manual_seed(seed)
    geometry = _swapped(g) if back else g
    x = _values(generator, (geometry.n, geometry.c, geometry.h, geometry.w), density, dtype, graded=graded)
    grad = _values(
        generator, (geometry.n, geometry.oc, geometry.oh, geometry.ow), grad_density, grad_dtype, graded=True
    )
    shape = (geometry.oc, geometry.c, geometry.kh, geometry.kw)
    wanted = reference.scatter(x, grad, geometry, shape)
    most = reference.scatter(x.abs(), grad.abs(), geometry, shape)
    terms = geometry.n * geometry.oh * geometry.ow
    _close(native.scatter(x, grad, geometry, shape), wanted, terms, most)
    spikes, _ = native.pack(x)
    if spikes is not None:
        _close(native.scatter(spikes, grad, geometry, shape), wanted, terms, most)


@SETTINGS
@given(convolutions(), st.booleans(), seeds)
def test_weights_of_binary16_are_those_numbers(g, back, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((g.oc, g.c, g.kh, g.kw), generator=generator).half()
    geometry = _swapped(g) if back else g
    x = _values(generator, (geometry.n, geometry.c, geometry.h, geometry.w), 0.3, torch.float16, graded=True)
    shape = (geometry.n, geometry.oc, geometry.oh, geometry.ow)
    found, wanted = (
        native.gather(x, w, None, geometry, shape, torch.float32, transposed=back) for w in (weight, weight.float())
    )
    assert torch.equal(found, wanted)


@SETTINGS
@given(st.integers(1, 40), st.integers(1, 300), st.sampled_from([1e-3, 1.0, 300.0]), seeds)
def test_standardised_rows_and_their_gradients_are_those_of_the_reference(outputs, fan_in, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    rows, grad = (torch.randn((outputs, fan_in), generator=generator) for _ in range(2))
    rows, gain = (rows + 0.5) * spread, torch.randn(outputs, generator=generator)
    found = native.standardise(rows, gain, 1e-5)
    wanted = reference.standardise(rows.double(), gain.double(), 1e-5)
    torch.testing.assert_close(found, tuple(x.float() for x in wanted), rtol=2e-5, atol=2e-5)
    found = native.standardise_backward(grad, rows, gain, found[1], found[2])
    wanted = reference.standardise_backward(grad.double(), rows.double(), gain.double(), *wanted[1:])
    scale = float(wanted[0].abs().max().clamp(min=1.0))  # a gradient is as large as one over the rows' spread
    torch.testing.assert_close(found, tuple(x.float() for x in wanted), rtol=1e-3, atol=1e-3 * scale)


@SETTINGS
@given(st.integers(0, 5000), st.sampled_from([1e-9, 1e-4, 1.0, 7e4]), seeds)
def test_rounding_of_weights_is_torchs(count, spread, seed):
    x = torch.randn(count, generator=torch.Generator().manual_seed(seed)) * spread
    (found, finite), (wanted, is_finite) = native.to_half(x), reference.to_half(x)
    assert torch.equal(found, wanted)
    assert finite == is_finite


@SETTINGS
@given(st.integers(1, 70), channels, channels, densities, dtypes, seeds)
def test_linear_is_a_convolution_of_one_pixel(n, c, o, density, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    g = Geometry(n, 1, 1, c, 1, 1, o, 1, 1, 1, 0, 0)
    x = _values(generator, (n, c), density, dtype, graded=False)
    weight, grad = torch.randn((o, c), generator=generator), torch.randn((n, o), generator=generator)
    current, sums = (x.double() @ weight.double().T).float(), (grad.double().T @ x.double()).float()
    _close(native.gather(x, weight, None, g, (n, o), torch.float32), current, c, x.double() @ weight.abs().double().T)
    _close(native.scatter(x, grad, g, (o, c)), sums, n, grad.abs().double().T @ x.double())


@SETTINGS
@given(convolutions(), densities, dtypes, st.booleans(), seeds)
def test_bits_and_counts_are_those_of_the_spikes(g, density, dtype, back, seed):
    generator = torch.Generator().manual_seed(seed)
    geometry = _swapped(g) if back else g
    x = _values(generator, (geometry.n, geometry.c, geometry.h, geometry.w), density, dtype, graded=False)
    spikes, _ = native.pack(x)
    assert torch.equal(native.unpack(spikes, dtype), x)
    assert torch.equal(spikes.counts, reference.count_nonzeros(x))
    assert spikes.density == pytest.approx(x.float().mean().item(), abs=1e-6)
    grad_counts = torch.randint(0, 65, (geometry.n, geometry.oh, geometry.ow), generator=generator, dtype=torch.int32)
    counted = native.count_pairs(geometry, spikes.counts, grad_counts)
    assert torch.equal(counted, reference.count_pairs(geometry, spikes.counts, grad_counts))


@given(st.sampled_from([0.5, -1.0, 2.0, math.inf]), st.integers(0, 199), dtypes)
def test_values_other_than_spikes_are_not_packed(value, where, dtype):
    x = torch.zeros(20, 10, dtype=dtype)
    x.view(-1)[where] = value
    spikes, counts = native.pack(x)
    assert spikes is None
    assert torch.equal(counts, reference.count_nonzeros(x))


neurons = st.builds(
    LIF,
    st.sampled_from([0.0, 0.5, 0.875, 1.0]),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from([0.75, 1.0]),
    st.sampled_from(["hard", "soft", "none"]),
    st.booleans(),
)
surrogates = st.builds(
    Surrogate,
    st.sampled_from(["rectangle", "triangle", "atan", "fast_sigmoid"]),
    st.sampled_from([0.5, 1.0, 2.0]),
)


@SETTINGS
@given(neurons, surrogates, st.integers(1, 5), st.integers(1, 3), channels, st.booleans(), dtypes, seeds)
def test_neurons_are_those_of_the_reference(neuron, surrogate, steps, batch, c, constant, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    images = batch if constant else steps * batch
    # Multiples of 1/16 are exact in both types: no membrane lies within rounding of the threshold.
    current = torch.randint(-24, 41, (images, c, 3, 2), generator=generator).float() / 16
    spikes, membrane, fired = native.neuron_forward(current, steps, neuron, surrogate, dtype, constant=constant)
    wanted = reference.neuron_forward(current, steps, neuron, surrogate, dtype, constant=constant)
    assert torch.equal(spikes, wanted[0])
    assert torch.equal(membrane, wanted[1])
    assert torch.equal(fired, wanted[2])
    grad = torch.randn(spikes.shape, generator=generator).to(dtype)
    result, sums, counts = native.neuron_backward(grad, membrane, steps, neuron, surrogate, constant=constant)
    wanted_result, wanted_sums, _ = reference.neuron_backward(
        grad, membrane, steps, neuron, surrogate, constant=constant
    )
    _close(result, wanted_result, steps**2)
    assert torch.equal(counts, reference.count_nonzeros(result))
    assert torch.allclose(sums[0].float(), result.float().sum((0, 2, 3)), atol=1e-4, rtol=1e-4)
    assert torch.allclose(sums[0].float(), wanted_sums, atol=0.1, rtol=1e-2)
    assert not sums[1].any()


@SETTINGS
@given(st.integers(1, 3), channels, st.integers(2, 9), st.integers(2, 9), st.integers(1, 3), densities, dtypes, seeds)
def test_pooling_is_torchs(n, c, h, w, k, density, dtype, seed):
    if h < k or w < k:
        return
    generator = torch.Generator().manual_seed(seed)
    x = _values(generator, (n, c, h, w), density, dtype, graded=seed % 2 == 0)
    pooled, winner = native.pool_forward(x, k)
    assert torch.equal(pooled, reference.pool_forward(x, k))
    grad = torch.randn(pooled.shape, generator=generator).to(dtype)
    assert torch.equal(native.pool_backward(grad, winner, x.shape, k), reference.pool_backward(grad, x, k))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    before = torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    x = _values(generator, (8, 40, 12, 12), 0.2, torch.float16, graded=False)
    grad = _values(generator, (8, 70, 12, 12), 0.3, torch.float16, graded=True)
    g = Geometry(8, 12, 12, 40, 12, 12, 70, 3, 3, 1, 1, 0)
    weight = torch.randn((70, 40, 3, 3), generator=generator)

    def results():
        current = native.gather(x, weight, None, g, (8, 70, 12, 12), torch.float32)
        spikes, membrane, _ = native.neuron_forward(current, 2, LIF(), Surrogate("triangle", 1.0), torch.float16)
        back = native.neuron_backward(grad, membrane, 2, LIF(), Surrogate("triangle", 1.0))
        rows, mean, inverse = native.standardise(weight.flatten(1), weight[:, 0, 0, 0], 1e-5)
        rows_back = native.standardise_backward(rows, weight.flatten(1), weight[:, 0, 0, 0], mean, inverse)
        return [native.scatter(x, grad, g, weight.shape), current, spikes, *back, rows, *rows_back]

    try:
        torch.set_num_threads(1)
        wanted = results()
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(results(), wanted, strict=True))
    finally:
        torch.set_num_threads(before)


@SETTINGS
@given(convolutions(), neurons, surrogates, st.integers(1, 4), densities, dtypes, st.booleans(), seeds)
def test_a_whole_layer_is_its_two_halves(g, neuron, surrogate, steps, density, dtype, back, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn((g.oc, g.c, g.kh, g.kw), generator=generator)
    geometry = _swapped(g) if back else g
    geometry.n *= steps
    x = _values(generator, (geometry.n, geometry.c, geometry.h, geometry.w), density, dtype, graded=False)
    bias = torch.randn(geometry.oc, generator=generator)
    shape = (geometry.n, geometry.oc, geometry.oh, geometry.ow)
    current = native.gather(x, weight, bias, geometry, shape, torch.float32, transposed=back)
    wanted = native.neuron_forward(current, steps, neuron, surrogate, dtype)
    found = native.layer_forward(x, weight, bias, geometry, shape, steps, neuron, surrogate, dtype, transposed=back)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@SETTINGS
@given(neurons, surrogates, st.integers(1, 4), channels, st.booleans(), dtypes, seeds)
def test_a_normalised_current_is_that_current(neuron, surrogate, steps, c, constant, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    current = (torch.randint(-24, 41, ((1 if constant else steps) * 2, c, 3, 2), generator=generator) / 16).to(dtype)
    scale, shift = (
        torch.randint(1, 5, (c,), generator=generator) / 2,
        torch.randint(-4, 5, (c,), generator=generator) / 8,
    )
    normal = current.float() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    wanted = native.neuron_forward(normal, steps, neuron, surrogate, dtype, constant=constant)
    found = native.neuron_forward(current, steps, neuron, surrogate, dtype, constant=constant, scale=scale, shift=shift)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    sums = native.channel_sums(current)
    assert torch.allclose(sums[0], current.double().sum((0, 2, 3)), rtol=1e-5, atol=1e-4)
    assert torch.allclose(sums[1], current.double().square().sum((0, 2, 3)), rtol=1e-5, atol=1e-4)
    grad = torch.randn(found[1].shape, generator=generator).to(dtype)
    folded, sums, _ = native.neuron_backward(
        grad, found[1], steps, neuron, surrogate, constant=constant, current=current
    )
    products = (folded.double() * current.double()).sum((0, 2, 3))
    assert torch.allclose(sums[1], products, rtol=1e-4, atol=1e-3)
    a, b, d = (torch.randn(c, generator=generator) for _ in range(3))
    wanted_grad = (folded.float() * a.view(-1, 1, 1) + current.float() * b.view(-1, 1, 1) + d.view(-1, 1, 1)).to(dtype)
    counts = native.norm_backward_(folded, current, a, b, d)
    _close(folded, wanted_grad, 2)
    assert torch.equal(counts, reference.count_nonzeros(folded))
