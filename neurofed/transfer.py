"""Blobs over a stream: cut into chunks, put together again with every byte accounted for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from neurofed.errors import DataError
from neurofed.v1 import fleet_pb2, records_pb2

CHUNK_BYTES = 1 << 20
MAX_BLOB_BYTES = 4 << 30


def chunks(blob: bytes) -> Iterator[fleet_pb2.Chunk]:
    """The chunks of `blob`, in order."""
    view = memoryview(blob)
    for offset in range(0, len(blob), CHUNK_BYTES):
        yield fleet_pb2.Chunk(offset=offset, data=bytes(view[offset : offset + CHUNK_BYTES]))


class BlobReceiver:
    """Puts one announced blob together.

    Args:
        announced: what the other side announced.
        limit_bytes: the most that is acceptable; checked before memory is taken.

    Raises:
        DataError: if the announcement is malformed or too large.
    """

    def __init__(self, announced: records_pb2.Blob, limit_bytes: int) -> None:
        if not 0 <= announced.size_bytes <= limit_bytes:
            raise DataError(f"expected a blob of at most {limit_bytes} bytes, got {announced.size_bytes} announced")
        if len(announced.sha256) != hashlib.sha256().digest_size:
            raise DataError(f"expected a SHA-256 digest of 32 bytes, got {len(announced.sha256)}")
        self._sha256 = announced.sha256
        self._buffer = bytearray(announced.size_bytes)
        self._received_bytes = 0

    @property
    def complete(self) -> bool:
        """True once every byte has arrived."""
        return self._received_bytes == len(self._buffer)

    def add(self, chunk: fleet_pb2.Chunk) -> None:
        """Take the next chunk.

        Raises:
            DataError: if it is out of order or too long.
        """
        end = chunk.offset + len(chunk.data)
        if chunk.offset != self._received_bytes or not chunk.data or end > len(self._buffer):
            raise DataError(
                f"expected a chunk at {self._received_bytes} of {len(self._buffer)} bytes, "
                f"got {len(chunk.data)} bytes at {chunk.offset}"
            )
        self._buffer[chunk.offset : end] = chunk.data
        self._received_bytes = end

    def finish(self) -> bytes:
        """The whole blob.

        Raises:
            DataError: if bytes are missing or the digest differs.
        """
        if not self.complete:
            raise DataError(f"expected {len(self._buffer)} bytes, got {self._received_bytes}")
        blob = bytes(self._buffer)
        if hashlib.sha256(blob).digest() != self._sha256:
            raise DataError("the blob's bytes do not have the announced SHA-256 digest: corrupted in transit")
        return blob
