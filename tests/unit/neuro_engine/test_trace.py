"""Operation counts against loops that count one by one, and that counting changes nothing."""

import itertools

import pytest
import torch

from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neuro_engine.cost.networks import NetworkShape
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_layer
from neuro_engine.layers import Flatten, MaxPool2d, Readout, SpikingConv2d, SpikingLinear
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF, fire, fire_backward
from neuro_engine.surrogate import triangle
from neuro_engine.synapse import ConvSynapse
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace

CHIP = Chip.load("core20_28nm")
GEOMETRIES = [(1, 0), (1, 1), (2, 0), (2, 1)]


def _sparse(shape, density, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) < density
    return torch.randn(shape, generator=generator) * mask


def _conv_operations(x, grad, weight_shape, stride, padding):
    """(dense, FP, BP, WG) operations, one by one."""
    (out_channels, in_channels, k, _), (n, _, rows, columns) = weight_shape, x.shape
    dense = forwards = backwards = weights = 0
    for i, o, r, c in itertools.product(range(n), range(out_channels), range(grad.shape[2]), range(grad.shape[3])):
        for ic, dr, dc in itertools.product(range(in_channels), range(k), range(k)):
            dense += 1
            row, column = r * stride + dr - padding, c * stride + dc - padding
            if not (0 <= row < rows and 0 <= column < columns):
                continue
            fires, errs = bool(x[i, ic, row, column] != 0), bool(grad[i, o, r, c] != 0)
            forwards, backwards, weights = forwards + fires, backwards + errs, weights + (fires and errs)
    return dense, forwards, backwards, weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("stride", "padding"), GEOMETRIES)
