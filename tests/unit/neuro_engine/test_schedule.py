"""The schedule: closed forms, and what must hold of any schedule."""

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rough_loads import rough_loads

from neuro_engine.cost.networks import network
from neuro_engine.cost.noc import NocParameters
from neuro_engine.geometry import Geometry
from neuro_engine.mapping import CoreMapping, Exchanged, Setup, Split, Stage, estimate, greedy, layer_work, search
from neuro_engine.schedule import Schedule, Stall, chrome_trace, gantt_svg, scaling, schedule
from neuro_engine.trace import Engine

# A busy machine is no failure.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOTHING = Exchanged()


def chain(*cycles, exchanged=NOTHING, dram=()):
    """Layers one after the other, of one channel and one row; `cycles` are FP, BP, WG and UPDATE of each."""
    names = [f"l{place}" for place in range(len(cycles))]
    shapes = {
        name: Geometry(1, 1, sources=before)
        for name, before in zip(names, [(), *((name,) for name in names)], strict=False)
    }
    loads, moved = (
        {name: dict(zip(Engine, of, strict=False)) for name, of in zip(names, values, strict=False)}
        for values in (cycles, dram)
    )
    return layer_work(loads, shapes, dict.fromkeys(names, exchanged), moved)


def pipeline(work, replicas=1):
    """Each layer on a core of its own."""
    return CoreMapping(tuple(Stage((layer.name,), 1, layer.load, replicas, (Split(1, 1),)) for layer in work))


def together(work):
    """All layers on one core."""
    return CoreMapping((Stage(tuple(of.name for of in work), 1, 0, 1, (Split(1, 1),) * len(work)),))


@given(st.integers(1, 5), st.integers(1, 8))
def test_a_balanced_pipeline_takes_micro_batches_plus_stages_minus_one(stages, batch):
    run = schedule(work := chain(*[(3, 0, 0)] * stages), pipeline(work), Setup(stages, batch))
    assert run.cycles == (batch + stages - 1) * 3
    assert run.bubble == pytest.approx((stages - 1) / (batch + stages - 1))
    assert run.balance == pytest.approx(1)
    assert run.in_flight == tuple(min(batch, stages - stage) for stage in range(stages))  # 1F1B


@given(st.integers(1, 5), st.integers(1, 8))
def test_forwards_and_backwards_it_is_twice_as_deep(stages, batch):
    # FP and BP are pipelines of their own engines; one WG follows the last BP.
    run = schedule(work := chain(*[(3, 3, 3)] * stages), pipeline(work), Setup(stages, batch))
    assert run.cycles == (batch + 2 * stages) * 3


@given(st.integers(1, 5), st.integers(1, 8))
def test_engines_that_share_an_array_are_a_pipeline_of_fp_and_bp_together(stages, batch):
    # 1F1B: (M + S - 1) (f + b); stage s holds S - s micro-batches, and one more for transfers.
    work, setup = chain(*[(3, 6, 0)] * stages), Setup(stages, batch, shared_engines=True)
    run = schedule(work, pipeline(work), setup)
    assert run.cycles == (batch + stages - 1) * 9 == estimate(work, pipeline(work), setup).cycles
    assert all(held <= min(batch, stages - stage + 1) for stage, held in enumerate(run.in_flight))


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))
def test_tiles_fill_the_pipeline_sooner(stages, batch, tiles):
    run = schedule(work := chain(*[(60, 0, 0)] * stages), pipeline(work), Setup(stages, batch, tiles))
    assert run.cycles == pytest.approx((batch * tiles + stages - 1) * 60 / tiles)


def test_the_loss_waits_for_all_tiles_and_bp_goes_from_the_last_to_the_first():
    # FP of two tiles, 2 each in both layers: l1 ends at 6. BP of l1: tile 1 at 6-9, tile 0 at 9-12.
    run = schedule(work := chain((4, 2, 1), (4, 6, 2)), pipeline(work), Setup(2, 1, 2))
    times = {(e.layer, run.lanes[e.lane].engine, e.tile): (e.start, e.end) for e in run.events}
    assert times["l1", Engine.FP, 1] == (4, 6)
    assert times["l1", Engine.BP, 1] == (6, 9)
    assert times["l1", Engine.BP, 0] == (9, 12)
    assert times["l1", Engine.WG, 1] == (9, 10)
    assert times["l0", Engine.BP, 1] == (9, 10)
    assert times["l0", Engine.BP, 0] == (12, 13)
    assert run.cycles == 13.5


