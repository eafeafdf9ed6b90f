"""Layers to cores: by hand, against brute force, and what must hold of any mapping."""

import math
from dataclasses import replace
from itertools import combinations, pairwise, product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rough_loads import rough_loads

from neuro_engine.chip import Chip
from neuro_engine.cost.networks import network
from neuro_engine.geometry import Geometry
from neuro_engine.mapping import (
    CoreMapping,
    Exchanged,
    Setup,
    Split,
    Stage,
    best_split,
    busiest_share,
    core_shares,
    estimate,
    greedy,
    layer_work,
    map_layers,
    search,
)
from neuro_engine.mapping.placement import first_cores, flows, place
from neuro_engine.trace import Engine

# A busy machine is no failure.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def layers(loads):
    return {f"l{i}": load for i, load in enumerate(loads)}


def shape(mapping):
    return [(stage.layers, stage.cores) for stage in mapping.stages]


def test_spare_cores_go_to_the_heaviest_layer():
    # 6 and 2 on 4 cores: 6 -> 3 -> 2 a core.
    mapping = map_layers({"a": 6, "b": 2}, 4)
    assert shape(mapping) == [(("a",), 3), (("b",), 1)]
    assert mapping.bottleneck == 2
    assert mapping.balance == 1


def test_with_as_many_layers_as_cores_each_has_its_own():
    assert shape(map_layers({"a": 5, "b": 1}, 2)) == [(("a",), 1), (("b",), 1)]


def test_neighbours_share_a_core_when_cores_are_short():
    # Of the four ways to cut 1 2 3 4 5 in two, 1 2 3 | 4 5 has the least maximum, 9.
    mapping = map_layers(layers([1, 2, 3, 4, 5]), 2)
    assert shape(mapping) == [(("l0", "l1", "l2"), 1), (("l3", "l4"), 1)]
    assert mapping.bottleneck == 9
    assert mapping.balance == pytest.approx(15 / 18)


def test_a_dominating_layer_is_split_even_when_cores_are_short():
    # 12 on three cores, the four small ones on the fourth.
    mapping = map_layers(layers([12, 1, 1, 1, 1]), 4)
    assert shape(mapping) == [(("l0",), 3), (("l1", "l2", "l3", "l4"), 1)]
    assert mapping.bottleneck == 4


def test_a_share_that_rounds_up_takes_no_core_more():
    # load / (load / n) may round to just above n.
    for cores in range(2, 60):
        mapping = map_layers(layers([1.0, *[0.0] * cores]), cores)
        assert mapping.cores <= cores
        assert mapping.bottleneck == pytest.approx(1 / (cores - 1))


def test_vgg_11_fills_twenty_cores():
    # VGG-11 at 32 x 32 for 4 steps, in millions of MACs: conv1 4 x 32^2 x 64 x 27 = 7.08, conv2 4 x 16^2 x 128 x 576
    # = 75.5, and so on. The analog conv1 is dense; elsewhere BP is the slowest engine, at 0.4 of its gradients.
    macs = [7.08, 75.5, 75.5, 151, 75.5, 151, 37.7, 37.7, 0.02]
    loads = layers([macs[0], *(0.4 * mac for mac in macs[1:])])
    assert [stage.cores for stage in map_layers(loads, 20).stages] == [1, 3, 3, 4, 2, 4, 1, 1, 1]


def test_loads_of_very_different_size():
    assert shape(map_layers(layers([15.0, 8e-308]), 1)) == [(("l0", "l1"), 1)]


def test_one_core_takes_all():
    assert shape(map_layers(layers([3, 1, 2]), 1)) == [(("l0", "l1", "l2"), 1)]


def test_no_layers_no_stages():
    mapping = map_layers({}, 4)
    assert mapping.stages == ()
    assert (mapping.bottleneck, mapping.cores, mapping.balance) == (0, 0, 1)


