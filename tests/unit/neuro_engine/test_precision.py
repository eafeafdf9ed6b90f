"""Number formats: what is stored is rounded, what is accumulated is not; loss scaling."""

import pytest
import torch

from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_layer
from neuro_engine.engines.storage import stored, to_storage
from neuro_engine.kernels import native
from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.precision import FP16, FP16_STOCHASTIC, FP32, precision
from neuro_engine.surrogate import triangle
from neuro_engine.synapse import ConvSynapse, LinearSynapse
from neuro_engine.trace import Engine

native_only = pytest.mark.skipif(native.library() is None, reason="no kernels for this machine and no compiler")


def _tensors(seed, synapse):
    generator = torch.Generator().manual_seed(seed)
    convolution = isinstance(synapse, ConvSynapse)
    x = (torch.rand((4, 3, 20, 6, 6) if convolution else (4, 3, 40), generator=generator) < 0.2).float()
    shape, scale = ((18, 20, 3, 3), 0.15) if convolution else ((24, 40), 0.4)
    weight = torch.randn(shape, generator=generator) * scale
    # Numbers that binary16 holds exactly: rounding then is only that of what the engines compute.
    weight = weight.half().float()
    return x, weight, torch.linspace(-0.25, 0.5, len(weight)).half().float()


def _gradients(x, weight, bias, synapse, number_format, dtype):
    spec = LayerSpec("layer", synapse, LIF(), triangle(), precision=number_format)
    leaves = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
    spikes = run_layer(*leaves, spec)
    target = torch.linspace(-1, 1, spikes.numel(), dtype=torch.float64).view_as(spikes)
    loss = (spikes.to(torch.float64) * target).sum()
    return spikes.detach().double(), [g.double() for g in torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("synapse", [ConvSynapse(1, 1), ConvSynapse(2, 1), LinearSynapse()], ids=str)
@pytest.mark.parametrize(("number_format", "limit"), [(FP32, 1e-5), (FP16, 2e-3)], ids=["fp32", "fp16"])
@pytest.mark.parametrize("crossover", ["0", "1.1"], ids=["dense", "events"])
def test_gradients_are_those_of_float64(synapse, number_format, limit, crossover, monkeypatch):
    monkeypatch.setenv("NEUROFED_CROSSOVER", crossover)
    x, weight, bias = _tensors(3, synapse)
    wanted_spikes, wanted = _gradients(x, weight, bias, synapse, FP32, torch.float64)
    spikes, found = _gradients(x, weight, bias, synapse, number_format, torch.float32)
    assert torch.equal(spikes, wanted_spikes)
    assert 0.05 < spikes.mean() < 0.95
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() / b.norm() <= limit


@pytest.mark.parametrize("name", ["fp16", "fp32", "bf16", "fp16-stochastic"])
def test_a_network_trains_in_every_format(name):
    torch.manual_seed(0)
    network = SpikingNetwork(
        {
            "conv": SpikingConv2d(1, 16, 3, padding=1, analog_input=True),
            "pool": MaxPool2d(2),
            "conv2": SpikingConv2d(16, 16, 3, padding=1),
            "flatten": Flatten(),
            "out": Readout(16 * 16, 2),
        }
    )
    for layer in ("conv", "conv2"):
        network.layers[layer].gain.data.fill_(3.0)
    network.set_precision(name)
    labels = torch.arange(16) % 2
    x = torch.rand(2, 16, 1, 8, 8) * 0.3 + labels.view(1, 16, 1, 1, 1)
    optimizer, losses = torch.optim.Adam(network.parameters(), 1e-2), []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_what_passes_between_layers_is_what_is_stored():
    x, weight, bias = _tensors(5, LinearSynapse())
    spec = LayerSpec("layer", LinearSynapse(), LIF(), triangle(), precision=FP16)
    seen = []
    x = x.half().requires_grad_()
    spikes = run_layer(x, weight.requires_grad_(), bias, spec)
    spikes.register_hook(lambda g: seen.append(g.dtype))
    spikes.float().sum().backward()
    assert spikes.dtype == x.grad.dtype == torch.float16
    assert seen == [torch.float16]
    assert weight.grad.dtype == torch.float32


def test_rounding_to_storage_is_to_nearest_even():
    x = torch.tensor([1.0, 1 + 2**-11, 1 + 3 * 2**-11, 1e-8, 65504.0, 70000.0, -2.5e-6])
    wanted = torch.tensor([1.0, 1.0, 1 + 2**-9, 0.0, 65504.0, float("inf"), -42 * 2.0**-24])
    assert torch.equal(to_storage(x, FP16).float(), wanted)
    assert torch.equal(stored(x[:5], FP16), wanted[:5].half())
    assert torch.equal(stored(x, FP32), x)


@pytest.mark.parametrize(("value", "number_format"), [(float("nan"), FP32), (float("inf"), FP16), (7e4, FP16)])
def test_weights_that_are_no_numbers_are_refused(value, number_format):
    weight = torch.ones(3, 4)
    weight[1, 2] = value
    spec = LayerSpec("layer", LinearSynapse(), LIF(), triangle(), precision=number_format)
    with pytest.raises(ValueError, match=r"weights \(3, 4\): expected finite numbers in fp.*, got NaN or infinity"):
        run_layer(torch.ones(2, 1, 4), weight, None, spec)


@native_only
def test_the_rounding_kernel_is_torchs():
    x = torch.randn(3001, generator=torch.Generator().manual_seed(0)) * torch.logspace(-9, 6, 3001)
    assert torch.equal(native.round_half(x), x.half().float())
    with pytest.raises(ValueError, match="expected float32"):
        native.round_half(x.double())


def test_stochastic_rounding_has_no_bias():
    torch.manual_seed(1)
    value = 1 + 0.3 * 2**-10
    x = torch.full((200_000,), value)
    rounded = to_storage(x, FP16_STOCHASTIC).double()
    assert set(rounded.unique().tolist()) == {1.0, 1 + 2**-10}
    assert rounded.mean().item() == pytest.approx(value, abs=5 * 2**-10 * (0.21 / 200_000) ** 0.5)
    exact = torch.tensor([0.5, -3.0, 0.0, 1024.0])
    assert torch.equal(to_storage(exact, FP16_STOCHASTIC).float(), exact)


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"expected a precision of .*'fp16'.*, got 'fp8'"):
        precision("fp8")


