import pytest
import torch

from neuro_engine.calibration import calibrate
from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear, standardise
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate, atan, rectangle, sigmoid, triangle


@pytest.mark.parametrize("shape", [(4, 50), (3, 4, 3, 3)])
def test_standardised_weights_have_mean_zero_and_the_gain_as_norm(shape):
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64) * 3 + 2
    gain = torch.linspace(0.5, 4, shape[0], dtype=torch.float64)
    rows = standardise(weight, gain).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros_like(gain), atol=1e-12, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), gain, rtol=1e-5, atol=0)


def test_the_scale_of_standardised_weights_drops_out():
    weight, gain = torch.randn(4, 30, generator=torch.Generator().manual_seed(1)).double(), torch.ones(4).double()
    torch.testing.assert_close(standardise(weight, gain), standardise(weight * 7 - 3, gain), rtol=1e-5, atol=1e-6)


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


def _rates(network, x):
    rates = {}
    for name, layer in network.layers.items():
        x = layer(x)
        if name in ("a", "b", "c"):
            rates[name] = x.mean().item()
    return rates


@pytest.mark.parametrize("target", [0.1, 0.2])
def test_calibration_wakes_a_silent_network(target):
    network = _deep()
    batch = torch.rand(4, 8, 1, 12, 12, generator=torch.Generator().manual_seed(3)) * 0.3
    assert set(_rates(network, batch).values()) == {0.0}
    weights = {n: p.clone() for n, p in network.named_parameters() if not n.endswith("gain")}
    reached = calibrate(network, batch, target)
    assert list(reached) == ["a", "b", "c"]
    for name, rate in _rates(network, batch).items():
        assert rate == pytest.approx(target, rel=0.1), name
        assert rate == reached[name]
    assert all(torch.equal(dict(network.named_parameters())[n], w) for n, w in weights.items())


def test_a_layer_without_input_stays_silent():
    network = SpikingNetwork({"a": SpikingLinear(4, 3, analog_input=True)})
    assert calibrate(network, torch.zeros(2, 2, 4)) == {"a": 0.0}


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, float("nan")])
def test_calibration_refuses_impossible_rates(target):
    with pytest.raises(ValueError, match="target rate"):
        calibrate(_deep(), torch.zeros(1, 1, 1, 12, 12), target)


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
