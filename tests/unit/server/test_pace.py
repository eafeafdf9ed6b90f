import asyncio

import pytest

from neurofed.errors import DataError
from neurofed.framing import CHUNK_BYTES
from server import pace
from server.pace import Pace, Upload


class Sender:
    """A worker that sends what it is granted when the test says so."""

    def __init__(self, chunks, here=0):
        self.told = []
        self.upload = Upload(here * CHUNK_BYTES, chunks * CHUNK_BYTES - 1, lambda *told: self.told.append(told))

    @property
    def under_way(self):
        return len(self.upload.under_way)


def _run(test):
    asyncio.run(test())


def test_a_worker_alone_may_be_some_chunks_ahead_and_no_more():
    async def test():
        paces, sender = Pace(), Sender(20)
        paces.open(sender.upload)
        assert sender.told == [(0, 2 * CHUNK_BYTES)], "told once"
        paces.arrive(sender.upload, CHUNK_BYTES)
        assert sender.told[1:] == [(CHUNK_BYTES, 3 * CHUNK_BYTES)]

    _run(test)


def test_nothing_is_granted_beyond_the_end_and_an_upload_goes_on_where_it_was():
    async def test():
        paces, sender = Pace(), Sender(5, here=3)
        paces.open(sender.upload)
        assert sender.told == [(3 * CHUNK_BYTES, 5 * CHUNK_BYTES - 1)]
        paces.arrive(sender.upload, CHUNK_BYTES)
        paces.arrive(sender.upload, CHUNK_BYTES - 1)
        with pytest.raises(DataError, match="before it was asked for"):
            paces.arrive(sender.upload, 1)

    _run(test)


def test_however_many_there_are_what_is_under_way_is_bounded_and_goes_round():
    async def test():
        paces, senders = Pace(), [Sender(4) for _ in range(100)]
        for sender in senders:
            paces.open(sender.upload)
        arrived = [0] * len(senders)
        while any(sender.under_way for sender in senders):
            assert sum(sender.under_way for sender in senders) <= 2
            number = next(n for n, sender in enumerate(senders) if sender.under_way)
            arrived[number] += 1
            paces.arrive(senders[number].upload, CHUNK_BYTES)
        assert arrived == [4] * len(senders)

    _run(test)


def test_a_link_that_is_slow_or_dead_holds_up_nobody_and_one_that_ends_frees_its_place(monkeypatch):
    async def test():
        monkeypatch.setattr(pace, "_SLOW_S", 0.01)
        paces, dead, others = Pace(), [Sender(9) for _ in range(2)], [Sender(1) for _ in range(20)]
        for sender in (*dead, *others):
            paces.open(sender.upload)
        assert [sender.under_way for sender in dead] == [2, 0]
        while not all(sender.told for sender in others):
            await asyncio.sleep(0.005)
        for sender in (*dead, *others):
            paces.close(sender.upload)
        fresh = Sender(8)
        paces.open(fresh.upload)
        assert fresh.under_way == 2

    _run(test)


def test_a_closed_upload_is_granted_nothing_more():
    async def test():
        paces, first, second = Pace(), [Sender(8) for _ in range(2)], Sender(8)
        for sender in (*first, second):
            paces.open(sender.upload)
        assert second.under_way == 0
        paces.close(second.upload)
        paces.close(first[0].upload)
        assert (second.under_way, second.told) == (0, [])

    _run(test)


def test_so_many_chunks_are_written_at_once_and_slow_ones_do_not_count(monkeypatch):
    async def test():
        monkeypatch.setattr(pace, "_SLOW_S", 0.01)
        paces, held, written = Pace(), asyncio.Event(), []

        async def write(number):
            arrived = await paces.outgoing()
            written.append(number)
            await held.wait()
            arrived()
            arrived()  # twice is once

        writers = [asyncio.create_task(write(n)) for n in range(40)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert written == list(range(2))
        while len(written) < 40:
            await asyncio.sleep(0.005)
        held.set()
        await asyncio.gather(*writers)
        places = [await asyncio.wait_for(paces.outgoing(), 5) for _ in range(2)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(paces.outgoing(), 0.001)
        for arrived in places:
            arrived()

    _run(test)
