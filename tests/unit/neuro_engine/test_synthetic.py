"""Synthetic traces against those that the engines leave, and against sums done by hand."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_engine.chip import Chip
from neuro_engine.core_group import CoreGroup
from neuro_engine.cost.networks import NetworkShape, network
from neuro_engine.cost.synthetic import LayerSparsity, Sparsity, synthetic_trace
from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_synapse
from neuro_engine.geometry import Geometry
from neuro_engine.layers import (
    Flatten,
    MaxPool2d,
    Readout,
    Residual,
    SpikingConv2d,
    SpikingConvTranspose2d,
    SpikingLinear,
)
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.synapse import ConvSynapse
from neuro_engine.trace import Engine, TensorClass, TensorCount, Trace

BATCH = 5


def _trained_step(norm="weight", *, static=True, optimizer=torch.optim.Adam):
    """The trace of a step of a network with every kind of layer."""
    torch.manual_seed(0)
    net = SpikingNetwork(
        {
            "first": SpikingConv2d(1, 8, 3, padding=1, norm=norm, analog_input=True),
            "block": Residual({"conv": SpikingConv2d(8, 8, 3, padding=1, norm=norm, groups=2)}),
            "pool": MaxPool2d(2),
            "down": SpikingConv2d(8, 8, 3, stride=2, padding=1, norm=norm),
            "up": SpikingConvTranspose2d(8, 4, 2, stride=2, norm=norm),
            "flatten": Flatten(),
            "hidden": SpikingLinear(4 * 36, 12, norm=norm),
            "readout": Readout(12, 3),
        }
    )
    with torch.no_grad():
        for _, layer in net.engine_layers():
            if getattr(layer, "gain", None) is not None:
                layer.gain.fill_(2.5)
    group = CoreGroup(net, Chip.load("core20_28nm"))
    x = torch.rand(1 if static else 4, BATCH, 1, 12, 12)
    y = torch.randint(0, 3, (BATCH,))
    return group.train_step(
        x.expand(4, -1, -1, -1, -1), y, torch.nn.functional.cross_entropy, optimizer(net.parameters())
    ).trace


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize(("norm", "optimizer", "moments"), [("weight", "Adam", 2), ("batch", "SGD", 0)])
def test_a_measured_sparsity_gives_the_trace_that_it_was_measured_from(norm, optimizer, moments, static):
    real = _trained_step(norm, static=static, optimizer=getattr(torch.optim, optimizer))
    shape = NetworkShape.of_trace(real, norm=norm)
    made = synthetic_trace(shape, Sparsity.measured(real), BATCH, moments)
    assert made.layers == real.layers
    assert dict(made.geometry) == dict(real.geometry)
    assert (made.steps, made.samples) == (real.steps, real.samples)
    for layer, engine, count in real:
        mine = made.count(layer, engine)
        at = f"{layer} {engine}"
        assert mine.dense_ops == count.dense_ops, at
        assert mine.multiplies == count.multiplies, at
        assert mine.neuron_updates == count.neuron_updates, at
        assert dict(mine.reads) == dict(count.reads), at  # elements, non-zeros and bytes
        assert dict(mine.writes) == dict(count.writes), at
        assert len(mine.step_ops) == len(count.step_ops), at
        assert engine is Engine.UPDATE or sum(mine.step_ops) == mine.executed_ops, at
        assert len(mine.step_events) == len(count.step_events), at
        assert sum(mine.step_events) == sum(count.step_events), at
        if layer in ("hidden", "readout") and engine in (Engine.FP, Engine.BP):
            assert mine.executed_ops == count.executed_ops, at  # each input meets each output: nothing depends on where
        assert (mine.executed_ops > 0) == (count.executed_ops > 0), at
    for layer in ("block.body.conv", "down"):
        _within_the_least_and_the_most_met(layer, real, made, shape)


def _within_the_least_and_the_most_met(layer, real, made, shape):
    """Each non-zero input takes part in 4 to 9 operations per output channel: FP's are between, wherever they are.

    Padding of 1 and a kernel of 3: in a corner 2 x 2 taps meet an output, inside 3 x 3; with stride 2 it is 1 to 4.
    """
    geometry = shape.layers[layer]
    least, most = (1, 4) if geometry.in_size != geometry.out_size else (4, 9)
    fan_out = geometry.out_channels // geometry.groups
    read = real.count(layer, Engine.FP).reads
    nonzeros = (read.get(TensorClass.INPUT) or read[TensorClass.SPIKES]).nonzeros
    for trace in (real, made):
        assert least * fan_out * nonzeros <= trace.count(layer, Engine.FP).executed_ops <= most * fan_out * nonzeros


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(3, 9), st.integers(3, 9)), st.integers(1, 2), st.integers(0, 1), st.integers(1, 2),
    st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.integers(0, 10**6),
)  # fmt: skip
def test_executed_operations_where_non_zeros_are_spread_evenly(sides, stride, padding, groups, rho, delta, seed):
    """The engines' counts on random bits lie within six standard deviations of the expectation.

    With N synapses inside the map, each input meeting at most F outputs and each output at most M inputs, the sum of
    x g over the synapses has, for independent bits, the variance N rho delta (1 - rho delta), and for each two
    synapses that share an input at most rho delta^2, that share an output at most rho^2 delta: together at most
    N (rho delta + F rho delta^2 + M rho^2 delta). FP (delta = 1) and BP (rho = 1) count inputs and gradients F and M
    times: variance at most N F rho and N M delta. Fixing the number of non-zeros, as a measured density does, makes
    the bits avoid each other and the variance no larger.
    """
    torch.manual_seed(seed)
    steps, batch, channels, outputs = 2, 2, 4 * groups, 6 * groups
    synapse, trace = ConvSynapse(stride, padding, groups), Trace()
    x = (torch.rand(steps, batch, channels, *sides) < rho).float().requires_grad_()
    weight = torch.randn(outputs, 4, 3, 3, requires_grad=True)
    current = run_synapse(x, weight, None, LayerSpec("c", synapse, LIF(), None, trace=trace))
    current.backward((torch.rand(current.shape) < delta).float())
    fp, bp, wg = (trace.count("c", engine) for engine in (Engine.FP, Engine.BP, Engine.WG))
    g = Geometry(channels, outputs, sides, tuple(current.shape[3:]), (3, 3), groups, steps, sources=("below",))
    below = Geometry(1, 1, steps=steps)
    shape = NetworkShape("n", {"below": below, "c": g}, windows={"c": (stride, padding)})
    rho = fp.reads[TensorClass.SPIKES].nonzeros / x.numel()
    delta = bp.writes[TensorClass.GRADIENT].nonzeros / current.numel()
    sparsity = Sparsity(layers={"c": LayerSparsity(input_density=rho, gradient_density=delta)})
    made = synthetic_trace(shape, sparsity, batch)
    n, f, m = steps * batch * shape.inside("c"), 9 * outputs // groups, 9 * channels // groups
    for engine, count, variance in (
        (Engine.FP, fp, n * f * rho),
        (Engine.BP, bp, n * m * delta),
        (Engine.WG, wg, n * (rho * delta + f * rho * delta**2 + m * rho**2 * delta)),
    ):
        mine = made.count("c", engine)
        assert mine.dense_ops == count.dense_ops
        assert abs(mine.executed_ops - count.executed_ops) <= 6 * math.sqrt(variance) + 1, engine


def _one_layer(**more):
    return NetworkShape("n", {"a": Geometry(2, 3, (4, 4), (4, 4), (3, 3), steps=2, **more)}, values=frozenset({"a"}))


def test_one_layer_by_hand():
    # Along an axis of 4 with padding 1, 2 + 3 + 3 + 2 = 10 of 12 taps meet an input: 10 x 10 x 2 x 3 = 600 synapses.
    trace = synthetic_trace(_one_layer(), Sparsity(0.25, 0.5, input_density=0.1), batch=3, optimizer_moments=2)
    fp, bp, wg, update = (trace.count("a", engine) for engine in Engine)
    assert (fp.dense_ops, fp.executed_ops, fp.multiplies) == (6 * 864, 360, True)
    assert (fp.step_ops, fp.step_events) == ((180, 180), (36, 36))
    assert fp.reads[TensorClass.INPUT] == TensorCount(192, 19, 384)
    assert fp.writes[TensorClass.SPIKES] == TensorCount(288, 72, 36)
    assert fp.writes[TensorClass.MEMBRANE] == TensorCount(288, 288, 576)
    assert (bp.dense_ops, bp.executed_ops, bp.neuron_updates, bp.step_ops) == (0, 0, 288, ())
    assert bp.writes[TensorClass.GRADIENT] == TensorCount(288, 144, 0)  # nobody below wants it
    assert (wg.dense_ops, wg.executed_ops) == (6 * 864, 180)
    assert wg.writes[TensorClass.WEIGHT_GRADIENT] == TensorCount(60, 60, 240)  # 54 weights, 6 gains and shifts
    # 54 weights, 3 gains and 3 biases; 32 bits for master and two moments.
    assert update.reads[TensorClass.OPTIMIZER] == TensorCount(180, 180, 720)
    assert update.writes[TensorClass.WEIGHTS] == TensorCount(60, 60, 120)


def test_a_static_input_is_computed_once():
    trace = synthetic_trace(_one_layer(static=True), Sparsity(0.25, 0.5), batch=3)
    fp, bp, wg = (trace.count("a", engine) for engine in (Engine.FP, Engine.BP, Engine.WG))
    assert (fp.dense_ops, fp.executed_ops, fp.step_ops) == (3 * 864, 1800, (1800,))
    assert fp.writes[TensorClass.SPIKES].elements == 288
    assert len(fp.step_events) == 2
    # The sum over two steps is zero where both are: 1 - 0.5 x 0.5.
    assert bp.writes[TensorClass.GRADIENT] == TensorCount(144, 108, 0)
    assert wg.executed_ops == 1350


def test_what_pools_and_sums_let_through():
    shape, rate = network("resnet18"), 0.2
    sparsity = Sparsity(spike_rate=rate, layers={"stem": LayerSparsity(spike_rate=0.5)})
    assert sparsity.density(shape, "stem").input == 1.0
    assert sparsity.density(shape, "stage1.block1.conv1").input == pytest.approx(0.5)
    assert sparsity.density(shape, "stage1.block2.conv1").input == pytest.approx(1 - 0.5 * 0.8)
    assert sparsity.density(shape, "fc").gradient == 1.0  # a readout has no surrogate
    pooled = Sparsity(spike_rate=rate).density(network("vgg11"), "conv2").input
    assert pooled == pytest.approx(1 - 0.8**4)
    measured = Sparsity(layers={"conv2": LayerSparsity(input_density=0.3)})
    assert measured.density(network("vgg11"), "conv2").input == 0.3


def test_a_pooled_input_is_denser_than_the_rate_and_sparser_than_independence():
    real = _trained_step()
    shape, sparsity = NetworkShape.of_trace(real), Sparsity.measured(real)
    without = Sparsity(layers={**sparsity.layers, "down": LayerSparsity()})
    rate = real.spike_rate("block.body.conv")
    assert rate < sparsity.layers["down"].input_density
    assert without.density(shape, "down").input == pytest.approx(1 - (1 - rate) ** 4)


def test_assumptions_are_labelled():
    assert Sparsity.assumed(network("vgg11", norm="weight")) == Sparsity(0.15, 0.4, origin="assumed")
    assert Sparsity.assumed(network("vgg11", norm="batch")).gradient_density == 1.0
    assert Sparsity.measured(Trace()).origin.startswith("measured")


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 4))
def test_operations_grow_with_density_and_never_exceed_the_map(rho, delta, batch):
    shape = network("nmnist")
    low, high = (synthetic_trace(shape, Sparsity(rho * f, delta * f), batch) for f in (0.5, 1.0))
    for layer, engine, count in high:
        assert low.count(layer, engine).executed_ops <= count.executed_ops <= count.dense_ops
        assert sum(count.step_ops) == (count.executed_ops if engine is not Engine.UPDATE else 0)


@pytest.mark.parametrize("suffix", [".json", ".toml"])
def test_files(tmp_path, suffix):
    path = tmp_path / f"sparsity{suffix}"
    wanted = Sparsity(0.1, 0.3, layers={"a.b": LayerSparsity(input_density=0.5)}, origin=f"given: {path.name}")
    toml = 'spike_rate = 0.1\ngradient_density = 0.3\n[layers."a.b"]\ninput_density = 0.5\n'
    path.write_text(json.dumps(wanted.table()) if suffix == ".json" else toml)
    assert Sparsity.load(path) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spike_rate = 1.5", r"s.toml: spike_rate: expected a fraction in \[0, 1\], got 1.5"),
        ("spike_rate = true", "spike_rate: expected a fraction"),
        ('spike_rate = "0.1"', "spike_rate: expected a fraction"),
        ("spike_rat = 0.5", "unknown key 'spike_rat'; did you mean 'spike_rate'"),
        ("layers = 3", "layers: expected a table, got 3"),
        ("[layers.a]\nspike_rate = -1", r"layers.a.spike_rate: expected a fraction in \[0, 1\], got -1"),
        ("[layers.a]\nrate = 1", "layers.a: unknown key 'rate'"),
        ("spike_rate = ", "not a toml file"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Sparsity.load(path)
    assert "\n" not in str(caught.value)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        Sparsity.load(tmp_path / "absent.toml")
    with pytest.raises(ValueError, match="gradient_density: expected a fraction"):
        Sparsity(gradient_density=math.nan)
    with pytest.raises(ValueError, match="has no layer 'conv12'; did you mean 'conv2' or 'conv1'"):
        synthetic_trace(network("vgg11"), Sparsity(layers={"conv12": LayerSparsity()}))
    for wrong in ({"batch": 0}, {"optimizer_moments": -1}):
        with pytest.raises(ValueError, match="expected a batch of at least 1 and moments from 0"):
            synthetic_trace(network("vgg11"), **wrong)
