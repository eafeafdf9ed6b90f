"""What must hold of the bill of any network of the catalogue, on any chip, however sparse it is."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuro_engine.chip import Chip, available
from neuro_engine.cost import Component, cost
from neuro_engine.cost.networks import available as networks
from neuro_engine.cost.networks import network
from neuro_engine.cost.sparsity import Sparsity
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.trace import Engine, TensorClass, Trace

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

CHIPS = {name: Chip.load(name) for name in available()}
SHAPES = {name: network(name) for name in networks()}
ARITHMETIC = (Component.MULTIPLY, Component.ADD, Component.REGISTER)
SYNAPTIC = (Engine.FP, Engine.BP, Engine.WG)

chips, shapes, densities = st.sampled_from(list(CHIPS)), st.sampled_from(list(SHAPES)), st.floats(0, 1)


def trace_of(name, rate, density, batch=2):
    return synthetic_trace(SHAPES[name], Sparsity(rate, density, input_density=rate), batch)


@untimed
@given(chips, shapes, densities, densities)
def test_no_layer_beats_its_roofline_or_does_more_than_all(chip, shape, rate, density):
    chip, trace = CHIPS[chip], trace_of(shape, rate, density)
    bill = cost(trace, chip)
    for (layer, engine), part in bill.layers.items():
        count = trace.count(layer, engine)
        assert part.executed_ops == count.executed_ops <= part.dense_ops
        if engine is not Engine.UPDATE:
            rows, columns = chip.lanes.array(engine)
            assert part.cycles >= part.balanced_cycles >= part.ideal_cycles >= part.executed_ops / (rows * columns)
    seconds = bill.dram_total_bytes / chip.dram.bandwidth_bytes_per_s
    assert bill.seconds(chip) >= seconds * (1 - 1e-9)
    of = bill.efficiencies(chip)
    assert of.system <= of.dense_equivalent
    assert of.executed <= of.dense_equivalent


@untimed
@given(chips, shapes, *[st.tuples(densities, densities).map(sorted)] * 2)
def test_more_nonzeros_never_cost_less(chip, shape, rates, gradients):
    less, more = (cost(trace_of(shape, *pair), CHIPS[chip]) for pair in zip(rates, gradients, strict=True))
    for key, part in less.layers.items():
        assert part.cycles <= more.layers[key].cycles
        assert part.executed_ops <= more.layers[key].executed_ops
        assert part.dram_bytes <= more.layers[key].dram_bytes
        assert part.energy_j <= more.layers[key].energy_j * (1 + 1e-9)


@untimed
@given(chips, shapes, densities, st.floats(1, 100))
def test_more_bandwidth_is_never_slower_and_moves_no_byte_less(chip, shape, density, factor):
    chip, trace = CHIPS[chip], trace_of(shape, density, density)
    fast = chip.override({"dram.bandwidth_bytes_per_s": chip.dram.bandwidth_bytes_per_s * factor})
    slow_bill, fast_bill = cost(trace, chip), cost(trace, fast)
    assert fast_bill.cycles <= slow_bill.cycles
    assert fast_bill.dram_bytes == slow_bill.dram_bytes


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("shape", SHAPES)
def test_where_all_is_zero_no_array_computes(chip, shape):
    readouts = SHAPES[shape].readouts
    bill = cost(trace_of(shape, 0.0, 0.0), CHIPS[chip])
    for (layer, engine), part in bill.layers.items():
        if engine is not Engine.UPDATE and (engine is not Engine.BP or layer not in readouts):  # its gradient is dense
            assert part.executed_ops == 0
            assert not any(part.energy_pj.get(component) for component in ARITHMETIC)


@pytest.mark.parametrize("chip", CHIPS)
def test_an_empty_trace_costs_nothing_however_many_layers_it_knows(chip):
    trace = Trace()
    trace.steps = trace.samples = 1
    for name, geometry in SHAPES["vgg11"].layers.items():
        trace.describe(name, geometry)
    bill = cost(trace, CHIPS[chip])
    assert (bill.cycles, bill.energy_j, bill.dram_total_bytes) == (0, 0.0, 0)


@untimed
@given(chips, shapes, densities, densities)
def test_bills_of_batches_add_up(chip, shape, a, b):
    chip, one, two, both = CHIPS[chip], trace_of(shape, a, b), trace_of(shape, b, a), Trace()
    both += one
    both += two
    apart, together = cost(one, chip) + cost(two, chip), cost(both, chip)
    assert apart.dram_reads == together.dram_reads
    assert apart.dram_writes == together.dram_writes
    for component, joules in apart.energy_by_component_j.items():
        assert together.energy_by_component_j[component] == pytest.approx(joules, rel=1e-6)


@untimed
@given(shapes, densities, densities)
def test_what_is_read_first_was_written(shape, rate, density):
    # Buffers in which all fits, and bursts of a byte: what is read is read once, by every engine that needs it.
    chip = CHIPS["core20_28nm"]
    room = {key: 2**40 for key in chip.values if key.startswith("memory.") and key.endswith("_buffer_bytes")}
    bill = cost(trace_of(shape, rate, density), chip.override({**room, "policy.weights": "stream"}))
    shape, tensors = SHAPES[shape], TensorClass
    wrote, read = bill.dram_writes, bill.dram_reads
    assert wrote[tensors.WEIGHT_GRADIENT] >= read[tensors.WEIGHT_GRADIENT]
    assert wrote.get(tensors.MEMBRANE, 0) >= read.get(tensors.MEMBRANE, 0)
    for layer in shape.layers:
        spikes = bill.layers[layer, Engine.FP].dram_reads.get(tensors.SPIKES, 0)
        fired = [bill.layers[source, Engine.FP].dram_writes[tensors.SPIKES] for source in shape.sources(layer)]
        assert spikes <= sum(fired)


@untimed
@given(shapes, densities, st.sampled_from(SYNAPTIC), st.sampled_from(["rows", "columns"]), st.integers(1, 64))
def test_more_ideal_lanes_are_never_slower(shape, density, engine, which, more):
    chip = CHIPS["core20_28nm"].override({"skipping.lanes": "ideal"})
    key = f"lanes.{engine}_{which}"
    wide = chip.override({key: int(chip.values[key]) + more})
    trace = trace_of(shape, density, density)
    assert cost(trace, wide).engine_cycles.get(engine, 0) <= cost(trace, chip).engine_cycles.get(engine, 0)
