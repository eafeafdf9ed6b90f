"""The worker's end of the stream, over a real socket and a link that breaks."""

import asyncio
import threading

import numpy as np
import pytest
from support_fleet import PATIENCE_S, Aggregator, content_of, model_of

from benchmarks.fleet.link import Link
from neurofed import tensors
from neurofed.transfer import CHUNK_BYTES, WINDOW_BYTES
from neurofed.v1 import fleet_pb2, monitor_pb2
from server.roster import Parcel
from worker.fleet_client import FleetClient, Identity

MODEL = model_of(20 * CHUNK_BYTES)


class Worker:
    """A fleet client in a thread; its work adds 1 to the model, or does what the test tells."""

    def __init__(self, address, name="w"):
        self.done = []
        self.hold = threading.Event()
        self.hold.set()
        self.started = threading.Event()
        self.work = self._add_one
        self.error = None
        self.ended = threading.Event()
        self._address, self._name = address, name
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.hold.set()
        if not self.ended.is_set():
            self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self):
        async def main():
            self._loop = asyncio.get_running_loop()
            client = FleetClient(self._address, Identity(self._name, "none", 1, ()), self._execute)
            self._serving = asyncio.ensure_future(client.serve())
            await self._serving

        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()

    def _execute(self, running):
        self.started.set()
        while not self.hold.wait(0.01):
            running.report(1, 2, {"loss": 1.0})
        self.done.append(running.task.task_id)
        return self.work(running)

    def _add_one(self, running):
        (manifest,) = running.task.content.arrays.values()
        model = tensors.unpack(manifest, running.blob)
        return content_of({"w": model["w"] + np.float32(1)}, num_examples=1)


@pytest.fixture
def aggregator():
    with Aggregator(grace_s=PATIENCE_S) as aggregator:
        yield aggregator


@pytest.fixture
def link(aggregator):
    with Link(aggregator.address) as link:
        yield link


@pytest.fixture
def worker(aggregator, link):
    with Worker(link.address) as worker:
        aggregator.wait_until(lambda: [w for w in aggregator.fleet.workers() if w.connected])
        yield worker


def _expected(model=MODEL):
    return tensors.pack({"w": model["w"] + np.float32(1)})


def test_a_task_is_done_and_its_answer_is_whole(aggregator, worker):
    aggregator.assign("w", MODEL)
    assert bytes(aggregator.outcome().blob) == _expected()


@pytest.mark.parametrize("direction", ["down", "up"])
def test_a_cut_anywhere_costs_no_more_than_what_was_under_way(aggregator, link, worker, direction):
    places = [0, 1, 3, 7, 11, 19]
    for number, place in enumerate(places, start=1):
        before = link.bytes_down if direction == "down" else link.bytes_up
        if direction == "down":
            link.cut_after(direction, place * CHUNK_BYTES + 20_000)
        worker.hold.clear()
        aggregator.assign("w", MODEL, number=number)
        aggregator.wait_until(lambda n=number: len(aggregator.of(monitor_pb2.TaskSent)) >= n)
        if direction == "up":
            link.cut_after(direction, place * CHUNK_BYTES + 20_000)
        worker.hold.set()
        outcome = aggregator.outcome()
        assert bytes(outcome.blob) == _expected()
        after = link.bytes_down if direction == "down" else link.bytes_up
        size, under_way = len(outcome.blob), WINDOW_BYTES + CHUNK_BYTES
        assert size <= after - before <= size + under_way
        if direction == "up":
            assert size < outcome.bytes_up < size + 10_000, "the aggregator takes no byte twice"
    assert link.cuts == len(places)
    assert worker.done == [f"run/{n}/train/w" for n in range(1, len(places) + 1)], "no task was done twice"
    assert aggregator.of(monitor_pb2.WorkerQuarantined) == []


def test_a_result_that_comes_about_while_the_link_is_down_is_kept_until_it_is_asked_for(aggregator, link, worker):
    worker.hold.clear()
    aggregator.assign("w", MODEL)
    aggregator.wait_until(worker.started.is_set)
    link.set_open(False)
    worker.hold.set()
    aggregator.wait_until(lambda: worker.done)
    down = link.bytes_down
    link.set_open(True)
    assert bytes(aggregator.outcome().blob) == _expected()
    assert link.bytes_down - down < CHUNK_BYTES, "the model is not sent again"
    assert len(worker.done) == 1