def _group(name):
    torch.manual_seed(0)
    network = SpikingNetwork({"a": SpikingLinear(4, 8, analog_input=True), "out": Readout(8, 2)})
    return CoreGroup(network, Chip.load("core20_28nm"), precision=name)


@pytest.mark.parametrize("name", ["fp16", "fp32"])
def test_the_core_group_leaves_out_a_step_whose_gradients_overflow(name):
    group = _group(name)
    optimizer = torch.optim.SGD(group.network.parameters(), 0.1)
    x, y = torch.rand(3, 5, 4), torch.arange(5) % 2
    before = [p.clone() for p in group.network.parameters()]
    scale = group.scaler.get_scale()
    step = group.train_step(x, y, lambda out, t: torch.nn.functional.cross_entropy(out, t) * 1e38 * 10, optimizer)
    moved = any(not torch.equal(a, b) for a, b in zip(before, group.network.parameters(), strict=True))
    assert step.applied != (name == "fp16")
    assert moved == (name == "fp32")
    assert (step.trace.count("a", Engine.UPDATE).dense_ops > 0) == step.applied
    if name == "fp16":
        assert group.scaler.get_scale() == scale / 2
        assert group.train_step(x, y, torch.nn.functional.cross_entropy, optimizer).applied
        group.reset()
        assert group.scaler.get_scale() == scale