def test_layers_without_load():
    assert shape(map_layers(layers([0, 0]), 4)) == [(("l0",), 1), (("l1",), 1)]
    assert shape(map_layers(layers([0, 0, 0]), 2)) == [(("l0", "l1", "l2"), 1)]


@pytest.mark.parametrize("load", [-1, float("nan"), float("inf")])
def test_a_load_must_be_a_number_of_at_least_zero(load):
    with pytest.raises(ValueError, match="layer 'a'"):
        map_layers({"a": load}, 2)


def test_there_must_be_a_core():
    with pytest.raises(ValueError, match="at least one core, got 0"):
        map_layers({"a": 1}, 0)


NOTHING = Exchanged()


def chain(*cycles, channels=64, rows=8, exchanged=NOTHING, samples=1, **kernel):
    """Layers one after the other; `cycles` are FP, BP, WG and UPDATE of each."""
    names = [f"l{place}" for place in range(len(cycles))]
    shapes = {
        name: Geometry(channels, channels, (rows, 1), (rows, 1), sources=before, **kernel)
        for name, before in zip(names, [(), *((name,) for name in names)], strict=False)
    }
    loads = {name: dict(zip(Engine, of, strict=False)) for name, of in zip(names, cycles, strict=True)}
    return layer_work(loads, shapes, dict.fromkeys(names, exchanged), samples=samples)


def test_shares_are_whole_channels_and_rows():
    # 10 channels on 4 cores: 3, 3, 2, 2; 3 rows on 2 cores: 2, 1.
    shape = Geometry(1, 10, (3, 1), (3, 1))
    assert core_shares(shape, Split(4, 1)) == (0.3, 0.3, 0.2, 0.2)
    assert core_shares(shape, Split(1, 2)) == pytest.approx((2 / 3, 1 / 3))
    assert core_shares(shape, Split(2, 2)) == pytest.approx((1 / 3, 1 / 6, 1 / 3, 1 / 6))
    # With a grain of 4 there are three units: 10 channels on 2 cores are 2 and 1 of them.
    assert core_shares(shape, Split(2, 1), grain=4) == pytest.approx((2 / 3, 1 / 3))


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12), st.integers(1, 8))
def test_shares_add_up_and_the_first_is_the_largest(channels, rows, a, b, grain):
    shape = Geometry(1, channels, (rows, 1), (rows, 1))
    shares = core_shares(shape, Split(a, b), grain)
    assert len(shares) == a * b
    assert sum(shares) == pytest.approx(1)
    assert max(shares) == shares[0] == pytest.approx(busiest_share(shape, Split(a, b), grain))


def test_a_split_takes_rows_where_channels_do_not_divide():
    # 64 channels on 5 cores: 13 / 64 = 0.203; 8 rows on 5: 2 / 8; so channels. On 10 cores: 7 / 64 = 0.109 against
    # 5 x 2 of 13 / 64 x 4 / 8 = 0.102, and 2 x 5 of 32 / 64 x 2 / 8 = 0.125.
    (layer,) = chain((1, 1, 1))
    assert best_split(layer, 5, Setup(5, 1)) == Split(5, 1)
    assert best_split(layer, 10, Setup(10, 1)) == Split(5, 2)


def test_of_equal_splits_channels_are_first():
    assert best_split(chain((1, 1, 1))[0], 4, Setup(4, 1)) == Split(4, 1)


def test_rows_read_less_and_channels_share_no_weights():
    # On 4 cores each takes 1/4 of 400 cycles. Split by channels a core reads all 1000 bytes; by rows, without a
    # kernel's margin, 250; but then 4 cores sum the same 1000 bytes of weight gradients: 2 x 3/4 x 1000 = 1500.
    (reads,) = chain((400, 400, 400), exchanged=Exchanged(1000, 0, 0))
    (sums,) = chain((400, 400, 400), exchanged=Exchanged(0, 0, 1000))
    setup = Setup(4, 1, link_bytes_per_cycle=1)
    assert best_split(reads, 4, setup) == Split(1, 4)
    assert best_split(sums, 4, setup) == Split(4, 1)