def test_layers_on_one_core_take_turns():
    # FP 1 + 2, then BP 4 + 3 and the last WG: 3 + 7 + 5. FP of the second micro-batch runs meanwhile, BP after it.
    run = schedule(work := chain((1, 3, 5), (2, 4, 1)), together(work), Setup(1, 2))
    assert run.cycles == 3 + 7 + 7 + 5
    assert [lane.busy for lane in run.lanes] == [6, 14, 12, 0]


def test_replicas_take_micro_batches_in_turn():
    # 3 micro-batches on two replicas: two rounds of FP 10 with BP 20 behind, 10 + 20 + 20; the update is shared.
    run = schedule(work := chain((10, 20, 0, 8)), pipeline(work, 2), Setup(2, 3))
    assert run.cycles == 50 + 4
    assert [lane.busy for lane in run.lanes] == [20, 40, 0, 10, 20, 0, 4]
    assert run.utilisation[1] == pytest.approx(
        {Engine.FP: 10 / 54, Engine.BP: 20 / 54, Engine.WG: 0, Engine.UPDATE: 4 / 54}
    )


def test_updates_follow_the_last_weight_gradient():
    run = schedule(work := chain((1, 2, 3, 10), (1, 2, 3, 20)), pipeline(work), Setup(2, 2))
    # l1: FP 1-2, 2-3; BP 2-4, 4-6; WG 4-7, 7-10; update 10-30. l0: BP 4-6, 6-8; WG 6-9, 9-12; update 12-22.
    assert run.cycles == 30
    ends = {e.layer: (e.start, e.end) for e in run.events if run.lanes[e.lane].engine is Engine.UPDATE}
    assert ends == {"l0": (12, 22), "l1": (10, 30)}


def test_a_branch_waits_for_all_that_it_reads_and_its_source_for_all_readers():
    shapes = {
        "a": Geometry(1, 1),
        "b": Geometry(1, 1, sources=("a",)),
        "c": Geometry(1, 1, sources=("a",)),
        "d": Geometry(1, 1, sources=("b", "c")),
    }
    cycles = {"a": (1, 1), "b": (5, 2), "c": (2, 7), "d": (1, 1)}
    loads = {name: {Engine.FP: fp, Engine.BP: bp} for name, (fp, bp) in cycles.items()}
    work = layer_work(loads, shapes, dict.fromkeys(loads, NOTHING))
    # 1 + max(5, 2) + 1 forwards, 1 + max(2, 7) + 1 backwards.
    assert schedule(work, pipeline(work), Setup(4, 1)).cycles == 7 + 9


def test_bytes_on_the_way_by_hand():
    # 32 bytes at 8 a cycle over one link of one cycle: 5 cycles each way between l0 and l1.
    work = chain((10, 10, 0), (10, 10, 0), exchanged=Exchanged(32, 32, 0))
    noc = NocParameters(1, 2, flit_bits=64)
    run = schedule(work, pipeline(work), Setup(2, 1), noc)
    assert run.cycles == 40 + 10
    assert run.stalls[Stall.NOC] == 5 + 5
    assert run.link_busy == {(0, 1): 4, (1, 0): 4}
    assert sum(run.byte_hops.values()) == 64


def test_transfers_on_one_link_wait_for_each_other():
    # a ends at 10 and b at 20; each sends 20 flits to c, so those of b pass the link at 30 to 50.
    shapes = {"a": Geometry(1, 1), "b": Geometry(1, 1), "c": Geometry(1, 1, sources=("a", "b"))}
    loads = {name: {Engine.FP: 10.0} for name in shapes}
    work = layer_work(loads, shapes, dict.fromkeys(shapes, Exchanged(160, 0, 0)))
    one = (Split(1, 1),)
    mapping = CoreMapping((Stage(("a", "b"), 1, 20, 1, one * 2), Stage(("c",), 1, 10, 1, one)))
    run = schedule(work, mapping, Setup(2, 1), NocParameters(1, 2, flit_bits=64))
    assert run.link_busy[0, 1] == 40
    assert run.cycles == 51 + 10
    assert run.lanes[4].stalls == {Stall.DEPENDENCY: 20, Stall.NOC: 31, Stall.BUFFER: 0, Stall.DRAM: 0}


