import pytest
import torch
import torch.nn.functional as F

from neuro_engine.layers import (
    AvgPool2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Readout,
    SpikingConv2d,
    SpikingConvTranspose2d,
    SpikingLinear,
    SpikingRecurrent,
)
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF, fire
from neuro_engine.surrogate import Surrogate, atan, rectangle, sigmoid, triangle


def _deep():
    torch.manual_seed(2)
    return SpikingNetwork(
        {
            "a": SpikingConv2d(1, 8, 3, padding=1, analog_input=True),
            "pool": MaxPool2d(2),
            "b": SpikingConv2d(8, 8, 3, padding=1),
            "flatten": Flatten(),
            "c": SpikingLinear(8 * 6 * 6, 40),
            "out": Readout(40, 3),
        }
    )


def test_state_dict_keys():
    names = [f"layers.{layer}.{p}" for layer in "abc" for p in ("weight", "gain", "bias")]
    assert list(_deep().state_dict()) == [*names, "layers.out.weight", "layers.out.bias"]


def test_layers_have_the_names_of_the_network():
    assert [(name, layer.name) for name, layer in _deep().engine_layers()] == [(n, n) for n in ("a", "b", "c", "out")]


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_without_leak_each_frame_stands_alone(reset):
    torch.manual_seed(4)
    layer = SpikingLinear(12, 20, neuron=LIF(leak=0.0, reset=reset), analog_input=True)
    readout = Readout(20, 3, leak=0.0)
    with torch.no_grad():
        layer.gain.fill_(2.0)
        x = torch.rand(5, 3, 12) * 2
        spikes = layer(x)
        alone = torch.cat([layer(frame[None]) for frame in x])
        assert 0 < spikes.mean() < 1
        assert torch.equal(spikes, alone)
        separate = torch.stack([readout(frame[None]) for frame in spikes])
        torch.testing.assert_close(readout(spikes), separate.mean(0))


def test_with_leak_a_frame_depends_on_the_one_before():
    torch.manual_seed(5)
    layer = SpikingLinear(12, 20, neuron=LIF(leak=0.9), analog_input=True)
    with torch.no_grad():
        layer.gain.fill_(2.0)
        x = torch.rand(5, 3, 12)
        assert not torch.equal(layer(x), torch.cat([layer(frame[None]) for frame in x]))


def test_readout_by_hand():
    readout = Readout(2, 1, leak=0.5)
    with torch.no_grad():
        readout.weight.copy_(torch.tensor([[1.0, 2.0]]))
        readout.bias.fill_(0.25)
        x = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]])
        # currents 1.25, 2.25, 3.25; membranes 1.25, 2.875, 4.6875
        assert readout(x).item() == pytest.approx((1.25 + 2.875 + 4.6875) / 3)


def test_the_readout_does_not_change_under_its_output():
    readout = Readout(3, 2)
    spikes = torch.ones(4, 2, 3)
    out = readout(spikes)
    kept = out.detach().clone()
    out.sum().backward()
    assert torch.equal(out, kept)


def test_spikes_are_zero_or_one_and_pooling_is_an_or():
    torch.manual_seed(6)
    layer = SpikingConv2d(1, 3, 3, padding=1, analog_input=True)
    with torch.no_grad():
        layer.gain.fill_(3.0)
        spikes = layer(torch.rand(2, 2, 1, 8, 8) * 2)
        pooled = MaxPool2d(2)(spikes)
    assert spikes.unique().tolist() == [0.0, 1.0]
    windows = spikes.view(2, 2, 3, 4, 2, 4, 2).sum((4, 6)) > 0
    assert torch.equal(pooled, windows.float())
    assert Flatten()(pooled).shape == (2, 2, 48)


def test_a_spike_comes_at_the_threshold_itself():
    layer = SpikingLinear(1, 1)
    with torch.no_grad():
        layer.bias.fill_(1.0)
        assert layer(torch.zeros(1, 1, 1)).item() == 1.0


