"""Cycles and reads of an array, against SCALE-Sim, sums done by hand and what must hold of any layer."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Dataflow, Feed, Grouping
from neuro_engine.cost.arrays import array_work, tile_steps
from neuro_engine.cost.dataflow import Product, even, systolic_cycles, tiling
from neuro_engine.cost.rows import expected_lockstep_cycles
from neuro_engine.geometry import Geometry
from neuro_engine.trace import Engine, EngineCount

SYNAPTIC = (Engine.FP, Engine.BP, Engine.WG)
LANES = ("fp_rows", "fp_columns", "bp_rows", "bp_columns", "wg_rows", "wg_columns")
CHIP = Chip.load("core20_28nm").override({"skipping.lanes": "ideal"})

# Cycles that SCALE-Sim 3.0.0 reports for an array of 32 x 32: the side of the input, padding included, input and
# output channels of a 3 x 3 convolution.
GOLDEN = [
    (34, 64, 64, Dataflow.WEIGHT_STATIONARY, 40247),
    (18, 128, 128, Dataflow.WEIGHT_STATIONARY, 50399),
    (10, 256, 256, Dataflow.WEIGHT_STATIONARY, 91007),
    (10, 16, 48, Dataflow.OUTPUT_STATIONARY, 823),
    (10, 16, 48, Dataflow.INPUT_STATIONARY, 1419),
    (10, 16, 48, Dataflow.WEIGHT_STATIONARY, 1579),
]


def square(chip, side, **keys):
    """`chip` with arrays of `side` x `side` lanes."""
    return chip.override({**{f"lanes.{name}": side for name in LANES}, **keys})


def everywhere(chip, dataflow="output_stationary", mode="skip", **keys):
    """`chip` with one dataflow and mode for all engines."""
    flows = {f"dataflow.{engine}": dataflow for engine in SYNAPTIC}
    return chip.override({**flows, **{f"skipping.{engine}": mode for engine in SYNAPTIC}, **keys})


def work(engine, shape, chip, samples=1, density=1.0, batches=1, **keys):
    steps = 1 if shape.static else shape.steps
    dense = shape.synapses * steps * samples
    count = EngineCount(dense, round(dense * density), multiplies=keys.pop("multiplies", engine is Engine.BP))
    return array_work(engine, count, shape, batches, chip, **keys)


@pytest.mark.parametrize(("side", "inputs", "outputs", "dataflow", "cycles"), GOLDEN)
def test_dense_cycles_are_those_of_scale_sim(side, inputs, outputs, dataflow, cycles):
    shape = Geometry(inputs, outputs, (side, side), (side - 2, side - 2), (3, 3))
    assert systolic_cycles(dataflow, Product(*shape.forward), 32, 32) - 1 == cycles
    chip = everywhere(square(CHIP, 32), dataflow, "dense", **{"dataflow.feed": "systolic"})
    assert work(Engine.FP, shape, chip).cycles - 1 == cycles


def test_an_array_that_broadcasts_only_loads():
    product = Product(40, 30, 20)
    # 3 x 2 tiles of 30; 2 x 2 tiles that load 16 rows and stream 40; 2 x 3 tiles that load 16 and stream 20.
    for dataflow, tiles, fill, stream in (
        (Dataflow.OUTPUT_STATIONARY, 6, 0, 30),
        (Dataflow.WEIGHT_STATIONARY, 4, 16, 40),
        (Dataflow.INPUT_STATIONARY, 6, 16, 20),
    ):
        tiled = tiling(dataflow, product, 16, 16, Feed.BROADCAST)
        assert (tiled.tiles, tiled.fill, tiled.stream) == (tiles, fill, stream)


def test_reads_of_each_dataflow():
    # m x k = 1200 and k x n = 600 elements, read again for each tile along the other side; partial sums of 40 x 20 go
    # out once and back once for the second of two tiles along k.
    for dataflow, reads in (
        (Dataflow.OUTPUT_STATIONARY, (1200 * 2, 600 * 3, 0)),
        (Dataflow.WEIGHT_STATIONARY, (1200 * 2, 600, 2 * 800)),
        (Dataflow.INPUT_STATIONARY, (1200, 600 * 3, 2 * 800)),
    ):
        tiled = tiling(dataflow, Product(40, 30, 20), 16, 16)
        assert (tiled.first, tiled.second, tiled.partial) == reads


def test_tiles_are_dealt_out_evenly():
    assert [even(extent, 16) for extent in (1, 16, 17, 20, 40)] == [1, 16, 9, 10, 14]


# 16 outputs of 4 x 4 pixels from 8 inputs by 3 x 3: m = 16, k = 72, n = 16.
SHAPE = Geometry(8, 16, (4, 4), (4, 4), (3, 3), steps=4)


def test_time_steps_run_one_after_the_other_on_the_same_weights():
    # Three samples of 16 pixels are three tiles of 16 columns, each 4 x 72 positions long.
    dense = everywhere(CHIP, mode="dense")
    done = work(Engine.FP, SHAPE, dense, samples=3)
    assert done.cycles == done.balanced == done.ideal == 3 * 4 * 72
    assert done.reads.second == 3 * 72 * 16  # a weight serves 16 pixels and 4 steps
    assert done.reads.first == 3 * 4 * 72 * 16
    # With room for three sums a lane, four steps are two rounds, each with the weights.
    assert work(Engine.FP, SHAPE, dense.override({"lanes.accumulators": 3}), samples=3).reads.second == 2 * 3 * 72 * 16
    # Every round of a tile fills a systolic array.
    for accumulators, rounds in ((4, 1), (3, 2), (1, 4)):
        chip = dense.override({"lanes.accumulators": accumulators, "dataflow.feed": "systolic"})
        assert work(Engine.FP, SHAPE, chip, samples=3).cycles == 3 * (4 * 72 + 30 * rounds)


def test_steps_of_a_tile_fit_lanes_and_buffers():
    count = EngineCount(multiplies=False)
    assert tile_steps(Engine.FP, count, SHAPE, CHIP) == 4
    # FP: three rows of 4 pixels and 8 channels of spikes, 96 bits or 12 bytes a step.
    for size, steps in ((48, 4), (47, 3), (24, 2), (1, 1)):
        chip = CHIP.override({"memory.spike_in_buffer_bytes": size})
        assert tile_steps(Engine.FP, count, SHAPE, chip) == steps
    # BP: three rows of 4 pixels and 16 channels of 16 bits, 384 bytes.
    chip = CHIP.override({"memory.state_buffer_bytes": 384 * 2})
    assert tile_steps(Engine.BP, count, SHAPE, chip) == 2


def test_a_static_input_is_computed_once():
    static = Geometry(8, 16, (4, 4), (4, 4), (3, 3), steps=4, static=True)
    assert work(Engine.FP, static, everywhere(CHIP, mode="dense"), multiplies=True).cycles == 72


def test_the_samples_of_a_batch_share_the_lanes_of_a_linear_layer():
    linear = Geometry(100, 16)
    for samples, tiles in ((1, 1), (16, 1), (17, 2)):
        assert work(Engine.FP, linear, everywhere(CHIP, mode="dense"), samples=samples).cycles == tiles * 100
    # Two batches of ten do not share.
    assert work(Engine.FP, linear, everywhere(CHIP, mode="dense"), samples=20, batches=2).cycles == 200


def test_weight_gradients_stay_over_time_and_batch():
    # 16 outputs x (8 inputs x 9 taps) = 1 x 5 tiles, each 16 pixels x 4 steps x 3 samples long.
    dense = everywhere(CHIP, mode="dense", **{"dataflow.feed": "systolic"})
    assert work(Engine.WG, SHAPE, dense, samples=3).cycles == 5 * (16 * 4 * 3 + 30)


def test_groups_are_products_of_their_own():
    depthwise = Geometry(32, 32, (4, 4), (4, 4), (3, 3), groups=32)
    done = work(Engine.FP, depthwise, everywhere(CHIP, mode="dense"))
    assert done.cycles == 32 * 9  # one of 16 rows is used
    assert done.ideal == 18


def test_going_back_through_a_stride_visits_only_taps_that_meet():
    strided = Geometry(16, 16, (8, 8), (4, 4), (3, 3))
    assert work(Engine.BP, strided, everywhere(CHIP, mode="dense")).cycles == strided.synapses // 256


def test_edges_that_do_not_fill_a_tile():
    # 17 outputs take two tiles along the rows.
    shape = Geometry(8, 17, (4, 4), (4, 4), (3, 3))
    done = work(Engine.FP, shape, everywhere(CHIP, mode="dense"))
    assert (done.cycles, done.ideal) == (144, math.ceil(17 / 16 * 72))


def test_what_each_mode_saves():
    dense, gate, skip = (
        work(Engine.FP, SHAPE, everywhere(CHIP, mode=mode), samples=4, density=0.25)
        for mode in ("dense", "gate", "skip")
    )
    assert (dense.cycles, gate.cycles, skip.cycles) == (1152, 1152, 288)
    assert dense.operations == 4 * gate.operations == 4 * skip.operations
    assert dense.reads == gate.reads == skip.reads  # spikes are a bitmap, and every weight serves some pixel


def test_skipping_reads_values_where_they_are_not_zero_and_where():
    plain = work(Engine.BP, SHAPE, everywhere(CHIP, mode="gate"), density=0.25)
    skip = work(Engine.BP, SHAPE, everywhere(CHIP), density=0.25)
    assert skip.reads == plain.reads._replace(first=plain.reads.first / 4, bitmap=plain.reads.first)
    plain = work(Engine.WG, SHAPE, everywhere(CHIP, mode="gate"), density=0.1)
    skip = work(Engine.WG, SHAPE, everywhere(CHIP), density=0.1, gradient_density=0.5)
    assert skip.reads == plain.reads._replace(first=plain.reads.first / 2, bitmap=plain.reads.first)


def test_a_lane_of_its_own_reads_only_the_weights_it_needs():
    one = everywhere(CHIP, **{"lanes.fp_columns": 1, "lanes.accumulators": 1})
    full, part = (work(Engine.FP, SHAPE, one, density=density) for density in (1, 0.25))
    assert part.reads.second == full.reads.second / 4


def test_lanes_in_lockstep_wait_for_the_slowest():
    keys = {"skipping.lanes": "lockstep", "skipping.queue_depth": 0}
    done = work(Engine.FP, SHAPE, everywhere(CHIP, **keys), density=0.2)
    # One tile of 16 pixels and 4 x 72 = 288 positions, nine words of 32.
    assert done.cycles == math.ceil(9 * expected_lockstep_cycles(0.2, 32, 16, 0, 1))
    assert done.balanced == math.ceil(288 * 0.2)
    # In WG 16 x 15 lanes, five even tiles for 72 columns, see different pairs of bits.
    done = work(Engine.WG, SHAPE, everywhere(CHIP, **keys), density=0.2)
    assert done.cycles == math.ceil(5 * 2 * expected_lockstep_cycles(0.2, 32, 16 * 15, 0, 1))


def test_a_queue_is_between_lockstep_and_ideal():
    cycles = [
        work(Engine.FP, SHAPE, everywhere(CHIP, **keys), density=0.2, samples=9).cycles
        for keys in (
            {},
            {"skipping.lanes": "lockstep", "skipping.queue_depth": 64},
            {"skipping.lanes": "lockstep", "skipping.queue_depth": 2},
            {"skipping.lanes": "lockstep", "skipping.queue_depth": 0},
        )
    ]
    assert cycles == sorted(set(cycles))


def test_results_that_nobody_needs_are_not_computed():
    chip = everywhere(CHIP)
    assert work(Engine.BP, SHAPE, chip, needed=0.5).cycles == work(Engine.BP, SHAPE, chip, density=0.5).cycles
    for engine in (Engine.FP, Engine.WG):
        assert work(engine, SHAPE, chip, needed=0.5) == work(engine, SHAPE, chip)
    for needed in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"expected a fraction of results needed from 0 to 1, got {needed}"):
            work(Engine.BP, SHAPE, chip, needed=needed)


def test_without_a_shape_lanes_are_never_idle():
    count = EngineCount(10_000, 1000)
    for mode, cycles, operations in (("dense", 40, 10_000), ("gate", 40, 1000), ("skip", 4, 1000)):
        done = array_work(Engine.FP, count, None, 1, everywhere(CHIP, mode=mode))
        assert (done.cycles, done.operations) == (cycles, operations)


@st.composite
def shapes(draw):
    groups, side, stride, kernel = (draw(st.integers(1, top)) for top in (3, 9, 2, 3))
    inputs, outputs = (groups * draw(st.integers(1, 40)) for _ in range(2))
    maps = (side * stride, side * stride), (side, side)
    steps, static = draw(st.integers(1, 9)), draw(st.booleans())
    return Geometry(inputs, outputs, *maps, (kernel, kernel), groups, steps, static=static)


@st.composite
def chips(draw):
    keys = {
        "dataflow.feed": draw(st.sampled_from(Feed)),
        "skipping.lanes": draw(st.sampled_from(Grouping)),
        "skipping.queue_depth": draw(st.integers(0, 9)),
        "skipping.empty_word_cycles": draw(st.integers(1, 2)),
        "lanes.accumulators": draw(st.integers(1, 8)),
    }
    keys |= {f"lanes.{name}": draw(st.integers(1, 33)) for name in LANES}
    return everywhere(CHIP, draw(st.sampled_from(Dataflow)), **keys)


layers = st.tuples(st.sampled_from(SYNAPTIC), shapes(), st.integers(1, 9))
densities = st.floats(0, 1)
untimed = settings(deadline=None, max_examples=200)


@untimed
@given(layers, chips(), densities)
def test_no_faster_than_the_roofline_and_no_slower_than_dense(layer, chip, density):
    engine, shape, samples = layer
    rows, columns = chip.lanes.array(engine)
    skip = work(engine, shape, chip, samples, density)
    executed = round(shape.synapses * (1 if shape.static else shape.steps) * samples * density)
    assert executed / (rows * columns) <= skip.ideal <= skip.balanced <= skip.cycles
    dense, gate = (
        work(engine, shape, chip.override({f"skipping.{engine}": mode}), samples, density) for mode in ("dense", "gate")
    )
    assert skip.cycles <= gate.cycles == dense.cycles
    assert skip.operations == gate.operations <= dense.operations
    assert gate.reads == dense.reads


# Where an empty word takes two cycles, a bit in it saves one.
@untimed
@given(layers, chips(), densities, densities)
def test_more_nonzeros_never_cost_less(layer, chip, a, b):
    chip = chip.override({"skipping.empty_word_cycles": 1})
    less, more = (work(*layer[:2], chip, layer[2], density) for density in sorted((a, b)))
    assert less.cycles <= more.cycles
    assert less.operations <= more.operations
    assert all(x <= y for x, y in zip(less.reads, more.reads, strict=True))


# A larger systolic array fills more slowly, and more lanes in lock-step wait longer for the slowest.
@untimed
@given(
    layers, densities, st.integers(1, 32), st.integers(1, 32), st.sampled_from(["rows", "columns"]), st.integers(1, 9)
)
def test_more_ideal_lanes_are_never_slower(layer, density, rows, columns, which, more):
    engine, shape, samples = layer
    keys = {f"lanes.{engine}_rows": rows, f"lanes.{engine}_columns": columns}
    wide = {**keys, f"lanes.{engine}_{which}": keys[f"lanes.{engine}_{which}"] + more}
    few, many = (work(engine, shape, everywhere(CHIP, **lanes), samples, density) for lanes in (keys, wide))
    assert many.cycles <= few.cycles


@untimed
@given(layers, chips(), densities, st.integers(1, 5))
def test_batches_that_are_alike_cost_alike(layer, chip, density, times):
    engine, shape, samples = layer
    once = work(engine, shape, chip, samples, density)
    many = work(engine, shape, chip, samples * times, density, batches=times)
    assert many.cycles == pytest.approx(times * once.cycles, abs=2 * times)
    assert many.reads == pytest.approx([times * reads for reads in once.reads], rel=1e-6, abs=shape.synapses)
