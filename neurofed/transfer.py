"""Blobs over a stream: sent in chunks as the other side asks for them, and put together with every byte accounted for.

What holds here holds in both directions. The receiver says how much it has, the sender goes on from there; what has
arrived survives the stream, so a cut costs only the chunks that were under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import google_crc32c

from neurofed.errors import DamagedError, DataError
from neurofed.framing import CHUNK_BYTES, Chunk
from neurofed.rope import CHECKSUM_BYTES, Checksum
from neurofed.v1 import fleet_pb2, records_pb2

WINDOW_BYTES = 8 << 20
"""The most that may be under way and not acknowledged."""
MAX_BLOB_BYTES = 4 << 30
_MAP_NORESERVE = 0x4000
"""Of Linux; Python has a name for it from 3.13 on."""

Frame = TypeVar("Frame")


class Sending:
    """An announced blob on its way out: which chunk may go next.

    Args:
        task_id: the task whose blob it is.
        size_bytes: length of the blob.
    """

    def __init__(self, task_id: str, size_bytes: int) -> None:
        self.task_id, self._size_bytes = task_id, size_bytes
        self._acknowledged: int | None = None
        self._next = self._limit = 0

    @property
    def complete(self) -> bool:
        """True once the other side has everything."""
        return self._acknowledged == self._size_bytes

    def acknowledge(self, offset: int, limit: int) -> None:
        """The other side has the first `offset` bytes and asks for those up to `limit`.

        Raises:
            DataError: if it cannot have them.
        """
        first = self._acknowledged is None
        lowest, highest = self._acknowledged or 0, self._size_bytes if first else self._next
        if not lowest <= offset <= highest or (offset % CHUNK_BYTES and offset != self._size_bytes):
            raise DataError(f"expected an acknowledgement of whole chunks from {lowest} to {highest}, got {offset}")
        self._acknowledged = offset
        self._limit = max(self._limit, limit)
        if first:
            self._next = offset

    def take(self) -> int | None:
        """Where the next chunk begins, which then counts as under way; None while none may go."""
        offset = self._next
        if self._acknowledged is None or offset >= self._size_bytes:
            return None
        end = min(offset + CHUNK_BYTES, self._size_bytes)
        if end > min(self._limit, self._acknowledged + WINDOW_BYTES):
            return None
        self._next = end
        return offset


class Outbox(Generic[Frame]):
    """What waits to be written to one stream: frames in order, and behind them the chunks of one blob as asked for.

    Belongs to one event loop.
    """

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._sending: Sending | None = None
        self._chunk: Callable[[int], Frame] | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> None:
        """Write a frame, before any chunk that has not gone yet."""
        self._frames.append(frame)
        self._changed.set()

    def announce(self, frame: Frame, sending: Sending, chunk: Callable[[int], Frame]) -> None:
        """Write a frame that announces a blob, and its chunks once they are asked for; in place of an earlier blob."""
        self._sending, self._chunk = sending, chunk
        self.put(frame)

    def withdraw(self, task_id: str) -> None:
        """Write no more chunks of that task's blob."""
        if self._sending and self._sending.task_id == task_id:
            self._sending = None

    def acknowledge(self, received: fleet_pb2.Received) -> bool:
        """Take an acknowledgement in; True where it says that the whole blob has arrived.

        Raises:
            DataError: if it cannot be true.
        """
        sending = self._sending
        if sending is None or sending.task_id != received.task_id:
            return False  # of a blob that has been withdrawn meanwhile
        sending.acknowledge(received.offset, received.limit)
        if sending.complete:
            self._sending = None
        self._changed.set()
        return sending.complete

    async def get(self) -> Frame:
        """The next frame, as soon as there is one."""
        while True:
            if self._frames:
                return self._frames.popleft()
            if self._sending and self._chunk and (offset := self._sending.take()) is not None:
                return self._chunk(offset)
            self._changed.clear()
            await self._changed.wait()


class BlobReceiver:
    """Puts one announced blob together, over as many streams as it takes.

    Memory is taken for bytes that have arrived, never for bytes that were only announced.

    Args:
        announced: what the other side announced.
        limit_bytes: the most that is acceptable.
        folder: where the bytes are kept; None keeps them in memory.

    Raises:
        DataError: if the announcement is malformed or too large.
    """

    def __init__(self, announced: records_pb2.Blob, limit_bytes: int, folder: Path | None = None) -> None:
        if not 0 <= announced.size_bytes <= limit_bytes:
            raise DataError(f"expected a blob of at most {limit_bytes} bytes, got {announced.size_bytes} announced")
        if len(announced.xxh3_128) != CHECKSUM_BYTES:
            raise DataError(f"expected a checksum of {CHECKSUM_BYTES} bytes, got {len(announced.xxh3_128)}")
        self.announced = announced
        self.received_bytes = 0
        self._store = _Memory(announced.size_bytes) if folder is None else _File(folder)
        self._checksum = Checksum()

    @property
    def complete(self) -> bool:
        """True once every byte has arrived."""
        return self.received_bytes == self.announced.size_bytes

    def add(self, chunk: Chunk) -> int:
        """Take the next chunk; returns how many bytes that were.

        Raises:
            DamagedError: if its bytes are not those that were sent; it counts as not received.
            DataError: if it is not the next one.
            OSError: if there is no room for it.
        """
        data = chunk.data
        size = min(CHUNK_BYTES, self.announced.size_bytes - self.received_bytes)
        if chunk.offset != self.received_bytes or len(data) != size or not size:
            raise DataError(
                f"expected a chunk of {size} bytes at {self.received_bytes} of {self.announced.size_bytes}, "
                f"got {len(data)} bytes at {chunk.offset}"
            )
        if google_crc32c.value(data) != chunk.crc32c:
            raise DamagedError(f"the chunk at {chunk.offset} was damaged on the way: its CRC-32C differs")
        self._store.write(data, self.received_bytes)
        self._checksum.update(data)
        self.received_bytes += size
        return size

    def finish(self) -> memoryview:
        """The whole blob, read-only.

        Raises:
            DataError: if bytes are missing or the checksum differs.
        """
        if not self.complete:
            raise DataError(f"expected {self.announced.size_bytes} bytes, got {self.received_bytes}")
        if self._checksum.digest() != self.announced.xxh3_128:
            raise DataError("expected the bytes of the announced checksum, got others")
        return self._store.whole(self.received_bytes)


class _Memory:
    """A blob in memory, in large pages where the system has them: those that are written take room, no others."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._map: mmap.mmap | None = None

    def write(self, data: bytes, offset: int) -> None:
        """Store a part."""
        if self._map is None:
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
            self._map = mmap.mmap(-1, self._size_bytes, flags)
            with contextlib.suppress(OSError):  # a kernel without large pages
                self._map.madvise(mmap.MADV_HUGEPAGE)
        self._map[offset : offset + len(data)] = data

    def whole(self, _size_bytes: int) -> memoryview:
        """All of it, read-only."""
        return memoryview(self._map or b"").toreadonly()


class _File:
    """A blob in a file without a name, which goes when it is closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor: int | None = None

    def write(self, data: bytes, offset: int) -> None:
        """Store a part."""
        if self._descriptor is None:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, offset)
            rest, offset = rest[written:], offset + written

    def whole(self, size_bytes: int) -> memoryview:
        """All of it, read-only; it need not be in memory."""
        if self._descriptor is None:
            return memoryview(b"")
        return memoryview(mmap.mmap(self._descriptor, size_bytes, access=mmap.ACCESS_READ))
