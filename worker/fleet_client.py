"""The worker's end of the stream: joins, receives tasks, sends progress and results, comes back after a cut.

The stream lives in an event loop; the task runs in a thread beside it, so heartbeats go on while the chip trains.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

import neurofed
from neurofed import protocol, rpc
from neurofed.errors import DamagedError, DataError, LeftFederationError, UnreachableError
from neurofed.framing import Chunk, Frame, chunk_frame, read_frame
from neurofed.rope import rope
from neurofed.sdnotify import notify
from neurofed.transfer import MAX_BLOB_BYTES, WINDOW_BYTES, BlobReceiver, Outbox, Sending
from neurofed.v1 import fleet_pb2
from neurofed.v1.fleet_pb2_grpc import FleetServiceStub
from worker import board
from worker.jobs import Execute, Finished, Jobs, RunningTask

if TYPE_CHECKING:
    from neurofed.security.credentials import Credentials

_LOG = logging.getLogger(__name__)
_BACKOFF_S = (0.2, 10.0)
_TICK_S = 0.2
_JOIN_TIMEOUT_S = 10.0
_WORK = f"/{fleet_pb2.DESCRIPTOR.services_by_name['FleetService'].full_name}/Work"


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
class _Stream:
    """One open stream.

    Attributes:
        node_id: this worker's number in Flower's terms.
        outbox: what waits to be sent.
        asked: the task that was announced last on this stream: only its result may be offered on it.
        incoming: that task, while its blob is on its way.
    """

    node_id: int
    outbox: Outbox[bytes] = field(default_factory=Outbox)
    asked: str = ""
    incoming: fleet_pb2.Task | None = None

    def send(self, frame: fleet_pb2.WorkRequest) -> None:
        """Write a frame, before chunks that wait."""
        self.outbox.put(frame.SerializeToString())

    def received(self, offset: int) -> None:
        """Acknowledge the first bytes of the asked task's blob, and ask for more."""
        received = fleet_pb2.Received(task_id=self.asked, offset=offset, limit=offset + WINDOW_BYTES)
        self.send(fleet_pb2.WorkRequest(received=received))

    def offer(self, finished: Finished) -> None:
        """Announce a result; its chunks follow as they are asked for."""
        self.outbox.announce(
            fleet_pb2.WorkRequest(result=finished.result).SerializeToString(),
            Sending(finished.task.task_id, len(finished.blob)),
            partial(chunk_frame, fleet_pb2.WorkRequest, rope(finished.blob)),
        )


