"""The bill by layer and engine, of a layer whose shape is known."""

import pytest

from neuro_engine.chip import Chip, available
from neuro_engine.cost import Component, LayerCost, cost
from neuro_engine.geometry import Geometry
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace

CHIP = Chip.load("core20_28nm").override({"lanes.fp_rows": 4, "lanes.fp_columns": 2})
SHAPE = Geometry(8, 16, (4, 4), (4, 4), (3, 3), steps=4)


def layer(density=0.25, samples=6):
    """FP, BP, WG and the update of one layer of `SHAPE`, in one batch."""
    ops, neurons, weights = 4 * samples * SHAPE.synapses, 4 * samples * SHAPE.neurons, SHAPE.weights
    fired = {TensorClass.SPIKES: TensorCount.bitmap(neurons, neurons // 8)}
    sums = {TensorClass.WEIGHT_GRADIENT: TensorCount.values(weights, weights, 32)}
    gradient = {TensorClass.GRADIENT: TensorCount.sparse(neurons, round(neurons * density))}
    counts = (
        (Engine.FP, EngineCount(ops, round(ops * density), False, neurons, writes=fired)),
        (Engine.BP, EngineCount(ops, round(ops * density), True, neurons, gradient, gradient)),
        (Engine.WG, EngineCount(ops, round(ops * density**2), writes=sums)),
        (Engine.UPDATE, EngineCount(weights, weights, True, reads=sums)),
    )
    trace = Trace()
    trace.steps, trace.samples = 1, samples
    trace.describe("a", SHAPE)
    for engine, count in counts:
        trace.record("a", engine, count)
    return trace


def test_the_parts_of_layers_are_the_bill():
    bill = cost(layer(), CHIP)
    assert set(bill.layers) == {("a", engine) for engine in Engine}
    for (_, engine), part in bill.layers.items():
        assert part.cycles == bill.engine_cycles[engine]
        assert part.energy_pj == {component: pj for (of, component), pj in bill.energy_pj.items() if of is engine}
    assert sum(part.dram_bytes for part in bill.layers.values()) == bill.dram_total_bytes
    assert sum(part.energy_j for part in bill.layers.values()) == pytest.approx(bill.energy_j)


def test_a_layer_says_what_its_lanes_waited_for():
    quick = CHIP.override({"lanes.neuron": 1000})
    # FP: m = 6 x 16 pixels, two columns; n = 16 outputs, four rows: 48 x 4 tiles of 4 x 72 positions, a quarter spikes.
    part = cost(layer(), quick).layers["a", Engine.FP]
    assert (part.balanced_cycles, part.ideal_cycles) == (192 * 72, 192 * 72)
    assert part.cycles > part.balanced_cycles
    assert part.imbalance == part.cycles / part.balanced_cycles
    assert part.utilisation == part.ideal_cycles / part.cycles
    # Three rows: 6 x 48 tiles, the last of them with one row of work.
    uneven = quick.override({"lanes.fp_rows": 3, "skipping.lanes": "ideal"})
    part = cost(layer(), uneven).layers["a", Engine.FP]
    assert (part.imbalance, part.utilisation) == (1.0, pytest.approx(16 / 18))
    assert (LayerCost().imbalance, LayerCost().utilisation) == (1.0, 1.0)


def test_recomputing_runs_fp_twice():
    once, twice = (cost(layer(), CHIP.override({"policy.membrane": policy})) for policy in ("store16", "recompute"))
    for engine in Engine:
        times = 2 if engine is Engine.FP else 1
        assert twice.engine_cycles[engine] == times * once.engine_cycles[engine]
        for component in set(Component) - {Component.DRAM}:
            assert twice.energy_pj.get((engine, component), 0) == times * once.energy_pj.get((engine, component), 0)
    assert twice.layers["a", Engine.FP].executed_ops == once.layers["a", Engine.FP].executed_ops


def test_results_that_nobody_needs():
    every, half = cost(layer(), CHIP), cost(layer(), CHIP, needed={"a": 0.5})
    assert half.layers["a", Engine.BP].executed_ops == every.layers["a", Engine.BP].executed_ops / 2
    assert half.layers["a", Engine.BP].cycles < every.layers["a", Engine.BP].cycles
    assert half.layers["a", Engine.FP] == every.layers["a", Engine.FP]
    assert half.layers["a", Engine.WG] == every.layers["a", Engine.WG]


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("densities", [(0.0, 1.0), (0.1, 0.7)])
def test_bills_of_batches_add_up(name, densities):
    chip = Chip.load(name)
    one, two = (layer(density) for density in densities)
    both = Trace()
    both += one
    both += two
    apart, together = cost(one, chip) + cost(two, chip), cost(both, chip)
    assert together.energy_pj == pytest.approx({key: pj for key, pj in apart.energy_pj.items() if pj})
    assert (together.dram_reads, together.dram_writes) == (apart.dram_reads, apart.dram_writes)
    assert {key: part.energy_j for key, part in together.layers.items()} == pytest.approx(
        {key: part.energy_j for key, part in apart.layers.items()}
    )
