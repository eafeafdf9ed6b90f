"""The worker's end of the stream: joins, receives tasks, sends progress and results, comes back after a cut.

The stream lives in an event loop; the task runs in a thread beside it, so heartbeats go on while the chip trains.
"""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

import neurofed
from neurofed import rpc
from neurofed.errors import LeftFederationError, UnreachableError
from neurofed.transfer import MAX_BLOB_BYTES, BlobReceiver, chunks
from neurofed.v1 import fleet_pb2, records_pb2
from neurofed.v1.fleet_pb2_grpc import FleetServiceStub

_LOG = logging.getLogger(__name__)
_BACKOFF_S = (0.2, 10.0)
_PROGRESS_INTERVAL_S = 0.2
_JOIN_TIMEOUT_S = 10.0


class TaskCancelled(Exception):  # noqa: N818 (not an error: the aggregator's wish)
    """The aggregator withdrew the task."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker says of itself.

    Attributes:
        name: its name in the federation.
        chip: name of its emulated chip.
        cores: number of emulated cores.
        workloads: the workloads installed here.
        instance: this process; a reconnect of the same process replaces its stale stream.
    """

    name: str
    chip: str
    cores: int
    workloads: tuple[str, ...]
    instance: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(slots=True)
class RunningTask:
    """A task on the chip. `report` is called in the task's thread, the rest in the event loop's.

    Attributes:
        task: what is asked for.
        blob: the bytes of its arrays.
        node_id: this worker's number in Flower's terms.
    """

    task: fleet_pb2.Task
    blob: bytes
    node_id: int
    cancelled: bool = False
    progress: fleet_pb2.Progress | None = None
    _told_s: float = 0.0

    def report(self, done: int, steps: int, numbers: Mapping[str, float]) -> None:
        """Tell how far the task is, not more often than anybody could read.

        Raises:
            TaskCancelled: if the task was withdrawn.
        """
        if self.cancelled:
            raise TaskCancelled(self.task.task_id)
        now_s = time.monotonic()
        if now_s - self._told_s >= _PROGRESS_INTERVAL_S or done == steps:
            self._told_s = now_s
            self.progress = fleet_pb2.Progress(task_id=self.task.task_id, step=done, steps=steps, values=numbers)


Execute = Callable[[RunningTask], tuple[records_pb2.Content, bytes]]
"""Does a task: its records and the bytes of their arrays."""


