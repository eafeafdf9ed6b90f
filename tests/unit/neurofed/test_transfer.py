import asyncio
import tracemalloc

import pytest

from neurofed import framing, transfer
from neurofed.errors import DamagedError, DataError
from neurofed.framing import CHUNK_BYTES, chunk_at, chunk_frame
from neurofed.rope import Checksum, Rope
from neurofed.transfer import BlobReceiver, Outbox, Sending
from neurofed.v1.fleet_pb2 import Chunk, Received, WorkRequest, WorkResponse
from neurofed.v1.records_pb2 import Blob

BLOB = bytes(range(256)) * 4


@pytest.fixture
def small(monkeypatch):
    """Chunks of 100 bytes, at most 400 under way."""
    for module in (framing, transfer):
        monkeypatch.setattr(module, "CHUNK_BYTES", 100)
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 400)


def _announce(blob, **changes):
    return Blob(**{"xxh3_128": Checksum(blob).digest(), "size_bytes": len(blob), **changes})


def _chunk(offset, data, **changes):
    return Chunk(**{"offset": offset, "data": data, "crc32c": transfer.google_crc32c.value(data), **changes})


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_blob_comes_back_whole(size, on_disk, tmp_path):
    blob = (BLOB * (size // len(BLOB) + 1))[:size]
    receiver = BlobReceiver(_announce(blob), size, tmp_path if on_disk else None)
    for offset in range(0, size, CHUNK_BYTES):
        assert not receiver.complete
        receiver.add(chunk_at(blob, offset))
    assert receiver.complete
    got = receiver.finish()
    assert got == blob
    assert got.readonly
    assert list(tmp_path.iterdir()) == [], "what a crash would leave behind"


def test_the_checksum_is_the_one_of_rfc_3720():
    assert chunk_at(b"123456789", 0).crc32c == 0xE3069283
    assert chunk_at(bytes(32), 0).crc32c == 0x8A9136AA


@pytest.mark.parametrize("kind", [WorkRequest, WorkResponse])
@pytest.mark.parametrize("size", [1, 127, 128, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 100, 2 * CHUNK_BYTES + 1])
def test_a_frame_has_the_bytes_that_protocol_buffers_give_it(kind, size):
    blob = bytes(range(1, 252)) * (size // 251 + 1)
    for offset in range(0, size, CHUNK_BYTES):
        frame = chunk_frame(kind, Rope([blob[:size]]), offset)
        assert frame == kind(chunk=chunk_at(blob[:size], offset)).SerializeToString()


@pytest.mark.parametrize("size", [101, 1 << 62, -1])
def test_an_oversize_blob_is_refused(size):
    with pytest.raises(DataError, match="at most 100 bytes"):
        BlobReceiver(_announce(BLOB, size_bytes=size), limit_bytes=100)


def test_memory_is_taken_for_what_arrives_and_not_for_what_is_announced():
    tracemalloc.start()
    try:
        receiver = BlobReceiver(_announce(b"", size_bytes=1 << 40), limit_bytes=1 << 40)
        receiver.add(_chunk(0, bytes(CHUNK_BYTES)))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("checksum", [b"", bytes(15), bytes(17)])
def test_a_malformed_checksum_is_refused(checksum):
    with pytest.raises(DataError, match="16 bytes"):
        BlobReceiver(_announce(BLOB, xxh3_128=checksum), limit_bytes=1 << 20)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("offset", "length"),
    [(200, 100), (101, 100), (99, 100), (0, 100), (-100, 100), (100, 0), (100, 99), (100, 101)],
    ids=["gap", "late", "overlap", "again", "before", "empty", "short", "long"],
)
def test_a_chunk_that_is_not_the_next_is_refused_and_the_rest_still_fits(offset, length):
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    receiver.add(chunk_at(BLOB, 0))
    with pytest.raises(DataError, match="a chunk of 100 bytes at 100 of 1024"):
        receiver.add(_chunk(offset, BLOB[100 : 100 + length]))
    for rest in range(100, len(BLOB), 100):
        receiver.add(chunk_at(BLOB, rest))
    assert receiver.finish() == BLOB


def test_nothing_may_follow_the_last_chunk():
    receiver = BlobReceiver(_announce(b""), limit_bytes=10)
    with pytest.raises(DataError):
        receiver.add(_chunk(0, b"x"))
    assert receiver.finish() == b""


@pytest.mark.usefixtures("small")
def test_missing_bytes_are_noticed():
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    receiver.add(chunk_at(BLOB, 0))
    with pytest.raises(DataError, match="expected 1024 bytes, got 100"):
        receiver.finish()


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("data", "sum_of"), [(BLOB[:99] + b"\0", BLOB[:100]), (BLOB[:100], BLOB[:99])])
def test_a_damaged_chunk_counts_as_not_received(data, sum_of):
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    with pytest.raises(DamagedError):
        receiver.add(_chunk(0, data, crc32c=transfer.google_crc32c.value(sum_of)))
    assert receiver.received_bytes == 0
    for offset in range(0, len(BLOB), 100):
        receiver.add(chunk_at(BLOB, offset))
    assert receiver.finish() == BLOB


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("position", [0, 500, 1023])
def test_bytes_of_another_blob_are_noticed(position):
    other = bytearray(BLOB)
    other[position] ^= 1
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    for offset in range(0, len(BLOB), 100):
        receiver.add(chunk_at(bytes(other), offset))
    with pytest.raises(DataError, match="checksum"):
        receiver.finish()


@pytest.mark.usefixtures("small")
def test_nothing_goes_before_it_is_asked_for_and_no_more_than_the_window():
    sending = Sending("t", len(BLOB))
    assert sending.take() is None
    sending.acknowledge(200, 1024)
    assert [sending.take() for _ in range(5)] == [200, 300, 400, 500, None]
    sending.acknowledge(300, 1024)
    assert [sending.take(), sending.take()] == [600, None]
    sending.acknowledge(700, 1024)
    assert [sending.take() for _ in range(5)] == [700, 800, 900, 1000, None]
    assert not sending.complete
    sending.acknowledge(1024, 1024)
    assert sending.complete


@pytest.mark.usefixtures("small")
def test_nothing_goes_beyond_what_was_asked_for():
    sending = Sending("t", len(BLOB))
    sending.acknowledge(0, 0)
    assert sending.take() is None
    sending.acknowledge(0, 250)
    assert [sending.take() for _ in range(3)] == [0, 100, None]
    sending.acknowledge(100, 0)  # what was asked for stays asked for
    assert sending.take() is None
    sending.acknowledge(200, 1 << 62)
    assert [sending.take() for _ in range(5)] == [200, 300, 400, 500, None]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("offset", [-1, 0, 50, 100, 250, 700, 1024, 2000])
def test_an_acknowledgement_that_cannot_be_true_is_refused(offset):
    sending = Sending("t", len(BLOB))
    sending.acknowledge(200, 1024)
    for _ in range(4):
        sending.take()
    with pytest.raises(DataError):
        sending.acknowledge(offset, 1024)


@pytest.mark.parametrize("offset", [-1, 1, 1025])
def test_nobody_can_ask_for_bytes_that_are_not_there(offset):
    with pytest.raises(DataError):
        Sending("t", len(BLOB)).acknowledge(offset, 1024)


@pytest.mark.usefixtures("small")
def test_small_frames_overtake_chunks_and_a_withdrawn_blob_is_not_sent():
    async def main():
        outbox = Outbox()
        outbox.announce("task", Sending("t", 1000), lambda offset: offset)
        assert await outbox.get() == "task"
        assert not outbox.acknowledge(Received(task_id="another", offset=0, limit=1000))
        assert not outbox.acknowledge(Received(task_id="t", offset=0, limit=1000))
        assert await outbox.get() == 0
        outbox.put("cancel")
        assert await outbox.get() == "cancel"
        assert await outbox.get() == 100
        outbox.withdraw("t")
        outbox.put("last")
        assert await outbox.get() == "last"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(outbox.get(), 0.01)

    asyncio.run(main())
