import math

import pytest
import torch
import torch.nn.functional as F

from neuro_engine.layers import (
    BatchNorm,
    FrozenAffine,
    SpikingConv2d,
    SpikingConvTranspose2d,
    SpikingLinear,
    standardise,
)
from neuro_engine.neuron import LIF

EPSILON = 1e-5


def _generator(seed):
    return torch.Generator().manual_seed(seed)


def _plain_standardise(weight, gain):
    fan_in = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(fan_in, keepdim=True)
    norm = torch.sqrt(centred.square().sum(fan_in, keepdim=True) + EPSILON)
    return gain.view(-1, *(1 for _ in fan_in)) * centred / norm


@pytest.mark.parametrize("shape", [(4, 50), (3, 4, 3, 3)])
def test_standardised_weights_have_mean_zero_and_the_gain_as_norm(shape):
    weight = torch.randn(shape, dtype=torch.float64, generator=_generator(0)) * 3 + 2
    gain = torch.linspace(0.5, 4, shape[0], dtype=torch.float64)
    rows = standardise(weight, gain).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros_like(gain), atol=1e-12, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), gain, rtol=1e-5, atol=0)


def test_the_scale_of_standardised_weights_drops_out():
    weight, gain = torch.randn(4, 30, generator=_generator(1)).double(), torch.ones(4).double()
    torch.testing.assert_close(standardise(weight, gain), standardise(weight * 7 - 3, gain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 50), (3, 4, 3, 3), (1, 1), (2, 3, 1, 1)])
@pytest.mark.parametrize("scale", [1e-3, 0.05, 1.0])
def test_gradients_of_standardise_are_those_of_autograd(shape, scale):
    weight = (torch.randn(shape, dtype=torch.float64, generator=_generator(2)) * scale + scale).requires_grad_()
    gain = torch.linspace(-1, 4, shape[0], dtype=torch.float64).requires_grad_()
    grad = torch.randn(shape, dtype=torch.float64, generator=_generator(3))
    outputs = [f(weight, gain) for f in (standardise, _plain_standardise)]
    ours, wanted = (torch.autograd.grad(y, [weight, gain], grad) for y in outputs)
    assert torch.allclose(*outputs, rtol=1e-12, atol=1e-12)
    for a, b in zip(ours, wanted, strict=True):
        assert (a - b).abs().max() <= 1e-12 * max(1.0, b.abs().max().item())


def test_standardise_takes_weights_and_gradients_of_any_strides():
    weight = torch.randn(6, 4, 3, 3, dtype=torch.float64, generator=_generator(4))
    grad = torch.randn(6, 4, 3, 3, dtype=torch.float64, generator=_generator(5))
    gain, results = torch.ones(6, dtype=torch.float64), []
    for layout in (torch.contiguous_format, torch.channels_last):
        w = weight.to(memory_format=layout).requires_grad_()
        y = standardise(w, gain)
        results.append((y, *torch.autograd.grad(y, w, grad.to(memory_format=layout))))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-14) for a, b in zip(*results, strict=True))


def test_transposed_convolutions_are_standardised_over_the_fan_in_of_an_output():
    layer = SpikingConvTranspose2d(4, 6, 3, groups=2)
    weight, _ = layer.synapse_weights()
    for group in range(2):
        for output in range(3):
            fan_in = weight[2 * group : 2 * group + 2, output]
            assert fan_in.mean().item() == pytest.approx(0.0, abs=1e-6)
            assert fan_in.norm().item() == pytest.approx(1.0, rel=1e-3)


def _reference_batch_norm(current, gamma, beta, factor=1.0):
    axes = (0, 1, 3, 4)
    mean, variance = current.mean(axes, keepdim=True), current.var(axes, correction=0, keepdim=True)
    shape = (1, 1, -1, 1, 1)
    return gamma.view(shape) * factor * (current - mean) / torch.sqrt(variance + EPSILON) + beta.view(shape)


def _layer(norm, threshold=1.0, **settings):
    torch.manual_seed(6)
    neuron = LIF(threshold=threshold)
    return SpikingConv2d(2, 3, 3, padding=1, norm=norm, neuron=neuron, analog_input=True, **settings)