def test_weights_that_do_not_fit_are_split_by_channels():
    # 8 x 8 weights x 6 bytes = 384 bytes. On 4 rows each core has a copy; on 4 channels each has 96 bytes.
    (layer,) = chain((400, 400, 400), channels=8, exchanged=Exchanged(1000, 0, 0))
    links = Setup(4, 1, link_bytes_per_cycle=10, dram_bytes_per_cycle=1)
    assert best_split(layer, 4, links) == Split(1, 4)
    assert best_split(layer, 4, replace(links, buffer_bytes=96)) == Split(4, 1)


def test_the_estimate_of_a_pipeline_by_hand():
    # Two stages of one core: FP 10 + 20, BP 30 + 40, the last WG 5, then for each of 3 more micro-batches the slowest
    # engine, BP of the second stage, and the slower stage's update: 105 + max(3 x 30 + 1, 3 x 40 + 2).
    work = chain((10, 30, 5, 1), (20, 40, 6, 2))
    mapping = CoreMapping((Stage(("l0",), 1, 30, 1, (Split(1, 1),)), Stage(("l1",), 1, 40, 1, (Split(1, 1),))))
    result = estimate(work, mapping, Setup(2, 4))
    assert (result.fill, result.steady, result.refetch) == (105, 122, 0)
    assert result.cycles == 227


def test_the_estimate_of_shared_engines_by_hand():
    # Two layers on one core: FP 10 + 20, BP of l1 40, its WG 6, BP of l0 30, its WG 5, and all of that again.
    work = chain((10, 30, 5, 0), (20, 40, 6, 0))
    alone = CoreMapping((Stage(("l0", "l1"), 1, 70, 1, (Split(1, 1),) * 2),))
    assert estimate(work, alone, Setup(1, 2, shared_engines=True)).cycles == 2 * 111
    # On a core each, WG of l1 is beside BP of l0; the slower stage takes 66 for each further micro-batch.
    apart = CoreMapping(tuple(Stage((f"l{i}",), 1, 1, 1, (Split(1, 1),)) for i in range(2)))
    assert estimate(work, apart, Setup(2, 2, shared_engines=True)).cycles == 105 + 66


def test_the_estimate_of_replicas_by_hand():
    # Two replicas take 2 of 4 micro-batches each: 10 + 30 + 5, once more 30, and the update on both: 4 / 2.
    work = chain((10, 30, 5, 4))
    mapping = CoreMapping((Stage(("l0",), 1, 30, 2, (Split(1, 1),)),))
    assert estimate(work, mapping, Setup(2, 4)).cycles == 45 + 30 + 2
    # They sum 64 bytes of weight gradients in a ring: 2 x 1/2 x 64 bytes at 4 a cycle.
    work = chain((10, 30, 5, 4), exchanged=Exchanged(0, 0, 64))
    assert estimate(work, mapping, Setup(2, 4, link_bytes_per_cycle=4)).cycles == 45 + 30 + 2 + 16


def test_the_estimate_of_bytes_between_stages_by_hand():
    # 32 bytes of spikes and 64 of gradients at 1 a cycle are steps of the pipeline, and the slowest.
    work = chain((10, 10, 0, 0), (10, 10, 0, 0), exchanged=Exchanged(32, 64, 0))
    mapping = CoreMapping(tuple(Stage((f"l{i}",), 1, 10, 1, (Split(1, 1),)) for i in range(2)))
    assert estimate(work, mapping, Setup(2, 3, link_bytes_per_cycle=1)).cycles == 40 + 96 + 2 * 64
    # On one core nothing moves.
    alone = CoreMapping((Stage(("l0", "l1"), 1, 20, 1, (Split(1, 1),) * 2),))
    assert estimate(work, alone, Setup(2, 3, link_bytes_per_cycle=1)).cycles == 40 + 2 * 20