class FleetClient:
    """Serves one aggregator until told to leave.

    Args:
        address: `HOST:PORT` of the aggregator.
        identity: what to say of this worker.
        execute: does a task, in a thread; an exception becomes the task's error.
        give_up_after_s: how long to try to reach an aggregator; None tries for ever.
        still_wanted: asked now and then; False ends the worker.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        execute: Execute,
        *,
        give_up_after_s: float | None = None,
        still_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._address, self._identity, self._execute = address, identity, execute
        self._give_up_after_s, self._still_wanted = give_up_after_s, still_wanted
        self._outbox: asyncio.Queue[fleet_pb2.WorkRequest] = asyncio.Queue()
        self._running: RunningTask | None = None
        self._finished: tuple[fleet_pb2.Task, list[fleet_pb2.WorkRequest]] | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._chip = asyncio.Lock()

    async def serve(self) -> None:
        """Join and work until drained.

        Raises:
            LinkError: if the aggregator refuses this worker, or cannot be reached for too long.
        """
        backoff_s, unreachable_since = _BACKOFF_S[0], time.monotonic()
        while self._still_wanted():
            try:
                async with grpc.aio.insecure_channel(self._address, options=rpc.OPTIONS) as channel:
                    stub = FleetServiceStub(channel)
                    joined = await self._join(stub)
                    _LOG.info("%s joined the aggregator at %s", self._identity.name, self._address)
                    backoff_s = _BACKOFF_S[0]
                    await self._work(stub, joined)
                    unreachable_since = time.monotonic()
            except LeftFederationError as goodbye:
                _LOG.info("%s leaves: %s", self._identity.name, goodbye)
                return
            except UnreachableError:
                patience_s = self._give_up_after_s
                if patience_s is not None and time.monotonic() - unreachable_since > patience_s:
                    raise
            pause_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 (spreads reconnects, no secret)
            _LOG.info("no aggregator at %s, trying again in %.1f s", self._address, pause_s)
            await asyncio.sleep(pause_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_S[1])

    async def _join(self, stub: Any) -> fleet_pb2.JoinResponse:
        who = self._identity
        request = fleet_pb2.JoinRequest(
            name=who.name,
            instance=who.instance,
            version=neurofed.__version__,
            protocol_version=rpc.PROTOCOL_VERSION,
            chip=who.chip,
            cores=who.cores,
            workloads=who.workloads,
        )
        try:
            response: fleet_pb2.JoinResponse = await stub.Join(request, timeout=_JOIN_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise UnreachableError(f"expected an aggregator at {self._address}, got no answer") from None
            raise rpc.in_our_words(error, self._address) from None
        return response

    async def _work(self, stub: Any, joined: fleet_pb2.JoinResponse) -> None:
        """Serve one stream until it breaks."""
        call = stub.Work()
        self._outbox = asyncio.Queue()
        self._outbox.put_nowait(fleet_pb2.WorkRequest(hello=fleet_pb2.Hello(session=joined.session)))
        helpers = [asyncio.create_task(self._write(call)), asyncio.create_task(self._beat(call, joined.heartbeat_s))]
        try:
            await self._read(call, joined.node_id)
        except grpc.aio.AioRpcError as error:
            # An unknown session too: another worker took the name or the aggregator restarted; joining again tells
            _LOG.warning("the stream to %s broke: %s", self._address, error.details())
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            call.cancel()

    async def _write(self, call: Any) -> None:
        while True:
            await call.write(await self._outbox.get())

    async def _beat(self, call: Any, interval_s: float) -> None:
        """Heartbeats, and progress when there is some."""
        beaten_s = 0.0
        while True:
            if self._running and self._running.progress:
                progress, self._running.progress = self._running.progress, None
                self._outbox.put_nowait(fleet_pb2.WorkRequest(progress=progress))
            if time.monotonic() - beaten_s >= interval_s:
                beaten_s = time.monotonic()
                self._outbox.put_nowait(fleet_pb2.WorkRequest(heartbeat=_heartbeat()))
                if not self._still_wanted():
                    call.cancel()
            await asyncio.sleep(_PROGRESS_INTERVAL_S)

    async def _read(self, call: Any, node_id: int) -> None:
        task, receiver = fleet_pb2.Task(), None
        async for response in call:
            match response.WhichOneof("frame"):
                case "task":
                    task, receiver = response.task, BlobReceiver(response.task.content.blob, MAX_BLOB_BYTES)
                case "chunk" if receiver:
                    receiver.add(response.chunk)
                case "ack":
                    self._forget(response.ack.task_id)
                    if not response.ack.accepted:
                        _LOG.warning("the result of %s was refused: %s", response.ack.task_id, response.ack.reason)
                case "cancel":
                    self._cancel(response.cancel.task_id)
                case "drain":
                    raise LeftFederationError(response.drain.reason)
            if receiver and receiver.complete:
                self._begin(RunningTask(task, receiver.finish(), node_id))
                receiver = None

    # -- tasks

    def _begin(self, running: RunningTask) -> None:
        """Start a task, unless it is in hand already or its result waits for its acknowledgement."""
        if self._finished and self._finished[0] == running.task:
            for frame in self._finished[1]:
                self._outbox.put_nowait(frame)
            return
        if self._running and self._running.task == running.task:
            return
        if self._running:
            self._running.cancelled = True
        self._running = running
        job = asyncio.create_task(self._do(running))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def _cancel(self, task_id: str) -> None:
        self._forget(task_id)
        if self._running and self._running.task.task_id == task_id:
            self._running.cancelled = True
            self._running = None

    def _forget(self, task_id: str) -> None:
        if self._finished and self._finished[0].task_id == task_id:
            self._finished = None

    async def _do(self, running: RunningTask) -> None:
        result = fleet_pb2.Result(task_id=running.task.task_id)
        blob = b""
        try:
            async with self._chip:  # a withdrawn task leaves it at its next step
                if running.cancelled:
                    return
                content, blob = await asyncio.to_thread(self._execute, running)
            result.content.CopyFrom(content)
        except TaskCancelled:
            return
        except Exception as error:
            _LOG.exception("task %s failed", running.task.task_id)
            result.error.reason = f"{type(error).__name__}: {error}"[:500]
        if running.cancelled:
            return
        if self._running is running:
            self._running = None
        frames = [fleet_pb2.WorkRequest(result=result)]
        frames += [fleet_pb2.WorkRequest(chunk=chunk) for chunk in chunks(blob)]
        if running.progress:
            self._outbox.put_nowait(fleet_pb2.WorkRequest(progress=running.progress))
        self._finished = (running.task, frames)
        for frame in frames:
            self._outbox.put_nowait(frame)


def _heartbeat() -> fleet_pb2.Heartbeat:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return fleet_pb2.Heartbeat(cpu_s=usage.ru_utime + usage.ru_stime, rss_bytes=usage.ru_maxrss * 1024)
