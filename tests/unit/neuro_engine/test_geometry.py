"""Shapes of layers, by hand."""

import pytest

from neuro_engine.geometry import Gemm, Geometry


def test_a_strided_convolution():
    g = Geometry(8, 16, (32, 32), (16, 16), (3, 3))
    assert (g.weights, g.inputs, g.neurons, g.synapses) == (1152, 8192, 4096, 256 * 1152)
    assert g.forward == Gemm(256, 72, 16)
    assert g.backward == Gemm(1024, 36, 8)  # a pixel of the input meets 9 / 4 taps on average
    assert g.weight_gradient == Gemm(16, 256, 72)


def test_its_transpose_has_its_gemms_swapped():
    g = Geometry(8, 16, (32, 32), (16, 16), (3, 3))
    back = Geometry(16, 8, (16, 16), (32, 32), (3, 3), transposed=True)
    assert (back.forward, back.backward, back.synapses) == (g.backward, g.forward, g.synapses)


def test_depthwise_and_full_connections():
    assert Geometry(32, 32, (8, 8), (8, 8), (3, 3), groups=32).forward == Gemm(64, 9, 1)
    assert Geometry(100, 10).forward == Gemm(1, 100, 10)
    assert Geometry(100, 10).backward == Gemm(1, 10, 100)


@pytest.mark.parametrize(
    ("change", "text"), [({"steps": 0}, "steps"), ({"kernel": (3, 0)}, "kernel"), ({"groups": 3}, "groups")]
)
def test_a_bad_shape_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        Geometry(**{"in_channels": 8, "out_channels": 8, **change})
