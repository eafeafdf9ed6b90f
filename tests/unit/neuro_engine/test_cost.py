"""The bill, against sums done by hand."""

import pytest

from neuro_engine.chip import Chip
from neuro_engine.cost import Component, Cost, LayerCost, cost, peak_dense_tflops_per_w
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace

# Round numbers, so that sums can be done on paper.
CHIP = Chip.load("core20_28nm").override(
    {
        "clock.frequency_hz": 1e9,
        "cores.count": 4,
        "lanes.fp_rows": 4,
        "lanes.fp_columns": 2,
        "lanes.bp_rows": 4,
        "lanes.bp_columns": 4,
        "lanes.wg_rows": 4,
        "lanes.wg_columns": 2,
        "lanes.neuron": 2,
        "lanes.update": 2,
        "dram.bandwidth_bytes_per_s": 2e9,
        "dram.efficiency": 1.0,
        "energy.fp16_add_pj": 0.25,
        "energy.fp16_multiply_pj": 0.5,
        "energy.fp32_add_pj": 1,
        "energy.fp32_multiply_pj": 2,
        "energy.register_pj_per_bit": 0.01,
        "energy.sram_8kb_pj_per_bit": 0.1,
        "energy.sram_32kb_pj_per_bit": 0.1,
        "energy.sram_1mb_pj_per_bit": 0.1,
        "energy.dram_pj_per_bit": 10,
        "overhead.control_fraction": 0.5,
        "overhead.leakage_fraction": 0.1,
    }
)


def trace_of(*records, steps=1, samples=1):
    trace = Trace()
    trace.steps, trace.samples = steps, samples
    for layer, engine, count in records:
        trace.record(layer, engine, count)
    return trace


def energy(engine, count):
    """Energy by component of one count, in pJ."""
    bill = cost(trace_of(("a", engine, count)), CHIP).energy_pj
    assert {of for of, _ in bill} == {engine}
    return {component: picojoules for (_, component), picojoules in bill.items()}


def test_the_peak_is_consistent_with_the_published_one():
    # BP MAC: 0.5573 + 0.4559 + (32 + 32) x 0.00529 + (16 + 16) x 16 / 256 x 0.1583 = 1.66836 pJ;
    # 2 FLOP / (1.66836 x 1.13) pJ = 1.0609.
    assert peak_dense_tflops_per_w(Chip.load("core20_28nm")) == pytest.approx(1.0609, abs=1e-4)


def test_spikes_select_and_add():
    # Registers: 32 accumulator + 16 weight + 1 spike bits. SRAM: 4 weights of 16 bits and 2 spikes for 8 operations
    # = 8.25 bits. Dynamic 1 + 0.49 + 0.825 = 2.315 pJ, control half of it, leakage a tenth of 3.4725.
    for engine in (Engine.FP, Engine.WG):
        assert energy(engine, EngineCount(dense_ops=1000, executed_ops=100)) == pytest.approx(
            {
                Component.ADD: 100,
                Component.REGISTER: 49,
                Component.SRAM: 82.5,
                Component.CONTROL: 115.75,
                Component.LEAKAGE: 34.725,
            }
        )


def test_an_analog_input_takes_multiplications():
    # Registers: 32 + 16 + 16 bits. SRAM: 4 + 2 words of 16 bits for 8 operations = 12 bits.
    # Dynamic 0.5 + 1 + 0.64 + 1.2 = 3.34 pJ.
    for engine in (Engine.FP, Engine.WG):
        assert energy(engine, EngineCount(executed_ops=100, multiplies=True)) == pytest.approx(
            {
                Component.MULTIPLY: 50,
                Component.ADD: 100,
                Component.REGISTER: 64,
                Component.SRAM: 120,
                Component.CONTROL: 167,
                Component.LEAKAGE: 50.1,
            }
        )


@pytest.mark.parametrize("multiplies", [True, False])
def test_back_propagation_always_multiplies(multiplies):
    # SRAM: 4 + 4 words of 16 bits for 16 operations = 8 bits. Dynamic 0.5 + 1 + 0.64 + 0.8 = 2.94 pJ.
    assert energy(Engine.BP, EngineCount(executed_ops=100, multiplies=multiplies)) == pytest.approx(
        {
            Component.MULTIPLY: 50,
            Component.ADD: 100,
            Component.REGISTER: 64,
            Component.SRAM: 80,
            Component.CONTROL: 147,
            Component.LEAKAGE: 44.1,
        }
    )