def test_the_engines_record_what_they_did(stride, padding, dtype):
    trace, surrogate, neuron = Trace(), triangle(0.5), LIF()
    spec = LayerSpec("c", ConvSynapse(stride, padding), neuron, surrogate, trace=trace)
    generator = torch.Generator().manual_seed(6)
    spikes = (_sparse((3, 2, 2, 5, 5), 0.3, 5) != 0).to(dtype)
    # Multiples of 1/8: sums are exact in any order, so all ways of counting see the same zeros.
    weight = torch.randint(-8, 9, (3, 2, 3, 3), generator=generator).to(dtype) / 8
    tensors = [t.requires_grad_() for t in (spikes.clone(), weight, torch.zeros(3, dtype=dtype))]
    output = run_layer(*tensors, spec)
    output.sum().backward()
    current = spec.synapse.current(spikes.flatten(0, 1), weight.detach(), None).unflatten(0, (3, 2))
    wanted, membrane = fire(current, neuron)
    assert torch.equal(output.detach(), wanted)
    grad, _ = fire_backward(torch.ones_like(wanted), membrane, neuron, surrogate)
    folded = spikes.flatten(0, 1), grad.flatten(0, 1)
    dense, forwards, backwards, weights = _conv_operations(*folded, weight.shape, stride, padding)
    fp, bp, wg = (trace.count("c", engine) for engine in (Engine.FP, Engine.BP, Engine.WG))
    assert (fp.dense_ops, fp.executed_ops, fp.multiplies, fp.neuron_updates) == (dense, forwards, False, grad.numel())
    assert (bp.dense_ops, bp.executed_ops, bp.multiplies, bp.neuron_updates) == (dense, backwards, True, grad.numel())
    assert (wg.dense_ops, wg.executed_ops, wg.multiplies, wg.neuron_updates) == (dense, weights, False, 0)
    assert 0 < weights < forwards < dense
    assert fp.step_events == tuple(wanted.sum((1, 2, 3, 4)).to(torch.int64).tolist())
    assert bp.step_events == tuple((grad != 0).sum((1, 2, 3, 4)).tolist())
    alone = [_conv_operations(*step, weight.shape, stride, padding) for step in zip(spikes, grad, strict=True)]
    assert [fp.step_ops, bp.step_ops, wg.step_ops] == list(zip(*alone, strict=True))[1:]
    assert trace.spike_rate("c") == wanted.mean(dtype=torch.float64).item()
    nonzeros = int((grad != 0).sum())
    assert trace.gradient_density("c") == nonzeros / grad.numel()
    sparse_bytes = -(-grad.numel() // 8) + 2 * nonzeros
    assert bp.writes[TensorClass.GRADIENT] == TensorCount(grad.numel(), nonzeros, sparse_bytes)
    assert fp.reads[TensorClass.SPIKES] == TensorCount(spikes.numel(), int(spikes.sum()), -(-spikes.numel() // 8))
    assert fp.writes[TensorClass.MEMBRANE].bytes == 2 * output.numel()
    assert wg.writes[TensorClass.WEIGHT_GRADIENT].bytes == 4 * weight.numel()


def _network(seed=0):
    torch.manual_seed(seed)
    return SpikingNetwork(
        {
            "first": SpikingConv2d(1, 4, 3, padding=1, analog_input=True),
            "pool": MaxPool2d(2),
            "second": SpikingConv2d(4, 4, 3, stride=2),
            "flatten": Flatten(),
            "hidden": SpikingLinear(16, 8),
            "readout": Readout(8, 3),
        }
    )


def _train(tracing, steps=4):
    network = _network()
    with torch.no_grad():
        for _, layer in network.engine_layers():
            if hasattr(layer, "gain"):
                layer.gain.fill_(3.0)
    group = CoreGroup(network, CHIP, tracing=tracing)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    done = []
    for _ in range(steps):
        x = torch.rand(4, 5, 1, 10, 10, generator=generator)
        y = torch.randint(0, 3, (5,), generator=generator)
        done.append(group.train_step(x, y, torch.nn.functional.cross_entropy, optimizer))
    return network, done


def test_tracing_changes_no_bit():
    (traced, with_trace), (plain, without) = _train(True), _train(False)
    start = _network().state_dict()
    assert [s.loss for s in with_trace] == [s.loss for s in without]
    assert all(torch.equal(a.outputs, b.outputs) for a, b in zip(with_trace, without, strict=True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(traced.state_dict()[name], tensor), name
        assert not torch.equal(start[name], tensor), f"{name} was not trained: the comparison shows nothing"
    assert all(s.trace is None for s in without)


def test_the_first_layer_writes_no_gradient_to_memory():
    _, steps = _train(True, steps=1)
    trace = steps[0].trace
    first, second = trace.count("first", Engine.BP), trace.count("second", Engine.BP)
    assert first.writes[TensorClass.GRADIENT].bytes == 0
    assert first.writes[TensorClass.GRADIENT].nonzeros > 0
    assert TensorClass.GRADIENT not in first.reads
    assert (first.dense_ops, first.executed_ops) == (0, 0)
    assert second.writes[TensorClass.GRADIENT].bytes > 0
    assert trace.count("first", Engine.FP).multiplies
    assert not trace.count("second", Engine.FP).multiplies
    assert trace.layers == ("first", "second", "hidden", "readout")
    assert (trace.steps, trace.samples) == (1, 5)


def test_adam_counts_the_weight_and_two_moments():
    network, steps = _train(True, steps=1)
    for name, layer in network.engine_layers():
        weights = sum(p.numel() for p in layer.parameters())
        update = steps[0].trace.count(name, Engine.UPDATE)
        assert update.reads[TensorClass.OPTIMIZER].elements == 3 * weights
        assert update.writes[TensorClass.WEIGHTS].bytes == 2 * weights


def test_a_network_forgets_its_trace_after_an_error():
    network = _network()

    def fail():
        with network.recording(Trace()):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert all(layer.trace is None for _, layer in network.engine_layers())


def test_a_neuron_without_surrogate_gradient_still_passes_its_membrane_on():
    surrogate, neuron = triangle(0.5), LIF(leak=0.5, gain=1.0, reset="hard")
    current = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    spikes, membrane = fire(current, neuron)
    assert not spikes.any()
    phi = surrogate.derivative(membrane - neuron.threshold)
    assert phi[0] == 0
    assert phi[1] > 0
    grad, _ = fire_backward(torch.tensor([[5.0], [1.0]], dtype=torch.float64), membrane, neuron, surrogate)
    assert grad[0].item() == pytest.approx(0.5 * phi[1].item())


def test_traces_add_up():
    count = EngineCount(10, 4, False, 3, {TensorClass.SPIKES: TensorCount(8, 2, 1)}, {})
    one, two = Trace(), Trace()
    for trace, samples in ((one, 3), (two, 4)):
        trace.steps, trace.samples = 1, samples
        trace.record("a", Engine.FP, count)
    two.record("b", Engine.WG, count)
    one += two
    assert (one.steps, one.samples, one.layers) == (2, 7, ("a", "b"))
    assert one.count("a", Engine.FP) == count + count
    assert one.count("a", Engine.FP).reads[TensorClass.SPIKES] == TensorCount(16, 4, 2)
    assert one.count("b", Engine.WG) == count
    assert one.count("missing", Engine.BP) == EngineCount()
    assert one.spike_rate("missing") == 0.0
    assert one.gradient_density("missing") == 0.0


@pytest.mark.parametrize("constant", [False, True])
def test_normalisation_by_batch_goes_through_its_current_again(constant):
    x = (torch.rand(3, 4, 2, 6, 6) < 0.3).float()
    x = x[:1].expand(3, -1, -1, -1, -1) if constant else x
    traces = {}
    for norm in ("weight", "batch"):
        layer = SpikingConv2d(2, 5, 3, norm=norm, analog_input=True)
        network = SpikingNetwork({"conv": layer})
        traces[norm] = trace = Trace()
        with network.recording(trace):
            network(x).sum().backward()
    current = 2 * (1 if constant else 3) * 4 * 5 * 4 * 4  # bytes: 16 bit for each value of the current
    fp, bp = (traces["batch"].count("conv", engine) for engine in (Engine.FP, Engine.BP))
    assert [side[TensorClass.CURRENT].bytes for side in (fp.reads, fp.writes)] == [current, current]
    assert [side[TensorClass.CURRENT].bytes for side in (bp.reads, bp.writes)] == [3 * current, current]
    assert all(TensorClass.CURRENT not in count.reads for _, _, count in traces["weight"])
    shape = NetworkShape("one", dict(traces["batch"].geometry), "batch", frozenset({"conv"}))
    expected = synthetic_trace(shape, batch=4)
    for engine, count in ((Engine.FP, fp), (Engine.BP, bp)):
        assert expected.count("conv", engine).reads[TensorClass.CURRENT] == count.reads[TensorClass.CURRENT]
        assert expected.count("conv", engine).writes[TensorClass.CURRENT] == count.writes[TensorClass.CURRENT]