def test_the_estimate_of_refetches_by_hand():
    # 64 x 64 weights are 24576 bytes with their gradients; a buffer of half of that leaves half of 12 bytes each to
    # be moved for each of 2 micro-batches: 49152 bytes, at 4 a cycle.
    work = chain((10, 10, 10, 0))
    mapping = CoreMapping((Stage(("l0",), 1, 10, 1, (Split(1, 1),)),))
    result = estimate(work, mapping, Setup(1, 2, dram_bytes_per_cycle=4, buffer_bytes=12288))
    assert result.refetch == 12288
    assert result.cycles == 30 + 12288


numbers = st.integers(0, 30).map(float)
engines = st.tuples(numbers, numbers, numbers, numbers)


@st.composite
def problems(draw, layers=4, cores=5):
    """A small network, which may skip layers, and a setup without refetches."""
    count = draw(st.integers(1, layers))
    shapes, loads, moved = {}, {}, {}
    for at in range(count):
        name, earlier = f"l{at}", [f"l{i}" for i in range(at)]
        sources = tuple(draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2))) if earlier else ()
        channels, rows = draw(st.integers(1, 9)), draw(st.integers(1, 6))
        shapes[name] = Geometry(3, channels, (rows, 2), (rows, 2), (draw(st.integers(1, 3)), 1), sources=sources)
        loads[name] = dict(zip(Engine, draw(engines), strict=True))
        moved[name] = Exchanged(*(draw(numbers) for _ in range(3)))
    link = draw(st.sampled_from([0.5, 4.0, math.inf]))
    setup = Setup(draw(st.integers(1, cores)), draw(st.integers(1, 6)), draw(st.integers(1, 3)), link)
    setup = replace(setup, shared_engines=draw(st.booleans()))
    return layer_work(loads, shapes, moved), setup


def every_mapping(work, setup):
    """All partitions into stages with all numbers of cores and replicas."""
    for number in range(1, len(work) + 1):
        for cuts in combinations(range(1, len(work)), number - 1):
            runs = [work[a:b] for a, b in pairwise([0, *cuts, len(work)])]
            for shape in product(product(range(1, setup.cores + 1), repeat=2), repeat=number):
                if sum(k * n for k, n in shape) <= setup.cores:
                    yield CoreMapping(
                        tuple(
                            Stage(tuple(of.name for of in run), k, 0, n, tuple(best_split(of, k, setup) for of in run))
                            for run, (k, n) in zip(runs, shape, strict=True)
                        )
                    )


@untimed
@given(problems(layers=3, cores=4))
def test_the_search_equals_brute_force(problem):
    best = min(estimate(problem[0], mapping, problem[1]).cycles for mapping in every_mapping(*problem))
    assert estimate(problem[0], search(*problem), problem[1]).cycles == pytest.approx(best)


@untimed
@given(problems(layers=8, cores=9), st.floats(10, 1000), st.floats(1, 100))
def test_the_search_is_never_worse_than_greedy(problem, room, bandwidth):
    work, setup = problem
    for chip in (setup, replace(setup, buffer_bytes=room, dram_bytes_per_cycle=bandwidth)):
        found, baseline = search(work, chip), greedy(work, chip)
        assert estimate(work, found, chip).cycles <= estimate(work, baseline, chip).cycles
        for mapping in (found, baseline):
            assert [layer for stage in mapping.stages for layer in stage.layers] == [layer.name for layer in work]
            assert mapping.cores <= chip.cores
            assert all(split.cores == stage.cores for stage in mapping.stages for split in stage.splits)


@untimed
@given(problems(layers=6, cores=8))
def test_more_cores_are_never_slower(problem):
    work, setup = problem
    more = replace(setup, cores=setup.cores + 1)
    assert estimate(work, search(work, more), more).cycles <= estimate(work, search(work, setup), setup).cycles + 1e-9