@pytest.mark.parametrize(("norm", "factor"), [("batch", 1.0), ("threshold", 0.7)])
def test_batch_norm_is_over_time_batch_and_positions(norm, factor):
    layer = _layer(norm, threshold=0.7)
    with torch.no_grad():
        layer.norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.norm.bias.copy_(torch.tensor([0.1, 0.0, -0.3]))
    x = torch.rand(4, 2, 2, 5, 5, generator=_generator(7))
    plain = F.conv2d(x.flatten(0, 1), layer.weight, None, 1, 1).unflatten(0, (4, 2))
    wanted = _reference_batch_norm(plain, layer.norm.weight, layer.norm.bias, factor)
    torch.testing.assert_close(layer.current(x), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * plain.mean((0, 1, 3, 4)))
    spikes = layer(x)
    assert 0 < spikes.mean() < 1
    spikes.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())


def test_threshold_dependent_currents_begin_with_the_spread_of_the_threshold():
    layer = SpikingLinear(40, 20, norm="threshold", neuron=LIF(threshold=0.3), analog_input=True)
    current = layer.current(torch.randn(8, 16, 40, generator=_generator(8)))
    assert current.std((0, 1), correction=0).detach() == pytest.approx(torch.full((20,), 0.3), rel=1e-3)


def test_alpha_is_a_factor_of_a_norm_of_ones_own():
    alpha = 1 / math.sqrt(2)
    layer = _layer(lambda channels, neuron: BatchNorm(channels, alpha * neuron.threshold), threshold=0.5)
    assert layer.norm.factor == pytest.approx(0.5 * alpha)
    with pytest.raises(ValueError, match=r"expected a norm of .* got 'wait'"):
        _layer("wait")


@pytest.mark.parametrize("training", [True, False])
def test_a_constant_input_is_normalised_as_any_other(training):
    frame = torch.rand(1, 4, 2, 5, 5, generator=_generator(9))
    results = []
    for x in (frame.expand(3, -1, -1, -1, -1), frame.repeat(3, 1, 1, 1, 1)):
        layer = _layer("batch").train(training)
        current = layer.current(x)
        weights = torch.linspace(-1, 1, current.numel()).view_as(current)
        results.append((current, *torch.autograd.grad((current * weights).sum(), list(layer.parameters()))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "threshold"])
def test_a_folded_batch_norm_is_what_it_was_in_evaluation(norm):
    layer = _layer(norm, threshold=0.8)
    with torch.no_grad():
        layer.norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.norm.bias.copy_(torch.tensor([0.1, 0.0, -0.3]))
    x = torch.rand(4, 2, 2, 5, 5, generator=_generator(10))
    for _ in range(3):
        layer(x)
    layer.eval()
    current, spikes = layer.current(x), layer(x)
    layer.fold_norm()
    assert isinstance(layer.norm, FrozenAffine)
    torch.testing.assert_close(layer.current(x), current, rtol=1e-4, atol=1e-5)
    assert torch.equal(layer(x), spikes)
    assert 0 < spikes.mean() < 1
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    with pytest.raises(ValueError, match="expected a layer with batch normalisation, got FrozenAffine"):
        layer.fold_norm()


@pytest.mark.parametrize(
    ("norm", "keys"),
    [
        ("weight", ["weight", "gain", "bias"]),
        ("none", ["weight", "bias"]),
        ("affine", ["weight", "norm.scale", "norm.shift"]),
        ("batch", ["weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]),
        ("threshold", ["weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]),
    ],
)
def test_state_dict_keys(norm, keys):
    assert list(_layer(norm).state_dict()) == keys


def test_without_a_norm_the_weights_are_used_as_they_are():
    layer = _layer("none")
    x = torch.rand(3, 2, 2, 5, 5, generator=_generator(11))
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.1, -0.2, 0.3]))
    wanted = F.conv2d(x.flatten(0, 1), layer.weight, layer.bias, 1, 1).unflatten(0, (3, 2))
    torch.testing.assert_close(layer.current(x), wanted)


def test_one_value_has_no_statistics():
    layer = SpikingLinear(3, 2, norm="batch", analog_input=True)
    with pytest.raises(ValueError, match=r"more than one value per channel in training, got \(1, 1, 2\)"):
        layer(torch.ones(1, 1, 3))
    assert layer.eval()(torch.ones(1, 1, 3)).shape == (1, 1, 2)


def test_spikes_of_a_layer_do_not_depend_on_whether_its_halves_run_apart():
    """Batch norm takes the engines' halves, weight norm the whole; both see the same neuron."""
    whole = _layer("none")
    halves = _layer("batch").eval()
    with torch.no_grad():
        halves.weight.copy_(whole.weight * 3)
        whole.weight.mul_(3)
        halves.norm.running_var.fill_(1.0 - EPSILON)
    x = torch.rand(4, 2, 2, 5, 5, generator=_generator(12)) * 2
    torch.testing.assert_close(whole(x), halves(x), rtol=0, atol=0)
    assert 0 < whole(x).mean() < 1
