"""Energy by component and the efficiencies, against sums done by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_engine.chip import Chip, available
from neuro_engine.cost import Component, Efficiencies, cost, peak_dense_tflops_per_w
from neuro_engine.cost.arrays import ArrayWork, Reads
from neuro_engine.cost.energy import Prices, sram_pj_per_bit
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace

CORE20 = Chip.load("core20_28nm")
KB = 1024
# 1, 2 and 10 pJ for a bit of 8 KB, 32 KB and 1 MB. Buffers of four sizes, each a bank of its own.
CHIP = CORE20.override(
    {
        "energy.sram_8kb_pj_per_bit": 1,
        "energy.sram_32kb_pj_per_bit": 2,
        "energy.sram_1mb_pj_per_bit": 10,
        "memory.bank_bytes": 4096 * KB,
        "memory.weight_buffer_bytes": 32 * KB,
        "memory.weight_gradient_buffer_bytes": 1024 * KB,
        "memory.spike_in_buffer_bytes": 8 * KB,
        "memory.state_buffer_bytes": 4096 * KB,
    }
)


@pytest.mark.parametrize(
    ("kilobytes", "picojoules"),
    [
        (1, 1),
        (8, 1),
        (18, 1.5),  # sqrt 8, 18, 32 = 2.83, 4.24, 5.66
        (32, 2),
        (1024, 10),
        (4096, 20),  # twice the root
    ],
)
def test_sram_grows_with_the_root_of_its_size(kilobytes, picojoules):
    assert sram_pj_per_bit(CHIP.energy, kilobytes * KB) == pytest.approx(picojoules)


@given(st.floats(1, 1e8), st.floats(1, 1e8))
def test_a_larger_sram_is_never_cheaper(a, b):
    small, large = (sram_pj_per_bit(CORE20.energy, size) for size in sorted((a, b)))
    assert small <= large * (1 + 1e-12)


@pytest.mark.parametrize(
    ("engine", "multiplies", "picojoules"),
    [
        # Inputs from 8 KB at 1 pJ a bit, weights from 32 KB at 2, gradients and partial sums from 4 MB at 20, partial
        # sums of WG from 1 MB at 10; three, five and seven of them, and 11 bits of the bitmap of the first operand.
        (Engine.FP, False, 3 * 1 * 1 + 5 * 16 * 2 + 7 * 32 * 20 + 11 * 1),
        (Engine.FP, True, 3 * 16 * 1 + 5 * 16 * 2 + 7 * 32 * 20 + 11 * 1),
        (Engine.BP, True, 3 * 16 * 20 + 5 * 16 * 2 + 7 * 32 * 20 + 11 * 20),
        (Engine.WG, False, 3 * 16 * 20 + 5 * 1 * 1 + 7 * 32 * 10 + 11 * 20),
        (Engine.WG, True, 3 * 16 * 20 + 5 * 16 * 1 + 7 * 32 * 10 + 11 * 20),
    ],
)
def test_every_operand_comes_from_its_buffer(engine, multiplies, picojoules):
    work = ArrayWork(1, 1, 1, 0.0, Reads(3, 5, 7, 11))
    assert Prices(CHIP).array_pj(engine, multiplies, work)[Component.SRAM] == pytest.approx(picojoules)


def test_buffers_are_as_dear_as_their_banks():
    banked = Prices(CHIP.override({"memory.bank_bytes": 8 * KB}))
    parts = banked.array_pj(Engine.BP, True, ArrayWork(1, 1, 1, 0.0, Reads(3, 5, 7)))
    assert parts[Component.SRAM] == pytest.approx(3 * 16 + 5 * 16 + 7 * 32)


def test_the_network_takes_energy_without_control_or_leakage():
    trace = Trace()
    trace.steps = trace.samples = 1
    trace.record("a", Engine.FP, EngineCount(executed_ops=1))
    alone, talking = cost(trace, CORE20), cost(trace, CORE20, byte_hops={("a", Engine.FP): 1000.0})
    difference = {key: talking.energy_pj[key] - alone.energy_pj.get(key, 0) for key in talking.energy_pj}
    assert {key: pj for key, pj in difference.items() if pj} == {(Engine.FP, Component.NOC): pytest.approx(512)}
    assert talking.core_energy_j - alone.core_energy_j == pytest.approx(512e-12)
    assert talking.cycles == alone.cycles


@pytest.mark.parametrize(("side", "tflops_per_w"), [(8, 0.891), (16, 1.061), (32, 1.173)])
def test_the_peak_by_the_size_of_the_array(side, tflops_per_w):
    # 1.51007 pJ of a MAC without operands, 32 x 16 bits for side^2 MACs at 0.1583 pJ, control 13 %.
    chip = CORE20.override({"lanes.bp_rows": side, "lanes.bp_columns": side})
    assert peak_dense_tflops_per_w(chip) == pytest.approx(
        2 / ((0.5573 + 0.4559 + 64 * 0.00529 + 32 / side * 0.1583) * 1.13)
    )
    assert peak_dense_tflops_per_w(chip) == pytest.approx(tflops_per_w, abs=2e-3)


def test_partial_sums_through_sram_cost_more_than_adding():
    # Weights stay: 16 bits of gradient for 16 MACs, and 2 x 32 bits of partial sum for 16.
    chip = CORE20.override({"dataflow.bp": "weight_stationary"})
    mac = 0.5573 + 0.4559 + 64 * 0.00529 + (1 + 4) * 0.1583
    assert peak_dense_tflops_per_w(chip) == pytest.approx(2 / (mac * 1.13))


def test_four_efficiencies():
    trace = Trace()
    trace.steps = trace.samples = 1
    byte = {TensorClass.WEIGHTS: TensorCount(1, 1, 1000)}
    trace.record("a", Engine.FP, EngineCount(1000, 100, reads=byte))
    trace.record("a", Engine.BP, EngineCount(1000, 300))
    trace.record("a", Engine.WG, EngineCount(500, 40, multiplies=True))
    trace.record("a", Engine.UPDATE, EngineCount(10, 10))
    bill = cost(trace, CORE20)
    four, core = bill.efficiencies(CORE20), sum(pj for (_, part), pj in bill.energy_pj.items() if part != "dram")
    assert four == Efficiencies(
        pytest.approx(peak_dense_tflops_per_w(CORE20)),
        pytest.approx(2 * 2500 / core),
        pytest.approx((100 + 2 * 300 + 2 * 40) / core),
        pytest.approx(2 * 2500 / (core + 8000 * 8)),
    )


@pytest.mark.parametrize("name", available())
def test_no_work_has_the_peak_alone(name):
    chip = Chip.load(name)
    four = cost(Trace(), chip).efficiencies(chip)
    assert four.peak_dense > 0
    assert (four.dense_equivalent, four.executed, four.system) == (0, 0, 0)


def test_every_efficiency_has_a_definition():
    assert set(Efficiencies.DEFINITIONS) == set(Efficiencies.__slots__)