def _conv(neuron=None, **settings):
    torch.manual_seed(7)
    layer = SpikingConv2d(4, 6, 3, norm="none", neuron=neuron or LIF(), analog_input=True, **settings)
    return layer, lambda x: F.conv2d(
        x, layer.weight, layer.bias, settings.get("stride", 1), settings.get("padding", 0), groups=settings["groups"]
    )


def _transposed(neuron=None, **settings):
    torch.manual_seed(8)
    layer = SpikingConvTranspose2d(4, 6, 3, norm="none", neuron=neuron or LIF(), analog_input=True, **settings)
    return layer, lambda x: F.conv_transpose2d(
        x, layer.weight, layer.bias, settings["stride"], settings["padding"], settings["output_padding"],
        settings["groups"],
    )  # fmt: skip


GEOMETRIES = [
    lambda: _conv(groups=1, stride=2, padding=1),
    lambda: _conv(groups=2, padding=1),
    lambda: _transposed(groups=1, stride=2, padding=1, output_padding=1),
    lambda: _transposed(groups=2, stride=1, padding=0, output_padding=0),
]


@pytest.mark.parametrize("make", GEOMETRIES)
def test_layers_are_a_torch_convolution_and_then_neurons(make):
    layer, convolution = make()
    layer = layer.double()
    with torch.no_grad():
        layer.weight.mul_(3)
    x = torch.rand(4, 3, 4, 5, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64) * 2
    current = torch.stack([convolution(frame) for frame in x])
    wanted, _ = fire(current.detach(), layer.neuron)
    spikes = layer(x)
    assert torch.equal(spikes, wanted)
    assert 0 < spikes.mean() < 1


def test_a_depthwise_convolution_keeps_channels_apart():
    layer = SpikingConv2d(3, 3, 3, padding=1, groups=3, analog_input=True)
    x = torch.zeros(2, 1, 3, 4, 4)
    x[:, :, 1] = 100 * torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(10))
    spikes = layer(x)
    assert spikes[:, :, 1].any()
    assert not spikes[:, :, [0, 2]].any()


@pytest.mark.parametrize("groups", [0, 2, 5])
def test_groups_must_divide_the_channels(groups):
    for layer in (SpikingConv2d, SpikingConvTranspose2d):
        with pytest.raises(ValueError, match=f"groups that divide 4 and 3 channels, got {groups}"):
            layer(4, 3, 3, groups=groups)


def test_output_padding_is_below_the_stride():
    with pytest.raises(ValueError, match="below the stride 2, got 2"):
        SpikingConvTranspose2d(1, 1, 3, 2, 0, 2)


def test_a_learned_leak_begins_at_the_neurons_and_learns():
    neuron = LIF(leak=0.8, learn_leak=True)
    layer = SpikingLinear(12, 20, neuron=neuron, analog_input=True)
    fixed = SpikingLinear(12, 20, neuron=LIF(leak=0.8), analog_input=True)
    assert list(layer.state_dict()) == ["weight", "gain", "bias", "leak_logit"]
    fixed.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "leak_logit"})
    assert layer.leak.item() == pytest.approx(0.8)
    assert fixed.leak is None
    x = torch.rand(6, 3, 12, generator=torch.Generator().manual_seed(11)) * 3
    assert torch.equal(layer(x), fixed(x))
    layer(x).sum().backward()
    assert layer.leak_logit.grad.abs() > 0


def test_average_pools_by_hand():
    x = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]).expand(2, 3, 4, 3, 3)
    assert torch.equal(AvgPool2d(2)(x), torch.full((2, 3, 4, 1, 1), 0.75))
    assert torch.allclose(GlobalAvgPool2d()(x), torch.full((2, 3, 4), 7 / 9))
    assert AvgPool2d(2)(x.half()).dtype == GlobalAvgPool2d()(x.half()).dtype == torch.float32


