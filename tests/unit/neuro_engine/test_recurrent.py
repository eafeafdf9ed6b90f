"""The recurrent layer against the same equations written with plain autograd operations."""

from itertools import product

import pytest
import torch

from neuro_engine.layers import SpikingLinear, SpikingRecurrent
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import triangle
from neuro_engine.trace import Engine, TensorClass, Trace


class _Spike(torch.autograd.Function):
    """Step forward, triangle of width 1 backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1 - x.abs()).clamp(min=0)


def _reference(layer, x):
    """Step by step from the formulas of the neuron."""
    neuron = layer.neuron
    leak = neuron.leak if layer.leak_logit is None else torch.sigmoid(layer.leak_logit)
    zero = torch.zeros(x.shape[1], layer.weight.shape[0], dtype=x.dtype)
    i = v = a = s = zero
    spikes = []
    for frame in x:
        i = neuron.synapse_leak * i + frame @ layer.weight.T + layer.bias + s @ layer.recurrent_weight.T
        h = leak * v + neuron.gain * (1 - leak if neuron.decay_input else 1) * i
        a = neuron.adaptation_leak * a + (s.detach() if neuron.detach_reset else s)
        s = _Spike.apply(h - neuron.threshold - neuron.adaptation * a)
        r = s.detach() if neuron.detach_reset else s
        v = {"hard": h * (1 - r), "soft": h - neuron.drop * r, "none": h}[neuron.reset]
        spikes.append(s)
    return torch.stack(spikes)


def _layer(neuron, seed=0, inputs=6, outputs=8):
    torch.manual_seed(seed)
    layer = SpikingRecurrent(
        inputs, outputs, norm="none", neuron=neuron, surrogate=triangle(), analog_input=True
    ).double()
    with torch.no_grad():
        layer.weight.mul_(2)
        layer.recurrent_weight.mul_(2)
        layer.bias.fill_(0.2)
    return layer


NEURONS = [
    LIF(0.75, reset=reset, detach_reset=detach, threshold=0.8)
    for reset, detach in product(["hard", "soft", "none"], [True, False])
]
NEURONS += [
    LIF(0.6, gain=0.5, synapse_leak=0.5),
    LIF(0.6, reset="soft", adaptation=0.3, adaptation_leak=0.8),
    LIF(0.6, reset="soft", adaptation=0.3, detach_reset=False),
    LIF(0.7, learn_leak=True, detach_reset=False),
    LIF(0.6, gain=2.0, learn_leak=True, decay_input=True),
    LIF(0.7, reset="soft", learn_leak=True, adaptation=0.2, synapse_leak=0.3),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_gradients_through_time_are_those_of_autograd(neuron):
    layer = _layer(neuron)
    x = torch.rand(7, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    tensors, results = [x, *layer.parameters()], []
    for run in (layer, lambda x: _reference(layer, x)):
        spikes = run(x)
        weights = torch.linspace(-1, 1.5, spikes.numel(), dtype=torch.float64).view_as(spikes)
        results.append((spikes, torch.autograd.grad((spikes * weights).sum() + spikes.mean(0).square().sum(), tensors)))
    (ours, ours_grads), (wanted, wanted_grads) = results
    assert torch.equal(ours, wanted)
    assert 0 < ours.mean() < 1
    assert all(g.abs().max() > 0 for g in wanted_grads)
    worst = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours_grads, wanted_grads, strict=True))
    assert worst <= 1e-10


def test_without_recurrent_weights_it_is_a_linear_layer():
    torch.manual_seed(2)
    recurrent, linear = SpikingRecurrent(6, 8, analog_input=True), SpikingLinear(6, 8, analog_input=True)
    with torch.no_grad():
        recurrent.gain.fill_(3.0)
        recurrent.recurrent_weight.zero_()
    linear.load_state_dict({k: v for k, v in recurrent.state_dict().items() if k != "recurrent_weight"})
    x = torch.rand(5, 3, 6)
    assert torch.equal(recurrent(x), linear(x))
    assert 0 < linear(x).mean() < 1


def test_state_dict_keys():
    assert list(SpikingRecurrent(3, 2).state_dict()) == ["weight", "gain", "bias", "recurrent_weight"]


def _traced(tracing):
    torch.manual_seed(3)
    network = SpikingNetwork({"lower": SpikingLinear(5, 6, analog_input=True), "rec": SpikingRecurrent(6, 4)})
    with torch.no_grad():
        for _, layer in network.engine_layers():
            layer.gain.fill_(3.0)
    trace = Trace() if tracing else None
    spikes = []
    hook = network.layers["lower"].register_forward_hook(lambda _, __, y: spikes.append(y.detach()))
    with network.recording(trace):
        out = network(torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(4)))
        out.sum().backward()
    hook.remove()
    return network, trace, spikes[0], out.detach()


def test_a_trace_counts_the_recurrent_connection_step_by_step():
    _, trace, lower, out = _traced(True)
    steps, batch, outputs = out.shape
    assert trace.layers == ("lower", "rec", "rec.recurrent")
    whole, own = ({engine: trace.count(name, engine) for engine in Engine} for name in ("rec", "rec.recurrent"))
    fired = out.sum((1, 2)).to(torch.int64).tolist()
    assert 0 < sum(fired) < out.numel()
    assert whole[Engine.FP].step_ops == tuple((lower.sum((1, 2)) * outputs).to(torch.int64).tolist())
    assert whole[Engine.FP].step_events == tuple(fired)
    assert whole[Engine.FP].neuron_updates == whole[Engine.BP].neuron_updates == out.numel()
    assert trace.spike_rate("rec") == out.double().mean().item()
    # At step t the connection takes the spikes of step t - 1.
    assert own[Engine.FP].step_ops == (0, *(n * outputs for n in fired[:-1]))
    assert own[Engine.FP].executed_ops == sum(fired[:-1]) * outputs
    assert own[Engine.FP].dense_ops == own[Engine.WG].dense_ops == (steps - 1) * batch * outputs**2
    assert own[Engine.BP].step_events[1:] == whole[Engine.BP].step_events[1:]
    assert own[Engine.BP].executed_ops == sum(own[Engine.BP].step_events) * outputs
    assert own[Engine.WG].executed_ops <= own[Engine.BP].executed_ops
    # The weights are read, and their gradient is written, once a batch; the current's gradient by the other synapse.
    for engine in (Engine.FP, Engine.BP):
        assert own[engine].reads[TensorClass.WEIGHTS].elements == outputs**2
    assert own[Engine.WG].writes[TensorClass.WEIGHT_GRADIENT].elements == outputs**2
    assert own[Engine.BP].writes[TensorClass.GRADIENT].bytes == 0
    assert not own[Engine.FP].multiplies


def test_tracing_changes_no_bit():
    (traced, _, _, with_trace), (plain, _, _, without) = _traced(True), _traced(False)
    assert torch.equal(with_trace, without)
    for a, b in zip(traced.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("norm", ["weight", "batch"])
def test_in_half_precision_spikes_are_stored_in_half(norm):
    torch.manual_seed(5)
    network = SpikingNetwork({"rec": SpikingRecurrent(6, 8, norm=norm, analog_input=True)})
    network.set_precision("fp16")
    spikes = network(torch.rand(5, 3, 6) * 4)
    assert spikes.dtype == torch.float16
    spikes.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