class FleetClient:
    """Serves one aggregator until told to leave.

    Args:
        address: `HOST:PORT` of the aggregator.
        identity: what to say of this worker.
        execute: does a task, in a thread; an exception becomes the task's error.
        credentials: what to show and whom to trust; None means plain text.
        give_up_after_s: how long to try to reach an aggregator; None tries for ever.
        still_wanted: asked now and then; False ends the worker.
        heartbeat: makes a heartbeat.
    """

    def __init__(
        self,
        address: str,
        identity: Identity,
        execute: Execute,
        *,
        credentials: Credentials | None = None,
        give_up_after_s: float | None = None,
        still_wanted: Callable[[], bool] = lambda: True,
        heartbeat: Callable[[], fleet_pb2.Heartbeat] = board.heartbeat,
    ) -> None:
        self._address, self._identity, self._credentials = address, identity, credentials
        self._give_up_after_s, self._still_wanted = give_up_after_s, still_wanted
        self._heartbeat = heartbeat
        self._jobs = Jobs(execute, self._offer)
        self._stream: _Stream | None = None
        self._blob: BlobReceiver | None = None
        self._leaving: LeftFederationError | None = None

    async def serve(self) -> None:
        """Join and work until drained.

        Raises:
            LinkError: if the aggregator refuses this worker, or cannot be reached for too long.
        """
        backoff_s, unreachable_since = _BACKOFF_S[0], time.monotonic()
        notify(READY="1")
        try:
            while self._still_wanted() and not self._leaving:
                try:
                    async with rpc.aio_channel(self._address, self._credentials) as channel:
                        joined = await self._join(FleetServiceStub(channel))
                        _LOG.info("%s joined the aggregator at %s", self._identity.name, self._address)
                        notify(STATUS=f"joined {self._address} as {self._identity.name}")
                        backoff_s = _BACKOFF_S[0]
                        await self._work(channel, joined)
                        unreachable_since = time.monotonic()
                except LeftFederationError:
                    break
                except UnreachableError:
                    patience_s = self._give_up_after_s
                    if patience_s is not None and time.monotonic() - unreachable_since > patience_s:
                        raise
                pause_s = backoff_s * random.uniform(0.5, 1.0)  # noqa: S311 (spreads reconnects, no secret)
                _LOG.info("no aggregator at %s, trying again in %.1f s", self._address, pause_s)
                notify(STATUS=f"no aggregator at {self._address}", WATCHDOG="1")
                await asyncio.sleep(pause_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_S[1])
        finally:
            notify(STOPPING="1")
            self._jobs.abandon()  # its thread ends at its next step, and the process need not wait for more
        if self._leaving:
            _LOG.info("%s leaves: %s", self._identity.name, self._leaving)

    async def _join(self, stub: Any) -> fleet_pb2.JoinResponse:
        who = self._identity
        request = fleet_pb2.JoinRequest(
            name=who.name,
            instance=who.instance,
            version=neurofed.__version__,
            oldest_protocol=protocol.OLDEST,
            newest_protocol=protocol.NEWEST,
            capabilities=sorted(protocol.CAPABILITIES),
            chip=who.chip,
            cores=who.cores,
            workloads=who.workloads,
        )
        try:
            response: fleet_pb2.JoinResponse = await stub.Join(request, timeout=_JOIN_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise UnreachableError(f"expected an aggregator at {self._address}, got no answer") from None
            raise rpc.in_our_words(error, self._address, self._credentials) from None
        protocol.check(response)
        return response

    # -- one stream

    async def _work(self, channel: grpc.aio.Channel, joined: fleet_pb2.JoinResponse) -> None:
        """Serve one stream until it breaks; what goes out on it is serialised already, see `chunk_frame`."""
        call: Any = channel.stream_stream(_WORK, response_deserializer=partial(read_frame, fleet_pb2.WorkResponse))()
        stream = self._stream = _Stream(joined.node_id)
        stream.send(fleet_pb2.WorkRequest(hello=fleet_pb2.Hello(session=joined.session)))
        beat = self._beat(call, stream, joined.heartbeat_s)
        helpers = [asyncio.create_task(_write(call, stream)), asyncio.create_task(beat)]
        try:
            async for frame in call:
                self._handle(stream, frame)
        except grpc.aio.AioRpcError as error:
            # An unknown session too: another worker took the name or the aggregator restarted; joining again tells
            _LOG.warning("the stream to %s broke: %s", self._address, error.details())
        except DataError as error:
            _LOG.warning("closing the stream to %s: %s", self._address, error)
        finally:
            self._stream = None
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            call.cancel()

    async def _beat(self, call: Any, stream: _Stream, interval_s: float) -> None:
        """Heartbeats, and progress when there is some."""
        beaten_s = 0.0
        while True:
            if progress := self._jobs.progress():
                stream.send(fleet_pb2.WorkRequest(progress=progress))
            if time.monotonic() - beaten_s >= interval_s:
                beaten_s = time.monotonic()
                stream.send(fleet_pb2.WorkRequest(heartbeat=self._heartbeat()))
                notify(WATCHDOG="1")
                if not self._still_wanted():
                    call.cancel()
            await asyncio.sleep(_TICK_S)

    def _handle(self, stream: _Stream, frame: Frame[fleet_pb2.WorkResponse]) -> None:
        """Act on a frame.

        Raises:
            DataError: if the stream has to end.
            LeftFederationError: if it is time to leave.
        """
        response = frame.message
        if frame.chunk:
            self._take(stream, frame.chunk)
        match frame.kind:
            case "task":
                self._ask(stream, response.task)
            case "received":
                stream.outbox.acknowledge(response.received)
            case "verdict":
                stream.outbox.withdraw(response.verdict.task_id)
                self._jobs.forget(response.verdict.task_id)
                if not stream.incoming and not self._jobs.holds(stream.asked):
                    self._blob = None
                if not response.verdict.accepted:
                    _LOG.warning("the result of %s was refused: %s", response.verdict.task_id, response.verdict.reason)
            case "cancel":
                self._withdraw(stream, response.cancel.task_id)
            case "drain":
                self._leaving = LeftFederationError(response.drain.reason)
        if self._leaving and not stream.incoming and not self._jobs.holds(stream.asked):
            raise self._leaving

    def _ask(self, stream: _Stream, task: fleet_pb2.Task) -> None:
        """Take a task on: what is here of its blob is not asked for again."""
        stream.asked, stream.incoming = task.task_id, None
        if self._jobs.has(task):
            stream.received(task.content.blob.size_bytes)
            if finished := self._jobs.finished(task):
                stream.offer(finished)
            return
        if self._blob is None or self._blob.announced != task.content.blob:
            try:
                self._blob = BlobReceiver(task.content.blob, MAX_BLOB_BYTES)
            except DataError as error:
                self._jobs.fail(task, str(error))
                return
        stream.incoming = task
        stream.received(self._blob.received_bytes)
        self._begin(stream)

    def _take(self, stream: _Stream, chunk: Chunk) -> None:
        if stream.incoming is None or self._blob is None:
            return  # of a task that was withdrawn meanwhile
        try:
            self._blob.add(chunk)
        except DamagedError:
            raise
        except (DataError, OSError) as error:
            self._give_up(stream, stream.incoming, str(error))
            return
        stream.received(self._blob.received_bytes)
        self._begin(stream)

    def _begin(self, stream: _Stream) -> None:
        """Start the task whose blob is here as a whole."""
        task, receiver = stream.incoming, self._blob
        if task is None or receiver is None or not receiver.complete:
            return
        stream.incoming = None
        try:
            self._jobs.begin(RunningTask(task, receiver.finish(), stream.node_id))
        except DataError as error:
            self._give_up(stream, task, str(error))

    def _give_up(self, stream: _Stream, task: fleet_pb2.Task, reason: str) -> None:
        """Answer a task whose blob is not what was announced."""
        self._blob = stream.incoming = None
        self._jobs.fail(task, reason)

    def _withdraw(self, stream: _Stream, task_id: str) -> None:
        stream.outbox.withdraw(task_id)
        self._jobs.cancel(task_id)
        if stream.incoming and stream.incoming.task_id == task_id:
            self._blob = stream.incoming = None

    def _offer(self, finished: Finished) -> None:
        """Offer a result on the stream that asked for it; else it is kept until a stream asks again."""
        if self._stream and self._stream.asked == finished.task.task_id:
            self._stream.offer(finished)


async def _write(call: Any, stream: _Stream) -> None:
    while True:
        await call.write(await stream.outbox.get())