def test_another_aggregator_at_the_address_gets_the_result_of_the_same_task(link, worker, aggregator):
    worker.hold.clear()
    task = aggregator.assign("w", MODEL)
    aggregator.wait_until(worker.started.is_set)
    with Aggregator(grace_s=PATIENCE_S) as successor:
        link.set_open(False)
        link._upstream = ("127.0.0.1", int(successor.address.rpartition(":")[2]))
        link.set_open(True)
        successor.wait_until(lambda: [w for w in successor.fleet.workers() if w.connected])  # else nobody is told
        worker.hold.set()
        successor.wait_until(lambda: worker.done)
        assert successor.outcomes.empty(), "nobody has asked the worker here yet"
        assert successor.of(monitor_pb2.WorkerQuarantined) == []
        assert successor.assign("w", MODEL) == task
        assert bytes(successor.outcome().blob) == _expected()
        assert len(worker.done) == 1
        link.set_open(False)


def test_a_withdrawn_task_is_left_and_the_next_one_done(aggregator, worker):
    worker.hold.clear()
    first = aggregator.assign("w", MODEL)
    aggregator.wait_until(worker.started.is_set)
    aggregator.fleet.cancel(first.task_id)
    aggregator.assign("w", model_of(8), number=2)
    aggregator.wait_until(lambda: len(aggregator.of(monitor_pb2.TaskSent)) == 2)
    worker.hold.set()
    assert aggregator.outcome().task_id == "run/2/train/w"
    assert aggregator.outcomes.empty()


def test_a_task_that_fails_is_told_in_one_line(aggregator, worker):
    def fail(_):
        raise RuntimeError("no spikes today")

    worker.work = fail
    aggregator.assign("w", MODEL)
    outcome = aggregator.outcome()
    assert (outcome.error, outcome.rejected) == ("RuntimeError: no spikes today", False)
    worker.work = worker._add_one
    aggregator.assign("w", MODEL, number=2)
    assert aggregator.outcome().content is not None


def test_a_model_that_is_not_what_was_announced_is_a_failed_task(aggregator, worker):
    aggregator.assign("w", MODEL, parcel=Parcel(_expected()))
    assert "checksum" in aggregator.outcome().error
    aggregator.assign("w", MODEL, number=2)
    assert bytes(aggregator.outcome().blob) == _expected()


def test_a_damaged_chunk_costs_a_reconnect_and_not_the_transfer(aggregator, worker):
    class Damaged(Parcel):
        """One frame is damaged the first time it is sent."""

        def frame(self, offset):
            frame = bytearray(super().frame(offset))
            if offset == 5 * CHUNK_BYTES and not self.sent:
                self.sent = True
                frame[len(frame) // 2] ^= 4
            return bytes(frame)

    parcel = Damaged(tensors.pack(MODEL))
    parcel.sent = False
    aggregator.assign("w", MODEL, parcel=parcel)
    assert bytes(aggregator.outcome().blob) == _expected()
    assert parcel.sent
    (sent,) = aggregator.of(monitor_pb2.TaskSent)
    assert sent.bytes_down < len(_expected()) + WINDOW_BYTES + 2 * CHUNK_BYTES


def test_a_worker_leaves_at_once_where_nobody_waits_for_what_it_has(aggregator, link, worker):
    worker.hold.clear()
    aggregator.assign("w", MODEL)
    aggregator.wait_until(worker.started.is_set)
    with Aggregator(grace_s=PATIENCE_S) as successor:
        link.set_open(False)
        link._upstream = ("127.0.0.1", int(successor.address.rpartition(":")[2]))
        link.set_open(True)
        successor.wait_until(lambda: [w for w in successor.fleet.workers() if w.connected])  # else nobody is told

        async def drain():
            successor.fleet.drain("maintenance")

        successor.call(drain).result(PATIENCE_S)
        assert worker.ended.wait(PATIENCE_S)
        assert worker.done == []
        link.set_open(False)


def test_a_worker_that_is_asked_to_leave_finishes_its_task(aggregator, worker):
    worker.hold.clear()
    aggregator.assign("w", MODEL)
    aggregator.wait_until(worker.started.is_set)

    async def drain():
        aggregator.fleet.drain("maintenance")

    aggregator.call(drain).result(PATIENCE_S)
    worker.hold.set()
    assert bytes(aggregator.outcome().blob) == _expected()
    assert worker.ended.wait(PATIENCE_S)
    assert worker.error is None


def test_heartbeats_tell_of_the_board(aggregator, worker):
    (known,) = aggregator.fleet.roster()
    aggregator.wait_until(lambda: known.facts != fleet_pb2.Heartbeat())
    assert known.facts.rss_bytes > 1 << 20
    assert known.facts.cpu_s > 0
