"""What must hold of any bill and of any mapping."""

import math
from itertools import combinations, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuro_engine.chip import Chip
from neuro_engine.cost import Cost, cost
from neuro_engine.mapping import map_layers
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace

# A busy machine is no failure.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

CHIP = Chip.load("core20_28nm")
NAMES = [f"l{i}" for i in range(4)]
LANES = ["fp_rows", "fp_columns", "bp_rows", "bp_columns", "wg_rows", "wg_columns", "neuron", "update"]

numbers = st.integers(0, 10**9)
tensors = st.dictionaries(st.sampled_from(TensorClass), st.builds(TensorCount, numbers, numbers, numbers), max_size=3)


@st.composite
def traces(draw, names=NAMES):
    """A trace of up to `len(names)` layers. Only the first layer has an analog input."""
    trace = Trace()
    trace.steps = draw(st.integers(1, 5))
    trace.samples = trace.steps * draw(st.integers(1, 64))
    for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=len(names))):
        for engine in Engine:
            ops, neurons = draw(numbers), draw(numbers)
            multiplies = engine is Engine.BP or name == names[0]
            count = EngineCount(ops, draw(st.integers(0, ops)), multiplies, neurons, draw(tensors), draw(tensors))
            trace.record(name, engine, count)
    return trace


def summed(a, b):
    total = Trace()
    total += a
    total += b
    return total


@untimed
@given(st.integers(0, 3), st.integers(0, 9))
def test_no_work_costs_nothing(steps, samples):
    trace = Trace()
    trace.steps, trace.samples = steps, samples
    trace.record("a", Engine.FP, EngineCount())
    assert cost(trace, CHIP) == Cost()


@untimed
@given(traces(), traces())
def test_energy_and_bytes_add_up(a, b):
    apart, together = cost(a, CHIP) + cost(b, CHIP), cost(summed(a, b), CHIP)
    assert apart.energy_pj == pytest.approx(together.energy_pj)
    assert apart.dram_reads == together.dram_reads
    assert apart.dram_writes == together.dram_writes


@untimed
@given(traces(), st.integers(1, 5))
def test_batches_that_are_alike_cost_alike(trace, times):
    total = Trace()
    for _ in range(times):
        total += trace
    apart, together = times * cost(trace, CHIP).cycles, cost(total, CHIP).cycles
    # Each bill rounds up a handful of times: per engine, stage, fill, update and DRAM.
    assert together <= apart <= together + 10 * times


@untimed
@given(traces())
def test_the_parts_sum_to_the_total(trace):
    bill = cost(trace, CHIP)
    assert sum(bill.energy_by_engine_j.values()) == pytest.approx(bill.energy_j)
    assert sum(bill.energy_by_component_j.values()) == pytest.approx(bill.energy_j)
    assert sum(bill.dram_bytes.values()) == bill.dram_total_bytes
    dram_j = bill.dram_total_bytes * 8 * CHIP.energy.dram_pj_per_bit * 1e-12
    assert bill.energy_j == pytest.approx(bill.core_energy_j + dram_j)


@untimed
@given(traces(), st.integers(1, 30))
def test_no_faster_than_the_roofs(trace, cores):
    chip = CHIP.override({"cores.count": cores})
    bill = cost(trace, chip)
    for busy in bill.engine_cycles.values():
        assert bill.cycles >= busy / cores
    seconds = bill.dram_total_bytes / chip.dram.bandwidth_bytes_per_s
    assert bill.seconds(chip) >= seconds or bill.seconds(chip) == pytest.approx(seconds)


@untimed
@given(traces(), st.sampled_from(Engine), numbers)
def test_more_operations_never_cost_less(trace, engine, extra):
    more = summed(trace, Trace())
    more.record(NAMES[0], engine, EngineCount(extra, extra, multiplies=True))
    less, bill = cost(trace, CHIP), cost(more, CHIP)
    assert bill.cycles >= less.cycles
    assert bill.energy_j >= less.energy_j or bill.energy_j == pytest.approx(less.energy_j)


# With more layers than cores the mapping may change the depth of the pipeline, and a deeper one fills more slowly;
# four layers on twenty cores stay four stages.
@untimed
@given(traces(), st.sampled_from(LANES), st.integers(1, 64))
def test_more_lanes_are_never_slower(trace, lanes, extra):
    key = f"lanes.{lanes}"
    wide = CHIP.override({key: int(CHIP.values[key]) + extra})
    assert cost(trace, wide).cycles <= cost(trace, CHIP).cycles


@untimed
@given(traces(), st.floats(1, 100))
def test_more_bandwidth_is_never_slower(trace, factor):
    key = "dram.bandwidth_bytes_per_s"
    fast = CHIP.override({key: CHIP.values[key] * factor})
    assert cost(trace, fast).cycles <= cost(trace, CHIP).cycles


loads = st.lists(st.floats(0, 1e6, allow_subnormal=False) | st.integers(0, 50).map(float), max_size=9)


@untimed
@given(loads, st.integers(1, 12))
def test_a_mapping_keeps_layers_order_cores_and_load(values, cores):
    layers = {f"l{i}": load for i, load in enumerate(values)}
    mapping = map_layers(layers, cores)
    assert [layer for stage in mapping.stages for layer in stage.layers] == list(layers)
    assert all(stage.cores == 1 or len(stage.layers) == 1 for stage in mapping.stages)
    assert mapping.cores <= cores
    assert sum(stage.load for stage in mapping.stages) == pytest.approx(sum(values))
    assert mapping.bottleneck * cores >= sum(values) * (1 - 1e-9)
    assert 0 <= mapping.balance <= 1 + 1e-9


@untimed
@given(loads.filter(lambda values: len(values) > 1), st.data())
def test_sharing_cores_is_no_worse_than_any_partition(values, data):
    cores = data.draw(st.integers(1, len(values) - 1))
    best = math.inf
    for cuts in combinations(range(1, len(values)), cores - 1):
        edges = [0, *cuts, len(values)]
        best = min(best, max(sum(values[a:b]) for a, b in pairwise(edges)))
    mapping = map_layers({f"l{i}": load for i, load in enumerate(values)}, cores)
    assert mapping.bottleneck <= best * (1 + 1e-9)
