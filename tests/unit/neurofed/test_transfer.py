import hashlib
import tracemalloc

import pytest

from neurofed import transfer
from neurofed.errors import DataError
from neurofed.transfer import CHUNK_BYTES, BlobReceiver, chunks
from neurofed.v1.fleet_pb2 import Chunk
from neurofed.v1.records_pb2 import Blob

BLOB = bytes(range(256)) * 4


def _announce(blob, **changes):
    return Blob(**{"sha256": hashlib.sha256(blob).digest(), "size_bytes": len(blob), **changes})


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_a_blob_comes_back_whole(size):
    blob = (BLOB * (size // len(BLOB) + 1))[:size]
    receiver, sent = BlobReceiver(_announce(blob), limit_bytes=size), list(chunks(blob))
    assert len(sent) == -(-size // CHUNK_BYTES)
    assert all(len(chunk.data) <= CHUNK_BYTES for chunk in sent)
    for chunk in sent:
        assert not receiver.complete
        receiver.add(chunk)
    assert receiver.complete
    assert receiver.finish() == blob


@pytest.mark.parametrize("size", [101, 1 << 62, -1])
def test_an_oversize_blob_is_refused_before_memory_is_taken(size):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="at most 100 bytes"):
            BlobReceiver(_announce(BLOB, size_bytes=size), limit_bytes=100)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33)])
def test_a_malformed_digest_is_refused(digest):
    with pytest.raises(DataError, match="32 bytes"):
        BlobReceiver(_announce(BLOB, sha256=digest), limit_bytes=1 << 20)


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(offset=11, data=b"x"),
        Chunk(offset=9, data=b"x"),
        Chunk(offset=0, data=BLOB[:10]),
        Chunk(offset=-1, data=b"x"),
        Chunk(offset=10, data=b""),
        Chunk(offset=10, data=BLOB[10:] + b"x"),
    ],
    ids=["gap", "overlap", "again", "before", "empty", "too long"],
)
def test_a_chunk_out_of_order_is_refused_and_the_rest_still_fits(chunk):
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    receiver.add(Chunk(offset=0, data=BLOB[:10]))
    with pytest.raises(DataError, match="chunk at 10 of 1024"):
        receiver.add(chunk)
    receiver.add(Chunk(offset=10, data=BLOB[10:]))
    assert receiver.finish() == BLOB


def test_nothing_may_follow_the_last_chunk():
    receiver = BlobReceiver(_announce(b""), limit_bytes=10)
    with pytest.raises(DataError):
        receiver.add(Chunk(offset=0, data=b"x"))
    assert receiver.finish() == b""


def test_missing_bytes_are_noticed():
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    receiver.add(Chunk(offset=0, data=BLOB[:-1]))
    with pytest.raises(DataError, match="expected 1024 bytes, got 1023"):
        receiver.finish()


@pytest.mark.parametrize("position", [0, 500, 1023])
def test_one_changed_bit_is_noticed(position, monkeypatch):
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 100)
    receiver = BlobReceiver(_announce(BLOB), limit_bytes=len(BLOB))
    damaged = bytearray(BLOB)
    damaged[position] ^= 1
    for chunk in chunks(bytes(damaged)):
        receiver.add(chunk)
    with pytest.raises(DataError, match="corrupted"):
        receiver.finish()