@pytest.mark.parametrize("scaled", [True, False])
def test_dropout_silences_the_same_features_at_all_steps(scaled):
    torch.manual_seed(12)
    dropout, x = Dropout(0.25, scaled=scaled), torch.ones(5, 40, 10, 3, 3)
    out = dropout(x)
    assert torch.equal(out, out[:1].expand_as(out))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.75 if scaled else 1.0])
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(out[:, 0], out[:, 1])
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_dropout_refuses_what_is_no_probability(p):
    with pytest.raises(ValueError, match="probability of at least 0 and below 1"):
        Dropout(p)


def _refusals():
    conv, linear = SpikingConv2d(2, 3, 3), SpikingLinear(4, 3)
    maps = r"\(T, B, 2, H, W\) with T and B at least 1, got "
    yield conv, (4, 1, 2, 5), maps + r"\(4, 1, 2, 5\)"
    yield conv, (0, 1, 2, 5, 5), maps + r"\(0, 1, 2, 5, 5\)"
    yield conv, (4, 0, 2, 5, 5), maps + r"\(4, 0, 2, 5, 5\)"
    yield conv, (4, 1, 3, 5, 5), maps + r"\(4, 1, 3, 5, 5\)"
    yield conv, (4, 1, 2, 5, 2), r"at least as large as the kernel \(3, 3\), got \(4, 1, 2, 5, 2\)"
    yield SpikingConv2d(2, 3, 3, norm="batch"), (4, 1, 3, 5, 5), maps + r"\(4, 1, 3, 5, 5\)"
    yield SpikingConvTranspose2d(2, 3, 3), (4, 1, 3, 5, 5), maps + r"\(4, 1, 3, 5, 5\)"
    yield SpikingConvTranspose2d(2, 3, 1, 1, 1), (4, 1, 2, 2, 2), r"kernel \(1, 1\), got \(4, 1, 2, 2, 2\)"
    for layer in (linear, Readout(4, 3), SpikingRecurrent(4, 3)):
        name = type(layer).__name__
        for shape in ((2, 4), (0, 1, 4), (2, 1, 5), (2, 1, 4, 1)):
            got = str(shape).replace("(", r"\(").replace(")", r"\)")
            yield layer, shape, rf"{name}: expected an input \(T, B, 4\) with T and B at least 1, got {got}"
    for pool in (MaxPool2d(2), AvgPool2d(2)):
        name = type(pool).__name__
        yield pool, (2, 1, 4, 4), rf"{name}: expected an input \(T, B, C, H, W\)"
        yield pool, (2, 1, 3, 4, 1), rf"{name}: expected maps of at least 2 x 2, got \(2, 1, 3, 4, 1\)"
    yield GlobalAvgPool2d(), (2, 1, 4), r"\(T, B, C, H, W\)"


@pytest.mark.parametrize(("layer", "shape", "message"), list(_refusals()))
def test_wrong_inputs_are_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(shape))


@pytest.mark.parametrize("leak", [-0.1, 1.1, float("nan")])
def test_wrong_leaks_are_refused(leak):
    with pytest.raises(ValueError, match=r"leak of 0\.\.1"):
        LIF(leak=leak)
    with pytest.raises(ValueError, match=r"leak of 0\.\.1"):
        Readout(2, 2, leak=leak)


def test_wrong_resets_are_refused():
    with pytest.raises(ValueError, match="'firm'"):
        LIF(reset="firm")


def test_wrong_surrogates_are_refused():
    with pytest.raises(ValueError, match="'circle'"):
        Surrogate("circle", 1.0)
    with pytest.raises(ValueError, match="positive scale"):
        Surrogate("triangle", 0.0)


@pytest.mark.parametrize("surrogate", [rectangle(), rectangle(2.0), triangle(), triangle(0.5), sigmoid(), atan()])
def test_surrogates_are_bumps_of_unit_area(surrogate):
    x = torch.linspace(-500, 500, 2_000_001, dtype=torch.float64)
    phi = surrogate.derivative(x)
    assert phi.min() >= 0
    assert phi.argmax() in range(900_000, 1_100_001)
    assert torch.trapezoid(phi, x).item() == pytest.approx(1.0, abs=2e-3)
    torch.testing.assert_close(phi, phi.flip(0), atol=1e-9, rtol=0)