@pytest.mark.parametrize(("name", "batch", "aim"), [("vgg16", 128, 15), ("sew_resnet18", 16, 12)])
def test_twenty_cores_reach_the_aim_and_beat_greedy(name, batch, aim):
    shapes = network(name).layers
    # Links of 16 bytes a cycle, a micro-batch of one sample in its four time steps; the DRAM is no limit here.
    work, setup = layer_work(rough_loads(shapes), shapes), Setup(20, batch, 4, link_bytes_per_cycle=16)
    single = replace(setup, cores=1)
    alone = estimate(work, search(work, single), single).cycles
    found, baseline = (estimate(work, way(work, setup), setup).cycles for way in (search, greedy))
    assert alone / found > aim
    assert found < baseline


def test_no_layers_no_search():
    assert search((), Setup(4, 1)) == greedy((), Setup(4, 1)) == CoreMapping(())
    assert estimate((), CoreMapping(()), Setup(4, 1)).cycles == 0


def test_flows_are_what_readers_lack():
    # l0 on cores 0 and 1 by channels, l1 on core 2: both halves go there.
    work = chain((1, 1, 1), (1, 1, 1))
    mapping = CoreMapping((Stage(("l0",), 2, 1, 1, (Split(2, 1),)), Stage(("l1",), 1, 1, 1, (Split(1, 1),))))
    assert [(flow.producer, flow.consumers, flow.fraction) for flow in flows(work, mapping, 0, 1, 0)] == [
        (0, (2,), 0.5),
        (1, (2,), 0.5),
    ]
    # Both by rows on the same two cores with kernels of one row: nothing moves; with three rows, half a margin of
    # 2 / 8 each way.
    mapping = CoreMapping((Stage(("l0", "l1"), 2, 1, 1, (Split(1, 2), Split(1, 2))),))
    assert flows(work, mapping, 0, 1, 0) == ()
    work = chain((1, 1, 1), (1, 1, 1), kernel=(3, 1))
    assert [(flow.producer, flow.consumers, flow.fraction) for flow in flows(work, mapping, 0, 1, 0)] == [
        (0, (1,), 0.125),
        (1, (0,), 0.125),
    ]


def test_replicas_exchange_with_the_replica_that_has_the_micro_batch():
    work = chain((1, 1, 1), (1, 1, 1))
    mapping = CoreMapping((Stage(("l0",), 1, 1, 2, (Split(1, 1),)), Stage(("l1",), 1, 1, 3, (Split(1, 1),))))
    assert first_cores(mapping) == (0, 2)
    assert [(f.producer, f.consumers) for m in range(6) for f in flows(work, mapping, 0, 1, m)] == [
        (m % 2, (2 + m % 3,)) for m in range(6)
    ]


def byte_hops(work, mapping, nodes, columns):
    hops = 0.0
    for target, layer in enumerate(work):
        for source in layer.inputs:
            for flow in flows(work, mapping, source, target, 0):
                for reader in flow.consumers:
                    (r1, c1), (r2, c2) = (divmod(nodes[core], columns) for core in (flow.producer, reader))
                    moved = work[source].exchanged.spikes + work[source].exchanged.gradients
                    hops += (abs(r1 - r2) + abs(c1 - c2)) * flow.fraction * moved
    return hops


@untimed
@given(problems(layers=6, cores=12))
def test_cores_have_nodes_of_their_own_and_no_swap_helps(problem):
    work, setup = problem
    mapping = greedy(work, setup)
    nodes = place(work, mapping, 3, 4)
    assert len(set(nodes)) == len(nodes) == mapping.cores
    assert set(nodes) <= set(range(12))
    reached = byte_hops(work, mapping, nodes, 4)
    for a, b in combinations(range(12), 2):
        swapped = [{a: b, b: a}.get(node, node) for node in nodes]
        assert byte_hops(work, mapping, swapped, 4) >= reached - 1e-6 * max(1, reached)