@pytest.mark.parametrize(
    ("engine", "picojoules"),
    [
        (Engine.FP, 4.2),  # 1 x 0.5 + 2 x 0.25 + 32 x 0.1
        (Engine.BP, 6.8),  # 3 x 0.5 + 2 x 0.25 + 48 x 0.1
    ],
)
def test_neurons(engine, picojoules):
    parts = energy(engine, EngineCount(neuron_updates=10))
    assert parts == pytest.approx(
        {
            Component.NEURON: 10 * picojoules,
            Component.CONTROL: 5 * picojoules,
            Component.LEAKAGE: 1.5 * picojoules,
        }
    )


def test_the_optimizer():
    # Ten weights, four multiplications of 2 pJ and four additions of 1 pJ each: 120 pJ, control 60, leakage 18.
    count = EngineCount(dense_ops=10, executed_ops=10, multiplies=True, neuron_updates=10)
    assert energy(Engine.UPDATE, count) == pytest.approx(
        {Component.MULTIPLY: 80, Component.ADD: 40, Component.CONTROL: 60, Component.LEAKAGE: 18}
    )


def test_dram_goes_to_the_engine_and_class_that_moved_it():
    bill = cost(
        trace_of(
            (
                "a",
                Engine.FP,
                EngineCount(
                    reads={TensorClass.WEIGHTS: TensorCount.values(10, 10)},  # 20 bytes
                    writes={TensorClass.SPIKES: TensorCount.bitmap(24, 5)},  # 3 bytes
                ),
            ),
            ("a", Engine.WG, EngineCount(reads={TensorClass.SPIKES: TensorCount.bitmap(24, 5)})),
        ),
        CHIP,
    )
    assert bill.dram_reads == {TensorClass.WEIGHTS: 20, TensorClass.SPIKES: 3}
    assert bill.dram_writes == {TensorClass.SPIKES: 3}
    assert bill.dram_bytes == {TensorClass.WEIGHTS: 20, TensorClass.SPIKES: 6}
    assert bill.dram_total_bytes == 26
    # Ten pJ a bit, no control, no leakage.
    assert bill.energy_pj == {(Engine.FP, Component.DRAM): 1840, (Engine.WG, Component.DRAM): 240}
    assert bill.core_energy_j == 0
    assert bill.energy_j == pytest.approx(2080e-12)
    # 26 bytes at 2 bytes a cycle.
    assert (bill.cycles, bill.seconds(CHIP)) == (13, pytest.approx(13e-9))


def test_the_engines_of_a_core_work_side_by_side():
    # FP ceil(81 / 8) = 11, BP ceil(160 / 16) = 10, WG ceil(64 / 8) = 8 core-cycles; one layer on all four cores.
    bill = cost(
        trace_of(
            ("a", Engine.FP, EngineCount(executed_ops=81)),
            ("a", Engine.BP, EngineCount(executed_ops=160)),
            ("a", Engine.WG, EngineCount(executed_ops=64)),
        ),
        CHIP,
    )
    assert bill.engine_cycles == {Engine.FP: 11, Engine.BP: 10, Engine.WG: 8}
    assert bill.cycles == 3  # ceil(11 / 4)


def test_neurons_bound_a_layer_with_few_inputs():
    # 8 operations take one cycle of the array, 10 neurons five of the neuron unit.
    bill = cost(trace_of(("a", Engine.FP, EngineCount(executed_ops=8, neuron_updates=10))), CHIP)
    assert bill.engine_cycles == {Engine.FP: 5}


