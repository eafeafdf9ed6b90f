"""Shapes against published sizes, against loops that count one by one, and against networks that run."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from support import need

from neuro_engine.cost.networks import NetworkShape, Window, available, network, shape_from_nir
from neuro_engine.cost.networks.window import inside_synapses
from neuro_engine.geometry import Geometry
from neuro_engine.layers import AvgPool2d, Flatten, Readout, Residual, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.synapse import ConvSynapse, ConvTransposeSynapse
from neuro_engine.trace import Trace


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("sew_resnet18", 11_689_512),  # torchvision's resnet18
        ("sew_resnet34", 21_797_672),  # torchvision's resnet34
        ("resnet18", 11_173_962),  # the usual CIFAR-10 version
    ],
)
def test_residual_networks_have_the_published_parameters(name, parameters):
    shape = network(name)
    assert sum(shape.parameters(layer) for layer in shape.layers) == parameters


def test_vgg_and_imagenet_operations():
    # VGG-11: 9 x (3x64 + 64x128 + 128x256 + 256^2 + 256x512 + 3 x 512^2) + 512 x 10 weights.
    assert network("vgg11").weights == 9 * (192 + 8192 + 32768 + 65536 + 131072 + 3 * 262144) + 5120
    # ResNet-18 at 224x224 takes 1.81 G multiplications and additions, padding included (He et al.: 1.8e9).
    assert sum(g.synapses for g in network("sew_resnet18").layers.values()) == pytest.approx(1.81e9, rel=0.01)
    assert network("vgg16").layers["conv13"].out_size == (2, 2)


@pytest.mark.parametrize("name", available())
def test_shapes_fit_together(name):
    shape = network(name)
    assert shape.description
    assert shape.source.startswith(("quoted: ", "chosen: "))
    for layer, geometry in shape.layers.items():
        assert geometry.in_size == (1, 1) or {shape.layers[s].out_channels for s in shape.sources(layer)} <= {
            geometry.in_channels
        }
        assert 0 < shape.inside(layer) <= geometry.synapses
        assert geometry.static == (not shape.sources(layer) and name not in ("dvs_gesture", "nmnist"))
        assert (layer in shape.values) >= (len(geometry.sources) != 1)


def test_a_residual_block_adds_to_all_that_came_before():
    shape = network("resnet18")
    assert shape.sources("stage1.block1.conv1") == ("stem",)
    assert shape.sources("stage2.block1.conv1") == ("stage1.block2.conv2", "stage1.block1.conv2", "stem")
    shortcut = shape.layers["stage2.block1.shortcut"]
    assert (shortcut.kernel, shortcut.in_size, shortcut.out_size) == ((1, 1), (32, 32), (16, 16))
    assert shape.sources("fc")[-1] == "stage4.block1.shortcut"
    assert "stage1.block1.conv1" not in shape.values
    assert {"stem", "stage1.block2.conv1", "fc"} <= shape.values


def test_an_unknown_name_is_met_with_near_ones():
    with pytest.raises(ValueError, match="no network 'vgg12'; did you mean 'vgg16' or 'vgg11'"):
        network("vgg12")
    with pytest.raises(ValueError, match=r"expected a norm of .*'batch'"):
        network("vgg11", norm="layer")
    assert network("vgg11", norm="weight").norm == "weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": {}}, "at least one layer"),
        ({"values": frozenset({"fcc"})}, "no layer 'fcc'; did you mean 'fc'"),
        (
            {"layers": {"fc": Geometry(2, 2, sources=("later",)), "later": Geometry(2, 2)}},
            "'later', which is not before",
        ),
    ],
)
def test_a_shape_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        NetworkShape(**{"name": "n", "layers": {"fc": Geometry(2, 2)}, **change})


def _pairs_one_by_one(inputs, outputs, kernel, stride, padding):
    met = (o * stride + k - padding for o, k in itertools.product(range(outputs), range(kernel)))
    return sum(0 <= position < inputs for position in met)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2), st.integers(1, 2)
)  # fmt: skip
def test_operations_inside_the_map(rows, columns, stride, kernel, padding, groups):
    padding = min(padding, kernel - 1)
    assume(min(rows, columns) + 2 * padding >= kernel)
    synapse = ConvSynapse(stride, padding, groups)
    x, weight = torch.Size((1, 2 * groups, rows, columns)), torch.Size((3 * groups, 2, kernel, kernel))
    out = synapse.output_shape(x, weight)
    g = Geometry(2 * groups, 3 * groups, (rows, columns), tuple(out[2:]), (kernel, kernel), groups)
    inside = inside_synapses(g, Window(stride, padding))
    assert g.synapses == synapse.dense_ops(x, weight)
    # What the engines count where nothing is zero.
    assert inside == synapse.forward_ops(torch.full((1, groups, rows, columns), 2), weight).item()
    one_by_one = [_pairs_one_by_one(i, o, kernel, stride, padding) for i, o in zip(g.in_size, g.out_size, strict=True)]
    assert inside == 6 * groups * one_by_one[0] * one_by_one[1]
    guessed = Window.of(g)
    fits = [(i + 2 * guessed.padding - kernel) // guessed.stride + 1 for i in g.in_size]
    assert tuple(fits) == g.out_size


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1), st.integers(0, 2))
def test_operations_inside_the_map_of_a_transposed_convolution(side, stride, kernel, padding, more):
    synapse = ConvTransposeSynapse(stride, padding, min(more, stride - 1))
    x, weight = torch.Size((1, 2, side, side)), torch.Size((2, 3, kernel, kernel))
    out = tuple(synapse.output_shape(x, weight)[2:])
    assume(min(out) >= 1)
    g = Geometry(2, 3, (side, side), out, (kernel, kernel), transposed=True)
    assert g.synapses == synapse.dense_ops(x, weight)
    counted = synapse.forward_ops(torch.full((1, 1, side, side), 2), weight).item()
    assert inside_synapses(g, Window(stride, padding)) == counted


def test_sizes_that_no_window_connects():
    with pytest.raises(ValueError, match="expected sizes that a stride and a padding connect"):
        Window.of(Geometry(1, 1, (4, 4), (9, 9), (3, 3)))


def _network():
    torch.manual_seed(0)
    return SpikingNetwork(
        {
            "first": SpikingConv2d(2, 4, 3, stride=2, norm="none", analog_input=True),
            "pool": AvgPool2d(2),
            "grouped": SpikingConv2d(4, 8, 3, padding=1, groups=2, norm="none"),
            "flatten": Flatten(),
            "hidden": SpikingLinear(8 * 4, 6, norm="none"),
            "readout": Readout(6, 3),
        }
    )


def _traced(net, *shape):
    trace = Trace()
    with net.recording(trace):
        net(torch.rand(3, 2, *shape)).sum().backward()
    trace.steps, trace.samples = 1, 2
    return NetworkShape.of_trace(trace, norm="none")


def test_a_nir_graph_has_the_shape_of_its_network():
    need("nir", "interop")
    from neuro_engine.nir_io import to_nir

    net = _network()
    shape, ran = shape_from_nir(to_nir(net, (2, 9, 9)), 3, analog_input=True), _traced(net, 2, 9, 9)
    assert list(shape.layers) == list(ran.layers) == ["first", "grouped", "hidden", "readout"]
    for layer in shape.layers:
        assert shape.sources(layer) == ran.sources(layer)
        assert shape.parameters(layer) == ran.parameters(layer)
    plain = {name: Geometry(*(getattr(g, f) for f in _SIZES)) for name, g in shape.layers.items()}
    assert plain == {name: Geometry(*(getattr(g, f) for f in _SIZES)) for name, g in ran.layers.items()}
    assert (shape.values, shape.readouts) == (ran.values, ran.readouts) == ({"first", "grouped"}, {"readout"})
    assert shape.windows["first"] == Window(2, 0)


_SIZES = ("in_channels", "out_channels", "in_size", "out_size", "kernel", "groups", "steps", "transposed", "static")


def test_a_nir_graph_with_a_shortcut():
    need("nir", "interop")
    from neuro_engine.nir_io import to_nir

    conv = {"conv": SpikingConv2d(2, 2, 3, padding=1, norm="none")}
    layers = {"stem": SpikingConv2d(1, 2, 3, padding=1, norm="none"), "block": Residual(conv)}
    net = SpikingNetwork({**layers, "flatten": Flatten(), "readout": Readout(2 * 16, 3)})
    shape = shape_from_nir(to_nir(net, (1, 4, 4)), 2)
    assert set(shape.sources("readout")) == {"stem", "block_body_conv"}
    assert shape.values == {"readout"}


class _Node:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class _Graph:
    def __init__(self, nodes, edges):
        self.nodes, self.edges = nodes, edges


def _node(kind, **fields):
    return type(kind, (_Node,), {})(**fields)


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("Delay", {}, "a: expected a node that the network has a layer for, got Delay"),
        ("Linear", {"weight": torch.zeros(2, 3)}, "a: expected neurons after it and nothing else"),
    ],
)
def test_a_nir_graph_that_has_no_layers(kind, fields, message):
    nodes = {"input": _node("Input", input_type={"input": (3,)}), "a": _node(kind, **fields)}
    with pytest.raises(ValueError, match=message):
        shape_from_nir(_Graph(nodes, [("input", "a")]), 1)


def test_a_nir_graph_with_a_loop():
    nodes = {"input": _node("Input", input_type={"input": (3,)}), "a": _node("LIF"), "b": _node("LIF")}
    with pytest.raises(ValueError, match="without recurrent connections"):
        shape_from_nir(_Graph(nodes, [("a", "b"), ("b", "a")]), 1)


def test_a_trace_without_shapes_is_no_network():
    from neuro_engine.trace import Engine, EngineCount

    trace = Trace()
    trace.record("a", Engine.FP, EngineCount())
    with pytest.raises(ValueError, match="layer 'a': expected a trace with its geometry"):
        NetworkShape.of_trace(trace)
