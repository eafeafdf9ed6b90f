"""One open stream of a worker: frames in, frames out, and what was asked of the worker on it."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from neurofed.errors import DataError
from neurofed.framing import Frame
from neurofed.transfer import WINDOW_BYTES, Outbox, Sending
from neurofed.v1 import fleet_pb2
from server.pace import Pace, Upload

Incoming = Frame[fleet_pb2.WorkRequest]
Context = grpc.aio.ServicerContext[Any, Any]
"""Of the stream; responses are written as bytes."""

_MAX_WAITING = 1000
"""Frames for a worker that does not read its stream."""
_MAX_REMEMBERED = 16


class Standing(enum.Enum):
    """How a task stands on a stream when a result for it arrives."""

    UNKNOWN = enum.auto()
    """It was not announced on this stream: an honest worker answers only what it was asked."""
    ASKED = enum.auto()
    OFFERED = enum.auto()
    """A result was announced already. An honest worker does so once."""
    WITHDRAWN = enum.auto()
    """The result and the withdrawal may have crossed. From now on it counts as offered."""


@dataclass(slots=True)
class _Asked:
    run_id: str
    round_number: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk to write: its frame is made once it may go, so that those that wait take no memory.

    Attributes:
        offset: where it begins.
        make: makes the frame of the chunk at an offset.
    """

    offset: int
    make: Callable[[int], bytes]


class WorkStream:
    """One open stream of a worker.

    Args:
        context: gRPC's end of it.
        pace: how many chunks may be under way.
        silence_s: without any frame for this long it is dead.
    """

    def __init__(self, context: Context, pace: Pace, silence_s: float) -> None:
        self._context, self._pace, self._silence_s = context, pace, silence_s
        self._outbox: Outbox[bytes | _Chunk] = Outbox()
        self._tasks: dict[str, _Asked] = {}
        self._stray_bytes = 0
        self.uploading = ""
        """The task whose result was announced on this stream and is awaited."""
        self._upload: Upload | None = None
        self._under_way: deque[tuple[int, Callable[[], None]]] = deque()
        """Chunks on their way out: where each begins, and what to call when it has arrived."""

    # -- out

    def send(self, frame: fleet_pb2.WorkResponse) -> None:
        """Write a frame, before chunks that wait."""
        self._outbox.put(frame.SerializeToString())

    def announce(self, task: fleet_pb2.Task, size_bytes: int, chunk: Callable[[int], bytes]) -> int:
        """Ask for a task; its chunks follow as the worker asks for them. Returns the length of the frame.

        Args:
            task: what to ask for.
            size_bytes: length of its blob.
            chunk: makes the frame of the chunk at an offset.
        """
        frame = fleet_pb2.WorkResponse(task=task).SerializeToString()
        self._tasks.pop(task.task_id, None)
        self._tasks[task.task_id] = _Asked(task.run_id, task.round, Standing.ASKED)
        while len(self._tasks) > _MAX_REMEMBERED:
            self._tasks.pop(next(iter(self._tasks)))
        self._landed()
        self._outbox.announce(frame, Sending(task.task_id, size_bytes), lambda offset: _Chunk(offset, chunk))
        return len(frame)

    def acknowledge(self, received: fleet_pb2.Received) -> bool:
        """The worker has a part of the task's blob; True where that is all of it.

        Raises:
            DataError: if that cannot be.
        """
        whole = self._outbox.acknowledge(received)
        self._landed(received.offset)
        return whole

    def _landed(self, offset: int | None = None) -> None:
        """Chunks that begin before `offset` are under way no more; without it, none are."""
        while self._under_way and (offset is None or self._under_way[0][0] < offset):
            _, leave = self._under_way.popleft()
            leave()

    def withdraw(self, task_id: str) -> None:
        """Take a task back."""
        self._close(task_id, Standing.WITHDRAWN)
        self.send(fleet_pb2.WorkResponse(cancel=fleet_pb2.Cancel(task_id=task_id)))

    def judge(self, task_id: str, accepted: bool, reason: str = "") -> None:
        """Tell the worker what became of its result."""
        self._close(task_id, Standing.OFFERED)
        verdict = fleet_pb2.Verdict(task_id=task_id, accepted=accepted, reason=reason)
        self.send(fleet_pb2.WorkResponse(verdict=verdict))

    async def write(self) -> None:
        """Write what waits, until cancelled or the stream breaks."""
        try:
            while True:
                frame = await self._outbox.get()
                if isinstance(frame, _Chunk):
                    self._under_way.append((frame.offset, await self._pace.outgoing()))
                    frame = frame.make(frame.offset)
                await self._context.write(frame)
                del frame  # a chunk of each worker would stay in memory while there is nothing to write
        finally:
            self._landed()

    # -- in

    async def frames(self) -> AsyncIterator[Incoming]:
        """The worker's frames until it ends the stream.

        Raises:
            TimeoutError: if it is silent for too long.
            DataError: if it does not read what it is sent.
        """
        while True:
            frame: object = await asyncio.wait_for(self._context.read(), self._silence_s)
            if not isinstance(frame, Frame):  # grpc.aio.EOF
                return
            yield frame
            del frame  # a chunk of each worker would stay in memory while the next is awaited
            if len(self._outbox) > _MAX_WAITING:
                raise DataError(f"expected a worker that reads its stream, got {len(self._outbox)} frames unread")

    def origin(self, task_id: str) -> tuple[str, int]:
        """Run and round of a task announced on this stream; no run and round 0 of any other."""
        asked = self._tasks.get(task_id)
        return (asked.run_id, asked.round_number) if asked else ("", 0)

    def offer(self, task_id: str) -> Standing:
        """How a task stands for which a result is announced; from now on it counts as offered."""
        self._stray_bytes = 0
        asked = self._tasks.get(task_id)
        if asked is None:
            return Standing.UNKNOWN
        standing, asked.standing = asked.standing, Standing.OFFERED
        if standing is Standing.ASKED:
            self.uploading = task_id
        return standing

    def await_blob(self, arrived_bytes: int, size_bytes: int) -> None:
        """Let the bytes of the announced result come, from where they were."""
        self._upload = Upload(arrived_bytes, size_bytes, partial(self._allow, self.uploading))
        self._pace.open(self._upload)

    def arrive(self, size_bytes: int) -> None:
        """A chunk of it is here.

        Raises:
            DataError: if it was not asked for.
        """
        if self._upload is None:
            raise DataError("expected no chunk before it was asked for, got one")
        self._pace.arrive(self._upload, size_bytes)

    def close(self) -> None:
        """Await nothing more: the result is here, or the task withdrawn, or the stream has ended."""
        if self._upload:
            self._pace.close(self._upload)
        self._upload, self.uploading = None, ""

    def stray(self, size_bytes: int) -> None:
        """Pass over bytes of a result that is settled or withdrawn: what was under way.

        Raises:
            DataError: if it is more than can have been.
        """
        self._stray_bytes += size_bytes
        if self._stray_bytes > WINDOW_BYTES:
            raise DataError(f"expected no more chunks, got {self._stray_bytes} bytes nobody asked for")

    def _close(self, task_id: str, standing: Standing) -> None:
        self._outbox.withdraw(task_id)
        if (asked := self._tasks.get(task_id)) and asked.standing is Standing.ASKED:
            asked.standing = standing
        if self.uploading == task_id:
            self.close()

    def _allow(self, task_id: str, offset: int, limit: int) -> None:
        received = fleet_pb2.Received(task_id=task_id, offset=offset, limit=limit)
        self.send(fleet_pb2.WorkResponse(received=received))