def test_layers_that_are_added_up_get_one_gradient():
    # a and b on core 0, c on core 1. BP of c ends at 20; 80 bytes come back once, 10 flits and a hop, for both.
    shapes = {"a": Geometry(1, 1), "b": Geometry(1, 1), "c": Geometry(1, 1, sources=("a", "b"))}
    loads = {"a": {Engine.BP: 5.0}, "b": {Engine.BP: 5.0}, "c": {Engine.FP: 10.0, Engine.BP: 10.0}}
    work = layer_work(loads, shapes, dict.fromkeys(shapes, Exchanged(0, 80, 0)))
    one = (Split(1, 1),)
    mapping = CoreMapping((Stage(("a", "b"), 1, 10, 1, one * 2), Stage(("c",), 1, 10, 1, one)))
    run = schedule(work, mapping, Setup(2, 1), NocParameters(1, 2, flit_bits=64))
    assert run.link_busy == {(1, 0): 10}
    assert run.cycles == 31 + 10
    # On cores of their own they get one each: c is in the middle.
    apart = schedule(work, pipeline(work), Setup(3, 1), NocParameters(1, 3, flit_bits=64))
    assert sorted(apart.link_busy.values()) == [10, 10]


def test_weight_gradients_of_replicas_are_summed_before_the_update():
    # A ring of two: 2 steps of 64 bytes, 8 flits each, and 2 hops of one cycle.
    work = chain((1, 1, 1, 4), exchanged=Exchanged(0, 0, 128))
    noc = NocParameters(1, 2, flit_bits=64)
    run = schedule(work, pipeline(work, 2), Setup(2, 2), noc)
    assert run.cycles == 3 + (16 + 2) + 2
    assert run.stalls[Stall.NOC] == 18 * 2  # both cores wait


def test_dram_by_hand():
    # 40 bytes at 2 a cycle before FP, 20 more before BP while FP runs: BP starts at 40.
    work = chain((10, 10, 0), dram=[(40, 40, 0)])
    run = schedule(work, together(work), Setup(1, 1, dram_bytes_per_cycle=2))
    assert run.cycles == 50
    assert (run.dram_bytes, run.dram_busy) == (80, 40)
    assert run.stalls == {Stall.DEPENDENCY: 30, Stall.NOC: 0, Stall.BUFFER: 0, Stall.DRAM: 30}


def test_weights_that_do_not_fit_are_fetched_again_for_each_micro_batch():
    # 3 x 5 weights: 30 bytes for FP and BP each, 120 for WG; half of their 90 bytes fits.
    (layer,) = layer_work({"a": {Engine.FP: 1}}, {"a": Geometry(3, 5)})
    setup = Setup(1, 4, buffer_bytes=45, dram_bytes_per_cycle=1e9)
    assert schedule((layer,), together([layer]), setup).dram_bytes == 4 * (30 + 30 + 120) / 2
    assert schedule((layer,), together([layer]), replace(setup, buffer_bytes=90)).dram_bytes == 0


def test_less_room_in_flight_waits_and_says_so():
    # Room for one: FP, BP, WG of one micro-batch after the other.
    work = chain((10, 10, 10))
    free, tight = (schedule(work, together(work), Setup(1, 4), in_flight=room) for room in (None, 1))
    assert (free.cycles, tight.cycles) == (60, 120)
    assert free.in_flight == (3,)
    assert tight.in_flight == (1,)
    assert tight.stalls[Stall.BUFFER] == 3 * 20


numbers = st.integers(0, 12).map(float)


