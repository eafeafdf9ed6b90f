"""How many chunks may be in memory on their way in or out, over all workers together.

A worker may send what it has been granted, a few chunks ahead; grants go round, a chunk at a time, as long as those
under way to here stay below a bound. Chunks that go out are bounded likewise, until they were acknowledged: gRPC takes
each and keeps it until the other side reads. One that takes long waits for a slow link: it counts no more, so that slow
links hold up neither others nor each other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from neurofed.errors import DataError
from neurofed.framing import CHUNK_BYTES

_CHUNKS, _CHUNKS_OF_EACH = 2, 4
_SLOW_S = 0.25


class _Permit:
    """A chunk under way."""

    counts = True
    timer: asyncio.TimerHandle


class Upload:
    """One blob on its way in.

    Args:
        arrived_bytes: how much of it is here.
        size_bytes: how long it is.
        allow: tells the worker how much has arrived and how far it may send.
    """

    def __init__(self, arrived_bytes: int, size_bytes: int, allow: Callable[[int, int], None]) -> None:
        self._arrived_bytes = self._granted_bytes = arrived_bytes
        self._size_bytes, self._allow = size_bytes, allow
        self.under_way: deque[_Permit] = deque()
        self.queued = False

    @property
    def wants(self) -> bool:
        """True while it could be granted another chunk."""
        return self._granted_bytes < self._size_bytes and len(self.under_way) < _CHUNKS_OF_EACH

    def grant(self, permit: _Permit) -> None:
        """Let another chunk come; to be told."""
        self.under_way.append(permit)
        self._granted_bytes = min(self._granted_bytes + CHUNK_BYTES, self._size_bytes)

    def tell(self) -> None:
        """Tell the worker of its grants."""
        self._allow(self._arrived_bytes, self._granted_bytes)

    def arrive(self, size_bytes: int) -> _Permit:
        """Take note of a chunk.

        Raises:
            DataError: if it was not granted.
        """
        if not self.under_way:
            raise DataError("expected no chunk before it was asked for, got one")
        self._arrived_bytes += size_bytes
        return self.under_way.popleft()

    def close(self) -> None:
        """Want no more."""
        self._granted_bytes = self._size_bytes


class Pace:
    """Shares the memory for chunks out. Belongs to one event loop."""

    def __init__(self) -> None:
        self._outgoing = asyncio.Semaphore(_CHUNKS)
        self._free = _CHUNKS
        self._queue: deque[Upload] = deque()

    def open(self, upload: Upload) -> None:
        """Let a blob come."""
        self._want(upload)
        self._share()

    def arrive(self, upload: Upload, size_bytes: int) -> None:
        """A chunk is here, and stored.

        Raises:
            DataError: if it was not granted.
        """
        self._release(upload.arrive(size_bytes))
        self._want(upload)
        self._share()

    def close(self, upload: Upload) -> None:
        """A blob is here, or does not come any more."""
        upload.close()
        while upload.under_way:
            self._release(upload.under_way.popleft())
        self._share()

    async def outgoing(self) -> Callable[[], None]:
        """Wait until another chunk may go; what is returned is to be called once it has arrived, or never will."""
        await self._outgoing.acquire()
        permit = _Permit()

        def leave() -> None:
            permit.timer.cancel()
            if permit.counts:
                permit.counts = False
                self._outgoing.release()

        permit.timer = asyncio.get_running_loop().call_later(_SLOW_S, leave)
        return leave

    def _want(self, upload: Upload) -> None:
        if upload.wants and not upload.queued:
            upload.queued = True
            self._queue.append(upload)

    def _share(self) -> None:
        granted: dict[Upload, None] = {}
        while self._free > 0 and self._queue:
            upload = self._queue.popleft()
            upload.queued = False
            if upload.wants:
                permit = _Permit()
                permit.timer = asyncio.get_running_loop().call_later(_SLOW_S, self._expire, permit)
                self._free -= 1
                upload.grant(permit)
                granted[upload] = None
            self._want(upload)
        for upload in granted:
            upload.tell()

    def _expire(self, permit: _Permit) -> None:
        self._release(permit)
        self._share()

    def _release(self, permit: _Permit) -> None:
        permit.timer.cancel()
        if permit.counts:
            permit.counts = False
            self._free += 1
