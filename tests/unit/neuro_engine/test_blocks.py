import pytest
import torch
from torch import nn

from neuro_engine.layers import Dropout, GlobalAvgPool2d, Readout, Residual, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.precision import BF16, FP32
from neuro_engine.trace import Engine, TensorClass, Trace


@pytest.mark.parametrize(
    ("connect", "wanted"),
    [("add", [0.0, 1.0, 1.0, 2.0]), ("and", [0.0, 0.0, 0.0, 1.0]), ("iand", [0.0, 1.0, 0.0, 0.0])],
)
def test_residual_connections_by_hand(connect, wanted):
    # Body and shortcut have (0, 0), (0, 1), (1, 0), (1, 1).
    block = Residual(_Constant([0.0, 0.0, 1.0, 1.0]), _Constant([0.0, 1.0, 0.0, 1.0]), connect)
    assert block(torch.zeros(2, 3, 4)).tolist() == [[wanted] * 3] * 2


class _Constant(nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = torch.tensor(values)

    def forward(self, x):
        return self.values.expand_as(x)


def test_without_a_shortcut_the_input_passes():
    layer = SpikingLinear(5, 5)
    x = (torch.rand(4, 2, 5, generator=torch.Generator().manual_seed(13)) < 0.5).float()
    with torch.no_grad():
        layer.gain.fill_(3.0)
    assert torch.equal(Residual({"only": layer})(x), layer(x) + x)


@pytest.mark.parametrize("connect", ["add", "and", "iand"])
def test_gradients_pass_both_ways_of_a_residual(connect):
    torch.manual_seed(14)
    x = (torch.rand(4, 4, 12, dtype=torch.float64) < 0.5).double().requires_grad_()
    body, shortcut = (SpikingLinear(12, 12).double() for _ in range(2))
    with torch.no_grad():
        body.gain.fill_(2.0)
        shortcut.gain.fill_(2.0)
    ours = torch.autograd.grad(Residual(body, shortcut, connect)(x).sum(), x)[0]
    a, s = body(x), shortcut(x)
    ones = torch.ones_like(a)
    to_a, to_s = {"add": (ones, ones), "and": (s, a), "iand": (-s, 1 - a)}[connect]
    wanted = torch.autograd.grad([a, s], x, [to_a.detach(), to_s.detach()])[0]
    assert wanted.abs().max() > 0
    torch.testing.assert_close(ours, wanted, rtol=1e-12, atol=1e-12)


def test_residuals_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"expected a connection of .*'iand'.* got 'or'"):
        Residual(nn.Identity(), connect="or")
    with pytest.raises(ValueError, match=r"body's shape \(2, 1, 3\), got \(2, 1, 4\)"):
        Residual(SpikingLinear(4, 3))(torch.zeros(2, 1, 4))


def _nested():
    torch.manual_seed(15)
    body = {"conv1": SpikingConv2d(4, 4, 3, padding=1), "conv2": SpikingConv2d(4, 4, 3, padding=1)}
    inner = nn.Sequential(SpikingConv2d(4, 4, 1), Residual(SpikingConv2d(4, 4, 1), connect="iand"))
    return SpikingNetwork(
        {
            "stem": SpikingConv2d(1, 4, 3, padding=1, analog_input=True),
            "spiking": Residual(inner, connect="and"),
            "block1": Residual(body, SpikingConv2d(4, 4, 1)),
            "after": SpikingConv2d(4, 4, 3),
            "last": SpikingConv2d(4, 4, 3),
            "pool": GlobalAvgPool2d(),
            "out": Readout(4, 3),
        }
    )


def test_nested_layers_have_dotted_names():
    network = _nested()
    names = ["stem", "spiking.body.0", "spiking.body.1.body", "block1.body.conv1", "block1.body.conv2"]
    names += ["block1.shortcut", "after", "last", "out"]
    assert [(name, layer.name) for name, layer in network.engine_layers()] == [(n, n) for n in names]
    assert "layers.block1.body.conv1.gain" in network.state_dict()
    assert network(torch.rand(2, 3, 1, 8, 8)).shape == (3, 3)


def test_layers_know_where_their_input_is_values():
    analog = [name for name, layer in _nested().engine_layers() if layer.analog_input]
    assert analog == ["stem", "after", "out"]
    network = SpikingNetwork({"drop": Dropout(0.5), "a": SpikingLinear(2, 2)})
    assert network.layers["a"].analog_input
    network = SpikingNetwork({"drop": Dropout(0.5, scaled=False), "a": SpikingLinear(2, 2), "b": SpikingLinear(2, 2)})
    assert not network.layers["a"].analog_input
    network = SpikingNetwork(
        {"own": nn.ReLU(), "a": SpikingLinear(2, 2), "id": nn.Identity(), "b": SpikingLinear(2, 2)}
    )
    assert [network.layers[n].analog_input for n in "ab"] == [True, False]


def test_precision_is_set_for_all_layers():
    network = _nested()
    assert all(layer.precision is FP32 for _, layer in network.engine_layers())
    network.set_precision("bf16")
    assert all(layer.precision is BF16 and layer.spec.precision is BF16 for _, layer in network.engine_layers())
    with pytest.raises(ValueError, match="'fp8'"):
        network.set_precision("fp8")


def test_in_half_precision_a_network_learns_all_its_parameters():
    network = _nested()
    network.set_precision("fp16")
    x = torch.rand(4, 3, 1, 8, 8, generator=torch.Generator().manual_seed(16))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(3.0)
    assert network.layers["stem"](x).dtype == torch.float16
    network(x).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_trace_names_nested_layers_and_charges_sums_as_values():
    network, trace = _nested(), Trace()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(3.0)
    with network.recording(trace):
        network(torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(17))).sum().backward()
    assert trace.layers == (
        "stem",
        "spiking.body.0",
        "spiking.body.1.body",
        "block1.body.conv1",
        "block1.body.conv2",
        "block1.shortcut",
        "after",
        "last",
        "out",
    )
    after, last = trace.count("after", Engine.FP), trace.count("last", Engine.FP)
    assert after.multiplies
    assert after.reads[TensorClass.INPUT].elements == 2 * 3 * 4 * 8 * 8
    assert TensorClass.SPIKES not in after.reads
    assert not last.multiplies
    assert TensorClass.INPUT not in last.reads
    assert all(layer.trace is None for _, layer in network.engine_layers())
