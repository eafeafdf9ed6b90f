import pytest
import torch
from torch import nn

from neuro_engine.calibration import calibrate
from neuro_engine.layers import (
    Flatten,
    GlobalAvgPool2d,
    MaxPool2d,
    Readout,
    Residual,
    SpikingConv2d,
    SpikingLayer,
    SpikingLinear,
    SpikingRecurrent,
)
from neuro_engine.network import SpikingNetwork


def _deep(norm="weight"):
    torch.manual_seed(2)
    return SpikingNetwork(
        {
            "a": SpikingConv2d(1, 8, 3, padding=1, norm=norm, analog_input=True),
            "pool": MaxPool2d(2),
            "b": SpikingConv2d(8, 8, 3, padding=1, norm=norm),
            "flatten": Flatten(),
            "c": SpikingLinear(8 * 6 * 6, 40, norm=norm),
            "out": Readout(40, 3),
        }
    )


def _batch(scale=0.3):
    return torch.rand(4, 8, 1, 12, 12, generator=torch.Generator().manual_seed(3)) * scale


@torch.no_grad()
def _rates(model, x):
    """The rate of each spiking layer, by the layer."""
    rates = {}
    layers = [module for module in model.modules() if isinstance(module, SpikingLayer)]
    hooks = [m.register_forward_hook(lambda m, _, y: rates.update({m: y.float().mean().item()})) for m in layers]
    model(x)
    for hook in hooks:
        hook.remove()
    return rates


@pytest.mark.parametrize("target", [0.1, 0.2])
def test_calibration_wakes_a_silent_network(target):
    network, batch = _deep(), _batch()
    assert set(_rates(network, batch).values()) == {0.0}
    weights = {n: p.clone() for n, p in network.named_parameters() if not n.endswith("gain")}
    reached = calibrate(network, batch, target)
    assert list(reached) == ["a", "b", "c"]
    for layer, rate in _rates(network, batch).items():
        assert rate == pytest.approx(target, rel=0.1), layer.name
        assert rate == reached[layer.name]
    assert all(torch.equal(dict(network.named_parameters())[n], w) for n, w in weights.items())


def test_calibration_is_the_bisection_layer_by_layer():
    network, batch = _deep(), _batch()
    calibrate(network, batch)
    found = {name: layer.gain.clone() for name, layer in network.layers.items() if isinstance(layer, SpikingLayer)}
    network = _deep()
    x = batch
    with torch.no_grad():
        for name, layer in network.layers.items():
            if isinstance(layer, SpikingLayer):
                low, high = 1e-2, 1e3
                for _ in range(20):
                    middle = (low * high) ** 0.5
                    layer.gain.fill_(middle)
                    low, high = (low, middle) if layer(x).mean().item() > 0.1 else (middle, high)
                assert torch.equal(found[name], layer.gain), name
            x = layer(x)


@pytest.mark.parametrize("norm", ["none", "batch", "threshold"])
def test_other_norms_are_calibrated_too(norm):
    network, batch = _deep(norm), _batch(3.0)
    reached = calibrate(network, batch)
    for layer, rate in _rates(network, batch).items():
        assert rate == pytest.approx(0.1, rel=0.1), layer.name
        assert rate == reached[layer.name]


def test_without_a_norm_only_the_scale_of_the_weights_changes():
    network = _deep("none")
    before = network.layers["b"].weight.detach().clone()
    calibrate(network, _batch(3.0))
    ratio = network.layers["b"].weight.detach() / before
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio))
    assert ratio.mean().item() != pytest.approx(1.0, abs=0.01)


def test_frozen_layers_are_left_alone():
    network = _deep("affine")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    reached = calibrate(network, _batch())
    assert list(reached) == ["a", "b", "c"]
    assert all(torch.equal(network.state_dict()[k], v) for k, v in before.items())


def _blocks():
    torch.manual_seed(4)
    body = {"conv1": SpikingConv2d(8, 8, 3, padding=1), "conv2": SpikingConv2d(8, 8, 3, padding=1)}
    return {
        "stem": SpikingConv2d(1, 8, 3, padding=1, analog_input=True),
        "block": Residual(Residual(body, connect="iand"), SpikingConv2d(8, 8, 1)),
        "pool": GlobalAvgPool2d(),
        "memory": SpikingRecurrent(8, 20, analog_input=True),
        "out": Readout(20, 3),
    }


def test_nested_and_recurrent_layers_are_calibrated_in_the_order_in_which_they_run():
    network, batch = SpikingNetwork(_blocks()), _batch()
    reached = calibrate(network, batch, 0.15)
    assert list(reached) == ["stem", "block.body.body.conv1", "block.body.body.conv2", "block.shortcut", "memory"]
    for layer, rate in _rates(network, batch).items():
        assert rate == pytest.approx(0.15, rel=0.1), layer.name
        assert rate == reached[layer.name]


def test_any_module_can_be_calibrated():
    model = nn.Sequential(*_blocks().values())
    network = SpikingNetwork(_blocks())
    reached = calibrate(model, _batch())
    assert list(reached) == ["0", "1.body.body.conv1", "1.body.body.conv2", "1.shortcut", "3"]
    assert list(calibrate(network, _batch()).values()) == list(reached.values())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_layer_used_twice_is_calibrated_on_its_first_input():
    layer = SpikingLinear(20, 20, analog_input=True)
    x = torch.rand(4, 8, 20, generator=torch.Generator().manual_seed(5))
    calibrate(nn.Sequential(layer, layer), x)
    assert layer(x).mean().item() == pytest.approx(0.1, rel=0.1)


def test_hooks_go_after_an_error_too():
    model = nn.Sequential(SpikingLinear(4, 3), SpikingLinear(5, 3))
    with pytest.raises(ValueError, match=r"\(T, B, 5\)"):
        calibrate(model, torch.zeros(2, 2, 4))
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_layer_without_input_stays_silent():
    network = SpikingNetwork({"a": SpikingLinear(4, 3, analog_input=True)})
    assert calibrate(network, torch.zeros(2, 2, 4)) == {"a": 0.0}


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, float("nan")])
def test_calibration_refuses_impossible_rates(target):
    with pytest.raises(ValueError, match="target rate"):
        calibrate(_deep(), torch.zeros(1, 1, 1, 12, 12), target)
