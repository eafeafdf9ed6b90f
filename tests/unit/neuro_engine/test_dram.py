"""DRAM traffic, against sums done by hand and what must hold of any."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuro_engine.chip import Chip
from neuro_engine.cost.dram import Traffic, fp_runs, traffic
from neuro_engine.geometry import Geometry
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace

SAMPLES, DENSITY = 4, 0.25
# In one step 8 x 256 inputs and 16 x 64 neurons; 8 x 16 x 9 = 1152 weights.
FIRST = Geometry(8, 16, (16, 16), (8, 8), (3, 3), steps=4)
# 16 x 64 inputs and 32 x 64 neurons; 16 x 32 x 9 = 4608 weights.
SECOND = Geometry(16, 32, (8, 8), (8, 8), (3, 3), steps=4, sources=("first",))
# A byte is a burst, weights stream, and everything fits.
CHIP = Chip.load("core20_28nm").override(
    {
        "cores.count": 1,
        "dram.burst_bytes": 1,
        "policy.weights": "stream",
        "memory.weight_buffer_bytes": 10**6,
        "memory.weight_gradient_buffer_bytes": 10**6,
        "memory.spike_in_buffer_bytes": 10**6,
        "memory.state_buffer_bytes": 10**6,
    }
)


def record(trace, layer, shape, *, samples=SAMPLES, density=DENSITY, first=False, spiking=True):
    """What the engines record of a layer in one batch; the first passes no gradient on."""
    inputs, neurons = (samples * shape.steps * n for n in (shape.inputs, shape.neurons))
    ops, weights = samples * shape.steps * shape.synapses, TensorCount.values(shape.weights, shape.weights)
    spikes = {TensorClass.SPIKES: TensorCount.bitmap(inputs, round(inputs * density))}
    membrane = {TensorClass.MEMBRANE: TensorCount.values(neurons, neurons)}
    fired = {TensorClass.SPIKES: TensorCount.bitmap(neurons, round(neurons * density))} if spiking else {}
    gradient = TensorCount.sparse(neurons, round(neurons * density))
    passed = {} if first else {TensorClass.WEIGHTS: weights, TensorClass.GRADIENT: gradient}
    kept = {TensorClass.GRADIENT: TensorCount(gradient.elements, gradient.nonzeros, 0) if first else gradient}
    sums = {TensorClass.WEIGHT_GRADIENT: TensorCount.values(shape.weights, shape.weights, 32)}
    state = {TensorClass.OPTIMIZER: TensorCount.values(3 * shape.weights, 3 * shape.weights, 32)}
    trace.describe(layer, shape)
    for engine, reads, writes in (
        (Engine.FP, {**spikes, TensorClass.WEIGHTS: weights}, {**membrane, **fired}),
        (Engine.BP, {**membrane, **passed}, kept),
        (Engine.WG, spikes, sums),
        (Engine.UPDATE, {**state, **sums}, {**state, TensorClass.WEIGHTS: weights}),
    ):
        dense = shape.weights if engine is Engine.UPDATE else 0 if first and engine is Engine.BP else ops
        count = EngineCount(dense, round(dense * density), engine is Engine.BP, neurons, reads, writes)
        trace.record(layer, engine, count)


def batch(*, samples=SAMPLES, density=DENSITY):
    trace = Trace()
    trace.steps, trace.samples = 1, samples
    record(trace, "first", FIRST, samples=samples, density=density, first=True)
    record(trace, "second", SECOND, samples=samples, density=density)
    return trace


def moved(layer="second", trace=None, **keys):
    """Reads and writes of FP, BP, WG and UPDATE for one layer; keys of the chip have two underscores for the dot."""
    chip = CHIP.override({key.replace("__", "."): value for key, value in keys.items()})
    every = traffic(batch() if trace is None else trace, chip)
    return [every[layer, engine] for engine in Engine]


# Bytes of a batch: 4 samples x 4 steps.
SPIKES_IN, SPIKES_OUT, MEMBRANE = 16 * 1024 // 8, 16 * 2048 // 8, 16 * 2048 * 2
GRADIENT = 16 * 2048 // 8 + 16 * 2048 // 4 * 2
WEIGHTS, SUMS = 4608 * 2, 4608 * 4


def test_a_trace_streams():
    fp, bp, wg, update = moved()
    assert fp == Traffic(
        {TensorClass.SPIKES: SPIKES_IN, TensorClass.WEIGHTS: WEIGHTS},
        {TensorClass.MEMBRANE: MEMBRANE, TensorClass.SPIKES: SPIKES_OUT},
    )
    assert bp == Traffic(
        {TensorClass.MEMBRANE: MEMBRANE, TensorClass.WEIGHTS: WEIGHTS, TensorClass.GRADIENT: GRADIENT},
        {TensorClass.GRADIENT: GRADIENT},
    )
    assert wg == Traffic({TensorClass.SPIKES: SPIKES_IN}, {TensorClass.WEIGHT_GRADIENT: SUMS})
    assert update == Traffic(
        {TensorClass.OPTIMIZER: 3 * SUMS, TensorClass.WEIGHT_GRADIENT: SUMS},
        {TensorClass.OPTIMIZER: 3 * SUMS, TensorClass.WEIGHTS: WEIGHTS},
    )
    assert wg.bytes == SPIKES_IN + SUMS


def test_what_has_no_shape_streams_whatever_the_buffers():
    plain = Trace()
    plain.steps, plain.samples = 1, SAMPLES
    for layer, engine, count in batch():
        plain.record(layer, engine, count)
    tiny = {f"memory__{name}_buffer_bytes": 1 for name in ("weight", "weight_gradient", "spike_in", "state")}
    assert moved(trace=plain, policy__weights="resident", dram__burst_bytes=64, **tiny) == moved()


@pytest.mark.parametrize(("policy", "bits"), [("store16", 16), ("mask8", 8), ("mask1", 1), ("recompute", 0)])
def test_what_is_kept_of_the_membranes(policy, bits):
    fp, bp, *_ = moved(policy__membrane=policy)
    assert fp.writes.get(TensorClass.MEMBRANE, 0) == bp.reads.get(TensorClass.MEMBRANE, 0) == MEMBRANE * bits // 16
    assert bp.reads.get(TensorClass.SPIKES, 0) == (SPIKES_OUT if policy == "mask1" else 0)
    runs = 2 if policy == "recompute" else 1
    assert fp.reads == {TensorClass.SPIKES: runs * SPIKES_IN, TensorClass.WEIGHTS: runs * WEIGHTS}
    assert fp.writes[TensorClass.SPIKES] == SPIKES_OUT


def test_a_readout_has_no_surrogate_to_keep():
    trace = Trace()
    trace.steps, trace.samples = 1, SAMPLES
    record(trace, "second", SECOND, spiking=False)
    for policy in ("mask8", "mask1", "recompute"):
        assert moved(trace=trace, policy__membrane=policy) == moved(trace=trace)
        assert fp_runs(trace, "second", CHIP.override({"policy.membrane": policy})) == 1


def test_weights_of_a_network_that_fits_stay_on_the_chip():
    # 1152 + 4608 weights.
    held = {"policy__weights": "resident", "memory__weight_gradient_buffer_bytes": 5760 * 4 - 1}
    fp, bp, wg, update = moved(**held, memory__weight_buffer_bytes=5760 * 2)
    assert TensorClass.WEIGHTS not in {**fp.reads, **bp.reads, **update.writes}
    assert wg.writes == {TensorClass.WEIGHT_GRADIENT: SUMS}
    fp, bp, wg, update = moved(**held, memory__weight_buffer_bytes=5760 * 2 - 1)
    assert (
        fp.reads[TensorClass.WEIGHTS] == bp.reads[TensorClass.WEIGHTS] == update.writes[TensorClass.WEIGHTS] == WEIGHTS
    )
    held["memory__weight_gradient_buffer_bytes"] = 5760 * 4
    *_, wg, update = moved(**held)
    assert wg.writes == {}
    assert update.reads == {TensorClass.OPTIMIZER: 3 * SUMS}


def test_buffers_of_all_cores_count():
    fp, *_ = moved(policy__weights="resident", memory__weight_buffer_bytes=5760, cores__count=2)
    assert TensorClass.WEIGHTS not in fp.reads


def test_weights_that_do_not_fit_take_slices_or_chunks():
    # Three slices of weights, or two chunks of input: 2 x 2048 bytes of input again against 9216 bytes of weights.
    fp, bp, *_ = moved(memory__weight_buffer_bytes=WEIGHTS // 3, memory__spike_in_buffer_bytes=SPIKES_IN // 2)
    assert fp.reads == {TensorClass.SPIKES: 3 * SPIKES_IN, TensorClass.WEIGHTS: WEIGHTS}
    # The whole gradient fits: weights stream past it.
    assert bp.reads[TensorClass.GRADIENT] == GRADIENT
    assert bp.reads[TensorClass.WEIGHTS] == WEIGHTS
    # Nine slices are worse than two chunks.
    fp, *_ = moved(memory__weight_buffer_bytes=WEIGHTS // 9, memory__spike_in_buffer_bytes=SPIKES_IN // 2)
    assert fp.reads == {TensorClass.SPIKES: SPIKES_IN, TensorClass.WEIGHTS: 2 * WEIGHTS}


def test_weight_gradients_that_do_not_fit_take_slices_or_chunks():
    # Two slices: spikes twice, and the gradient once beside the read that BP shares. Dense, it has 69632 bytes.
    small = {"memory__weight_gradient_buffer_bytes": SUMS // 2, "memory__state_buffer_bytes": 69632 // 4}
    *_, wg, _ = moved(**small)
    assert wg.reads == {TensorClass.SPIKES: 2 * SPIKES_IN, TensorClass.GRADIENT: GRADIENT}
    assert wg.writes == {TensorClass.WEIGHT_GRADIENT: SUMS}
    # Eight slices are worse than four chunks, after each of which the sums go out, to come back for the next.
    *_, wg, _ = moved(**{**small, "memory__weight_gradient_buffer_bytes": SUMS // 8})
    assert wg.reads == {TensorClass.SPIKES: SPIKES_IN, TensorClass.WEIGHT_GRADIENT: 3 * SUMS}
    assert wg.writes == {TensorClass.WEIGHT_GRADIENT: 4 * SUMS}


def test_a_gradient_that_does_not_fit_is_read_again():
    # One sample of the second layer: 4 x 2048 values of 16 bits and a bitmap, 17408 bytes; of the first half of that.
    _, bp, wg, _ = moved(memory__state_buffer_bytes=17408)
    assert TensorClass.GRADIENT not in wg.reads
    _, bp, wg, _ = moved(memory__state_buffer_bytes=17407)
    assert wg.reads[TensorClass.GRADIENT] == bp.writes[TensorClass.GRADIENT] == GRADIENT
    # What the first layer would keep on the chip, where nobody else wants it, makes a round trip.
    _, bp, wg, _ = moved("first", memory__state_buffer_bytes=8704)
    assert TensorClass.GRADIENT not in {**bp.writes, **wg.reads}
    _, bp, wg, _ = moved("first", memory__state_buffer_bytes=8703)
    assert bp.writes[TensorClass.GRADIENT] == wg.reads[TensorClass.GRADIENT] == GRADIENT // 2


def test_every_sample_begins_at_a_burst():
    # 4 steps x 1024 inputs are 512 bytes: one burst of 512, two of 500. A gradient's last burst counts as half full.
    fp, bp, *_ = moved(dram__burst_bytes=500)
    assert fp.reads == {TensorClass.SPIKES: 4 * 1000, TensorClass.WEIGHTS: WEIGHTS}
    assert bp.writes == {TensorClass.GRADIENT: GRADIENT + 4 * 250}
    fp, *_ = moved(dram__burst_bytes=512)
    assert fp.reads[TensorClass.SPIKES] == SPIKES_IN


chips = st.builds(
    lambda membrane, weights, burst, *sizes: CHIP.override(
        {
            "policy.membrane": membrane,
            "policy.weights": weights,
            "dram.burst_bytes": burst,
            "memory.weight_buffer_bytes": sizes[0],
            "memory.weight_gradient_buffer_bytes": sizes[1],
            "memory.spike_in_buffer_bytes": sizes[2],
            "memory.state_buffer_bytes": sizes[3],
        }
    ),
    st.sampled_from(["store16", "mask8", "mask1", "recompute"]),
    st.sampled_from(["stream", "resident"]),
    st.sampled_from([1, 32, 64, 500]),
    *[st.integers(500, 10**5)] * 4,
)
densities = st.floats(0, 1)
untimed = settings(deadline=None)


@untimed
@given(chips, densities)
def test_what_is_read_first_was_written(chip, density):
    roomy = {key: value for key, value in CHIP.values.items() if key.startswith("memory.")}
    every = traffic(batch(density=density), chip.override(roomy))
    runs = fp_runs(batch(), "first", chip)
    for tensor in set(TensorClass) - {TensorClass.SPIKES}:
        wrote = sum(of.writes.get(tensor, 0) for of in every.values())
        for engine in Engine:
            read = sum(every[layer, engine].reads.get(tensor, 0) for layer in ("first", "second"))
            assert wrote * (runs if engine is Engine.FP else 1) >= read
    assert every["first", Engine.FP].writes[TensorClass.SPIKES] >= every["second", Engine.WG].reads[TensorClass.SPIKES]


@untimed
@given(chips, densities, densities)
def test_bytes_of_summed_batches_add_up(chip, a, b):
    one, two, both = batch(density=a), batch(density=b), Trace()
    both += one
    both += two
    apart = [traffic(trace, chip) for trace in (one, two)]
    for key, together in traffic(both, chip).items():
        for side in (0, 1):
            sizes = [part[key][side] for part in apart]
            assert together[side] == {t: sum(size.get(t, 0) for size in sizes) for t in together[side]}


@untimed
@given(chips, densities)
def test_room_and_shorter_bursts_never_cost(chip, density):
    memory = {key: value for key, value in CHIP.values.items() if key.startswith("memory.")}
    roomy = chip.override({**memory, "dram.burst_bytes": 1})
    less, more = (sum(of.bytes for of in traffic(batch(density=density), on).values()) for on in (roomy, chip))
    assert less <= more
