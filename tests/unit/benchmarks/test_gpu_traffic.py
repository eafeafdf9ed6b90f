"""What the GPU benchmark can be checked on without a GPU."""

import pytest
import torch
from support import need

from benchmarks import gpu_traffic
from benchmarks.gpu_traffic import ShapeNet, count, measured, plain, read_counters
from neuro_engine.cost.gpu_kernels import EAGER_BACKWARD, EAGER_FORWARD
from neuro_engine.cost.networks import NetworkShape, network
from neuro_engine.geometry import Geometry

PAGE = """==PROF== Connected to process 1
"ID","Process ID","Kernel Name","dram__bytes_read.sum","dram__bytes_write.sum"
"","","","byte","byte"
"0","1","conv","1,000","20"
"1","1","lif","500.5","3"
"""


def test_counters_are_summed_over_kernels():
    assert read_counters(PAGE) == (1500.5, 23.0)


def test_a_page_without_counters_says_why():
    with pytest.raises(ValueError, match="got: ==ERROR== ERR_NVGPUCTRPERM"):
        read_counters("==PROF== Connected\n==ERROR== ERR_NVGPUCTRPERM: no permission\n")
    with pytest.raises(ValueError, match="got: no kernels"):
        read_counters("")


def test_what_is_missing_is_one_row_and_one_line(monkeypatch, capsys):
    monkeypatch.setattr(gpu_traffic, "missing", lambda: "no GPU")
    assert list(measured({"vgg11": 1})) == [{"part": "measured", "skipped": "no GPU"}]
    assert capsys.readouterr().out == "skipped: DRAM bytes were not measured: no GPU\n"


def test_passes_by_hand():
    row = count("doubled", lambda x: (x * 2).relu())
    # Forward: the product and the rectifier each read and write a map. Backward: the rectifier reads the error and
    # its output, which was kept; the product reads the error.
    assert (row["forward_reads"], row["forward_writes"], row["kept"]) == (2, 2, 1)
    assert (row["backward_reads"], row["backward_writes"]) == (3, 2)


def test_the_constants_of_the_model_are_those_of_the_library():
    need("spikingjelly", "interop")
    row = count("SpikingJelly", gpu_traffic.spikingjelly())
    for way, passes in (("forward", EAGER_FORWARD), ("backward", EAGER_BACKWARD)):
        assert abs(row[f"{way}_reads"] - passes.reads) <= 0.5
        assert abs(row[f"{way}_writes"] - passes.writes) <= 0.5
        assert abs(row[f"{way}_launches"] - passes.launches) <= 0.5
    assert row["kept"] == EAGER_BACKWARD.kept == EAGER_FORWARD.kept - 1


def _outputs(net, x):
    """What each layer's synapse puts out, by name."""
    seen = {}
    for name, module in net.synapses.items():
        module.register_forward_hook(lambda _, __, y, name=name: seen.__setitem__(name, tuple(y.shape)))
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    return seen


def test_a_measured_network_has_the_shapes_of_its_model():
    shape = network("resnet18")
    seen = _outputs(ShapeNet(shape, plain), torch.rand(4, 1, 3, 32, 32))
    for name, g in shape.layers.items():
        steps = 1 if g.static else 4
        assert seen[name.replace(".", "_")] == (steps, g.out_channels, *g.out_size)


def test_a_pool_before_a_linear_layer():
    layers = {"conv": Geometry(2, 4, (8, 8), (8, 8), (3, 3), steps=2), "fc": Geometry(64, 3, steps=2)}
    shape = NetworkShape("n", layers, "batch", readouts=frozenset({"fc"}))
    seen = _outputs(ShapeNet(shape, plain), torch.rand(2, 5, 2, 8, 8))
    assert seen == {"conv": (10, 4, 8, 8), "fc": (10, 3, 1, 1)}
