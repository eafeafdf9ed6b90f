"""Bad input to the kernels' Python entries is a ValueError that says what was wanted; the interpreter never crashes."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from neuro_engine.kernels import native
from neuro_engine.kernels.native import Geometry
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

pytestmark = pytest.mark.skipif(native.library() is None, reason="no kernels for this machine and no compiler")
SETTINGS = settings(max_examples=150, deadline=None)
NEURON, SURROGATE = LIF(), Surrogate("triangle", 1.0)


@st.composite
def tensors(draw):
    """Any tensor: odd sizes, zero sizes, strides, types, all zeros, all ones, NaN."""
    shape = draw(st.lists(st.integers(0, 5), min_size=0, max_size=5))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.float64, torch.int32, torch.uint8]))
    fill = draw(st.sampled_from(["zeros", "ones", "random", "nan"]))
    x = torch.ones(shape) if fill == "ones" else torch.zeros(shape)
    if fill == "random":
        x = torch.rand(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    if fill == "nan" and dtype.is_floating_point:
        x = torch.full(shape, float("nan"))
    x = x.to(dtype)
    if draw(st.booleans()) and x.dim() > 1:
        x = x.transpose(0, x.dim() - 1)
    if draw(st.booleans()) and x.dim() > 0:
        x = x[:: draw(st.integers(1, 3))]
    return x


sizes = st.integers(0, 4)
geometries = st.builds(
    Geometry, sizes, sizes, sizes, sizes, sizes, sizes, sizes, sizes, sizes, st.integers(1, 2), sizes, st.integers(0, 1)
)


def _answers(call, *arguments, **keywords):
    """The call's result, or None where it refused as it should."""
    refusal = result = None
    try:
        result = call(*arguments, **keywords)
    except ValueError as error:
        refusal = str(error)
    assert refusal is None or ("expected" in refusal and "got" in refusal), refusal
    return result


@SETTINGS
@given(tensors())
def test_pack(x):
    spikes, _ = _answers(native.pack, x) or (None, None)
    if spikes is not None:
        assert torch.equal(native.unpack(spikes, torch.float32), x.float())


@SETTINGS
@given(tensors(), tensors(), geometries, st.booleans())
def test_gather(x, weight, geometry, transposed):
    shape = (geometry.n, geometry.oc, geometry.oh, geometry.ow)
    _answers(native.gather, x, weight, None, geometry, shape, torch.float32, transposed=transposed)


@SETTINGS
@given(tensors(), tensors(), geometries)
def test_scatter(x, grad, geometry):
    _answers(native.scatter, x, grad, geometry, (geometry.oc, geometry.c, geometry.kh, geometry.kw))


@SETTINGS
@given(tensors(), tensors(), geometries)
def test_count_pairs(counts, grad_counts, geometry):
    _answers(native.count_pairs, geometry, counts, grad_counts)


@SETTINGS
@given(tensors(), tensors(), st.integers(-1, 4), st.booleans())
def test_neurons(current, grad, steps, constant):
    found = _answers(native.neuron_forward, current, steps, NEURON, SURROGATE, torch.float16, constant=constant)
    membrane = found[1] if found else grad
    _answers(native.neuron_backward, grad, membrane, steps, NEURON, SURROGATE, constant=constant)


@SETTINGS
@given(tensors(), tensors(), st.integers(-1, 17))
def test_pool(x, grad, k):
    found = _answers(native.pool_forward, x, k)
    winner = found[1] if found else torch.zeros(grad.shape, dtype=torch.uint8)
    _answers(native.pool_backward, grad, winner, tuple(x.shape), k)


def test_more_channels_than_the_lists_can_name():
    weight = torch.empty(1, 1).expand(2**17, 2**17)
    with pytest.raises(ValueError, match=r"expected inputs x outputs below 2\^32"):
        native.gather(
            torch.empty(0, 2**17), weight, None, Geometry(0, 1, 1, 2**17, 1, 1, 2**17, 1, 1, 1, 0, 0), (0, 2**17),
            torch.float32,
        )  # fmt: skip


@SETTINGS
@given(tensors(), tensors(), tensors())
def test_weights(x, gain, grad):
    _answers(native.to_half, x)
    result = _answers(native.standardise, x, gain, 1e-5)
    if result is not None:
        _answers(native.standardise_backward, grad, x, gain, *result[1:])