@st.composite
def cases(draw):
    """A network, its mapping on a mesh, and how it runs."""
    shapes, loads, moved, dram = {}, {}, {}, {}
    for at in range(draw(st.integers(1, 5))):
        name, earlier = f"l{at}", list(shapes)
        sources = tuple(draw(st.lists(st.sampled_from(earlier), unique=True, max_size=2))) if earlier else ()
        rows = draw(st.integers(1, 4))
        shapes[name] = Geometry(2, draw(st.integers(1, 6)), (rows, 1), (rows, 1), (3, 1), sources=sources)
        loads[name], dram[name] = (dict(zip(Engine, draw(st.tuples(*[numbers] * 4)), strict=True)) for _ in range(2))
        moved[name] = Exchanged(*(20 * draw(numbers) for _ in range(3)))
    work = layer_work(loads, shapes, moved, dram)
    bandwidth, room = draw(st.sampled_from([0.5, 4.0, math.inf])), draw(st.sampled_from([40.0, math.inf]))
    setup = Setup(6, draw(st.integers(1, 5)), draw(st.integers(1, 3)), 8.0, bandwidth, room)
    setup = replace(setup, shared_engines=draw(st.booleans()))
    noc = draw(st.none() | st.builds(NocParameters, st.just(2), st.just(3), st.just(64), st.sampled_from([0.5, 2.0])))
    way = draw(st.sampled_from([greedy, search]))
    return work, way(work, setup), setup, noc, draw(st.none() | st.integers(1, 3))


@untimed
@given(cases())
def test_no_engine_does_two_things_at_once_and_all_work_is_done(case):
    work, mapping, setup, *_ = case
    run = schedule(*case)
    by_lane = defaultdict(list)
    for event in run.events:
        by_lane[event.lane].append((event.start, event.end))
    for place, lane in enumerate(run.lanes):
        times = sorted(by_lane[place])
        assert all(a[1] <= b[0] for a, b in pairwise(times))
        assert lane.busy == pytest.approx(sum(end - start for start, end in times))
        if not setup.shared_engines:
            assert lane.busy + sum(lane.stalls.values()) == pytest.approx(lane.end)
        assert lane.busy == max(lane.core_busy)
    for index, stage in enumerate(mapping.stages):
        own = [layer for layer in work if layer.name in stage.layers]
        for place, engine in enumerate(list(Engine)[:3]):
            done = sum(sum(lane.core_busy) for lane in run.lanes if (lane.stage, lane.engine) == (index, engine))
            assert done == pytest.approx(setup.micro_batches * sum(layer.cycles[place] for layer in own))
    counts = Counter((event.layer, run.lanes[event.lane].engine) for event in run.events)
    for layer in work:
        assert [counts[layer.name, engine] for engine in Engine] == [setup.micro_batches * setup.tiles] * 3 + [1]


@untimed
@given(cases())
def test_an_array_that_engines_share_does_one_thing_at_a_time(case):
    work, mapping, setup, noc, room = case
    run = schedule(work, mapping, replace(setup, shared_engines=True), noc, room)
    arrays = defaultdict(list)
    for event in run.events:
        lane = run.lanes[event.lane]
        arrays[lane.stage, lane.replica, lane.engine is Engine.UPDATE].append((event.start, event.end))
    assert all(a[1] <= b[0] for times in arrays.values() for a, b in pairwise(sorted(times)))
    # It waits or works until its last task ends.
    for stage, replica, update in arrays:
        key = stage, replica, update
        own = [of for of in run.lanes if (of.stage, of.replica, of.engine is Engine.UPDATE) == key]
        assert sum(of.busy + sum(of.stalls.values()) for of in own) == pytest.approx(max(of.end for of in own))


@untimed
@given(cases())
def test_nothing_is_read_before_it_is_computed(case):
    work, _, setup, *_ = case
    run = schedule(*case)
    at = {(e.layer, run.lanes[e.lane].engine, e.micro_batch, e.tile): e for e in run.events}
    last = setup.micro_batches - 1
    readers = {layer.name: [of.name for of in work if layer.name in of.geometry.sources] for layer in work}
    for layer in work:
        for batch in range(setup.micro_batches):
            for tile in range(setup.tiles):
                fp, bp, wg = (at[layer.name, engine, batch, tile] for engine in list(Engine)[:3])
                before = [at[source, Engine.FP, batch, tile] for source in layer.geometry.sources]
                assert all(event.end <= fp.start for event in before)
                after = [at[reader, Engine.BP, batch, tile] for reader in readers[layer.name]]
                after += [at[layer.name, Engine.FP, batch, setup.tiles - 1]]
                assert all(event.end <= bp.start for event in after)
                assert bp.end <= wg.start
                assert wg.end <= at[layer.name, Engine.UPDATE, last, 0].start