@pytest.mark.parametrize(
    ("steps", "samples", "cycles"),
    [
        (1, 10, 110),  # 100 cycles for ten samples, and one more sample's 10 to fill the second stage
        (2, 10, 120),  # filled twice
        (1, 1, 200),  # nothing to overlap
        (1, 100, 101),
    ],
)
def test_the_pipeline_fills_once_a_batch(steps, samples, cycles):
    # 2400 and 800 operations on 8 lanes: 300 and 100 core-cycles, on three cores and one.
    bill = cost(
        trace_of(
            ("a", Engine.FP, EngineCount(executed_ops=2400)),
            ("b", Engine.FP, EngineCount(executed_ops=800)),
            steps=steps,
            samples=samples,
        ),
        CHIP,
    )
    assert bill.cycles == cycles


def test_the_bubble_is_that_of_the_closed_form():
    # Twenty equal layers on twenty cores, M samples of 1000 cycles: the bubble is 19 / (M + 19) of the latency.
    chip = Chip.load("core20_28nm")
    for samples, percent in ((16, 54), (64, 23), (128, 13), (256, 7)):
        count = EngineCount(executed_ops=256_000 * samples)
        records = [(f"l{i}", Engine.FP, count) for i in range(20)]
        cycles = cost(trace_of(*records, samples=samples), chip).cycles
        assert round(100 * (1 - 1000 * samples / cycles)) == percent


def test_the_update_follows_the_batch_on_all_cores():
    # 100 cycles of FP on four cores; 80 weights at two a cycle on four cores: 10 cycles.
    bill = cost(
        trace_of(("a", Engine.FP, EngineCount(executed_ops=3200)), ("a", Engine.UPDATE, EngineCount(dense_ops=80))),
        CHIP,
    )
    assert bill.engine_cycles == {Engine.FP: 400, Engine.UPDATE: 40}
    assert bill.cycles == 110


def test_a_layer_without_work_is_no_stage():
    work = ("a", Engine.FP, EngineCount(executed_ops=80))
    assert cost(trace_of(work, ("pool", Engine.FP, EngineCount())), CHIP) == cost(trace_of(work), CHIP)


def test_engines_that_share_an_array_take_turns():
    records = (
        ("a", Engine.FP, EngineCount(executed_ops=80)),
        ("a", Engine.BP, EngineCount(executed_ops=160)),
        ("a", Engine.WG, EngineCount(executed_ops=64)),
    )
    shared = CHIP.override({"cores.engines": "shared"})
    assert (cost(trace_of(*records), CHIP).cycles, cost(trace_of(*records), shared).cycles) == (3, 7)  # 28 / 4


def test_row_misses_cost_bandwidth():
    read = {TensorClass.WEIGHTS: TensorCount(100, 100, 200)}
    trace = trace_of(("a", Engine.FP, EngineCount(reads=read)))
    assert [cost(trace, CHIP.override({"dram.efficiency": part})).cycles for part in (1, 0.8, 0.5)] == [100, 125, 200]


def test_bills_add_up():
    part = LayerCost(2, 1, 1, 8, 4, False, {Component.ADD: 3.0}, {TensorClass.SPIKES: 4}, {})
    a = Cost(
        1, {Engine.FP: 2}, {(Engine.FP, Component.ADD): 3.0}, {TensorClass.SPIKES: 4}, {}, {("a", Engine.FP): part}
    )
    b = Cost(10, {Engine.FP: 20, Engine.BP: 5}, {(Engine.FP, Component.ADD): 30.0}, {}, {TensorClass.SPIKES: 40})
    assert a + b == Cost(
        11,
        {Engine.FP: 22, Engine.BP: 5},
        {(Engine.FP, Component.ADD): 33.0},
        {TensorClass.SPIKES: 4},
        {TensorClass.SPIKES: 40},
        {("a", Engine.FP): part},
    )
    twice = LayerCost(4, 2, 2, 16, 8, False, {Component.ADD: 6.0}, {TensorClass.SPIKES: 8}, {})
    assert (a + a).layers == {("a", Engine.FP): twice}
    assert sum([a, b], Cost()) == a + b


@pytest.mark.parametrize(("steps", "samples"), [(0, 0), (1, 0), (3, 2)])
def test_work_without_samples_is_an_error(steps, samples):
    trace = trace_of(("a", Engine.FP, EngineCount(executed_ops=1)), steps=steps, samples=samples)
    with pytest.raises(ValueError, match=f"steps={steps}, samples={samples}"):
        cost(trace, CHIP)