def test_without_traffic_cores_follow_the_snake():
    work = chain(*[(1, 1, 1)] * 6)
    assert place(work, greedy(work, Setup(6, 1)), 2, 3) == (0, 1, 2, 5, 4, 3)


def test_cores_share_nodes_where_there_are_fewer():
    work = chain(*[(1, 1, 1)] * 6)
    assert place(work, greedy(work, Setup(6, 1)), 2, 2) == (0, 0, 1, 1, 3, 3)


def test_the_setup_of_a_chip():
    chip = Chip.load("core20_28nm").override(
        {
            "clock.frequency_hz": 1e9,
            "cores.count": 4,
            "cores.engines": "shared",
            "noc.flit_bits": 64,
            "noc.flits_per_cycle": 0.5,
            "dram.bandwidth_bytes_per_s": 8e9,
            "dram.efficiency": 0.5,
            "memory.weight_buffer_bytes": 1000,
            "memory.weight_gradient_buffer_bytes": 3000,
        }
    )
    assert Setup.of(chip, 8, 2) == Setup(4, 8, 2, 4.0, 4.0, 4000.0, shared_engines=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cores": 0}, "at least one core, got 0"),
        ({"micro_batches": 0}, "at least one micro-batch, got 0"),
        ({"tiles": 0}, "at least one tile, got 0"),
        ({"link_bytes_per_cycle": 0}, "more than 0 bytes"),
        ({"dram_bytes_per_cycle": -1}, "more than 0 bytes"),
        ({"buffer_bytes": math.nan}, "more than 0 bytes"),
    ],
)
def test_a_setup_must_be_possible(change, message):
    with pytest.raises(ValueError, match=message):
        Setup(**{"cores": 4, "micro_batches": 1, **change})


LAYER = Geometry(1, 1)


@pytest.mark.parametrize(
    ("loads", "shapes", "options", "message"),
    [
        ({"a": {}}, {}, {}, "layer 'a': expected a geometry"),
        ({"a": {Engine.BP: -1}}, {"a": LAYER}, {}, "layer 'a': expected finite numbers of at least 0, got -1"),
        ({"a": {Engine.FP: math.nan}}, {"a": LAYER}, {}, "layer 'a': .* got nan"),
        ({"a": {}}, {"a": replace(LAYER, sources=("b",))}, {}, "layer 'a': expected sources .* before it, got 'b'"),
        ({"a": {}, "b": {}}, {"a": replace(LAYER, sources=("b",)), "b": LAYER}, {}, "layer 'a': expected sources"),
        ({"a": {}}, {"a": LAYER}, {"exchanged": {"a": Exchanged(math.inf)}}, "layer 'a': .* got inf"),
        ({"a": {}}, {"a": LAYER}, {"dram_bytes": {"a": {Engine.WG: -2}}}, "layer 'a': .* got -2"),
        ({"a": {}}, {"a": LAYER}, {"grain": 0}, "grain of one channel, got 1, 0"),
        ({"a": {}}, {"a": LAYER}, {"samples": 0}, "at least one sample .* got 0, 1"),
    ],
)
def test_work_must_be_possible(loads, shapes, options, message):
    with pytest.raises(ValueError, match=message):
        layer_work(loads, shapes, **options)


def test_a_micro_batch_of_samples_is_so_much_work_but_one_update():
    one, four = (chain((1, 2, 3, 4), exchanged=Exchanged(5, 6, 7), samples=n)[0] for n in (1, 4))
    assert four.cycles == (4, 8, 12, 4)
    assert four.exchanged == (20, 24, 7)
    assert four.resident == one.resident


def test_a_recurrent_layer_reads_itself():
    (layer,) = layer_work({"a": {Engine.FP: 1}}, {"a": replace(LAYER, sources=("a",))})
    assert layer.inputs == (0,)