@untimed
@given(cases())
def test_no_schedule_beats_its_rooflines(case):
    work, mapping, setup, *_ = case
    run = schedule(*case)
    slack = 1 + 1e-9
    assert run.cycles * slack >= max(lane.busy for lane in run.lanes)
    assert run.cycles * slack >= run.dram_bytes / setup.dram_bytes_per_cycle == run.dram_busy
    assert run.cycles * slack >= max(run.link_busy.values(), default=0)
    # The critical path of one micro-batch alone, with all cores free and nothing on the way.
    alone = schedule(work, mapping, Setup(6, 1, setup.tiles, shared_engines=setup.shared_engines))
    updates = max(layer.cycles.update for layer in work) / 6
    assert run.cycles * slack >= max(alone.cycles, updates)
    assert 0 <= run.bubble <= 1
    assert 0 <= run.balance <= slack


@untimed
@given(cases(), st.floats(1, 8))
def test_faster_is_never_slower(case, factor):
    work, mapping, setup, noc, room = case
    run = schedule(*case)
    dram = replace(setup, dram_bytes_per_cycle=setup.dram_bytes_per_cycle * factor)
    assert schedule(work, mapping, dram, noc, room).cycles <= run.cycles * (1 + 1e-9)
    if noc:
        links = replace(noc, flits_per_cycle=noc.flits_per_cycle * factor)
        assert schedule(work, mapping, setup, links, room).cycles <= run.cycles * (1 + 1e-9)
        assert schedule(work, mapping, setup, None, room).cycles <= run.cycles * (1 + 1e-9)
    if room:  # with nothing on the way: more room changes the order in which links and DRAM serve
        free = replace(setup, dram_bytes_per_cycle=math.inf, shared_engines=False)
        tight, loose = (schedule(work, mapping, free, None, held).cycles for held in (room, room + 1))
        assert loose <= tight * (1 + 1e-9)


@untimed
@given(cases())
def test_byte_hops_are_those_of_the_flows(case):
    work, mapping, setup, noc, room = case
    run = schedule(*case)
    if noc is None or all(layer.exchanged == (0, 0, 0) for layer in work):
        assert not run.byte_hops
    wide = replace(setup, tiles=1)
    assert schedule(work, mapping, wide, noc, room).byte_hops == pytest.approx(run.byte_hops)


@untimed
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), numbers, st.integers(1, 6))
def test_the_estimate_of_a_chain_is_exact(cycles, last, batch):
    # One layer a core, no bytes, no WG but the last: a flow shop of equal jobs.
    work = chain((*cycles[0], last), *cycles[1:])
    mapping, setup = pipeline(work), Setup(len(cycles), batch)
    assert schedule(work, mapping, setup).cycles == pytest.approx(estimate(work, mapping, setup).cycles)


@pytest.mark.parametrize(("name", "batch", "aim"), [("vgg16", 64, 15), ("sew_resnet18", 16, 12)])
@pytest.mark.parametrize("grain", [1, 16])
def test_twenty_cores_reach_the_aim_on_the_mesh(name, batch, aim, grain):
    shapes = network(name).layers
    # Also where channels are dealt out by 16, the rows of an array, which leaves fewer ways to split.
    work = layer_work(rough_loads(shapes), shapes, grain=grain)
    noc, setup = NocParameters.for_cores(20), Setup(20, batch, 4)
    (table,) = scaling(work, setup, noc, cores=(20,))
    chip = replace(setup, link_bytes_per_cycle=noc.bytes_per_cycle)
    baseline = schedule(work, greedy(work, chip), chip, noc)
    assert table.speedup > aim
    assert table.cycles < baseline.cycles
    # The closed form that chose the mapping is near the simulated schedule.
    assert estimate(work, table.mapping, chip).cycles == pytest.approx(table.cycles, rel=0.15)


def test_scaling_by_hand():
    # Two equal layers: on one core FP 20, BP 20, the last WG 10, and 20 for each of 9 more. Two cores, which cannot
    # split one channel, are two replicas: the same and 20 for each of 4 more.
    rows = scaling(chain((10, 10, 10), (10, 10, 10)), Setup(1, 10), cores=(1, 2))
    assert [row.cores for row in rows] == [1, 2]
    assert [row.cycles for row in rows] == [230, 130]
    assert rows[0].speedup == 1
    assert rows[1].speedup == pytest.approx(230 / 130)
    assert rows[1].bubble == pytest.approx(1 - 100 / 130)
    assert rows[1].balance == 1


def test_an_empty_network_takes_no_time():
    empty = schedule((), CoreMapping(()), Setup(2, 3))
    assert empty == Schedule(0.0)
    assert (empty.bubble, empty.balance, empty.utilisation) == (0, 1, {})
    assert chrome_trace(empty)["traceEvents"] == []
    assert ElementTree.fromstring(gantt_svg(empty)).tag.endswith("svg")


def test_layers_without_work_take_no_time():
    run = schedule(work := chain((0, 0, 0), (0, 0, 0)), together(work), Setup(1, 2))
    assert (run.cycles, run.bubble, run.balance) == (0, 0, 1)


def test_a_chrome_trace_has_every_task_on_the_thread_of_its_engine():
    work = chain((10, 20, 5, 3), (10, 20, 5, 3))
    run = schedule(work, pipeline(work), Setup(2, 3))
    trace = json.loads(json.dumps(chrome_trace(run, cycles_per_us=2)))
    tasks = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = {e["pid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    assert names == {0: "core 0: l0", 1: "core 1: l1"}
    assert len(tasks) == len(run.events) == 2 * 3 * 3 + 2
    assert all(threads[task["pid"], task["tid"]] == task["cat"].upper() for task in tasks)
    assert max(task["ts"] + task["dur"] for task in tasks) == run.cycles / 2
    # No two tasks of a thread overlap: the format allows only nesting.
    for thread in threads:
        times = sorted((task["ts"], task["dur"]) for task in tasks if (task["pid"], task["tid"]) == thread)
        assert all(a + length <= b for (a, length), (b, _) in pairwise(times))


SVG = "{http://www.w3.org/2000/svg}"


def test_a_gantt_chart_shows_every_micro_batch_of_a_small_batch():
    work = chain((10, 20, 5), (10, 20, 5))
    drawing = ElementTree.fromstring(gantt_svg(schedule(work, pipeline(work), Setup(2, 3))))
    titles = [title.text for title in drawing.iter(f"{SVG}title")]
    assert "FP, micro-batch 0: 0 to 10" in titles
    assert len(titles) == 2 * 3 * 3
    assert [text.text for text in drawing.iter(f"{SVG}text")][-2:] == ["core 0: l0", "core 1: l1"]


def test_a_gantt_chart_is_self_contained_and_escapes_names():
    (layer,) = layer_work({"<b>&": {Engine.FP: 1}}, {"<b>&": Geometry(1, 1)})
    text = gantt_svg(schedule((layer,), together([layer]), Setup(1, 1)))
    assert "core 0: <b>&" in [of.text for of in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert "href" not in text
    assert "script" not in text


def test_a_gantt_chart_does_not_grow_with_the_batch():
    work = chain((10, 20, 5))
    small, large = (len(gantt_svg(schedule(work, pipeline(work), Setup(1, batch)))) for batch in (1000, 3000))
    assert large < 1.5 * small


@pytest.mark.parametrize(
    ("mapping", "options", "message"),
    [
        (CoreMapping(()), {}, "a mapping with splits"),
        (CoreMapping((Stage(("l0",), 1, 1.0),)), {}, "a mapping with splits"),
        (CoreMapping((Stage(("other",), 1, 1.0, 1, (Split(1, 1),)),)), {}, "a mapping with splits"),
        (
            CoreMapping((Stage(("l0",), 1, 1.0, 1, (Split(1, 1),)),)),
            {"in_flight": 0},
            "at least one micro-batch, got 0",
        ),
    ],
)
def test_a_schedule_must_be_possible(mapping, options, message):
    with pytest.raises(ValueError, match=message):
        schedule(chain((1, 1, 1)), mapping, Setup(4, 1), **options)
