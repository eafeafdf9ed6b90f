"""The fleet service: the aggregator's end of every worker's stream.

Everything here runs in one event loop. Other threads hand tasks in through `assign` and get outcomes through the
callback of the assignment.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import Message as Payload

import neurofed
from neurofed import rpc, tensors
from neurofed.errors import DataError
from neurofed.transfer import MAX_BLOB_BYTES, BlobReceiver
from neurofed.v1 import fleet_pb2, monitor_pb2
from neurofed.v1.fleet_pb2_grpc import FleetServiceServicer
from server.roster import NAME, Assignment, Outcome, Outgoing, Worker, joined_event, node_id_of

_LOG = logging.getLogger(__name__)

Emit = Callable[[Payload], object]
Context = grpc.aio.ServicerContext[fleet_pb2.WorkRequest, fleet_pb2.WorkResponse]

HEARTBEAT_S = 5.0
SILENCE_S = 3 * HEARTBEAT_S
"""A stream without any frame for this long is dead."""
GRACE_S = 5.0
"""A worker whose stream broke has this long to come back before its task is given up."""


def _ignore(_: Payload) -> None:
    """Where events go while no run is active."""


@dataclass(slots=True)
class _Incoming:
    """A result on its way in."""

    result: fleet_pb2.Result
    receiver: BlobReceiver
    bytes_up: int = 0


@dataclass(slots=True)
class _Stream:
    """One open stream of a worker."""

    context: Context
    outbox: asyncio.Queue[Outgoing] = field(default_factory=asyncio.Queue)
    incoming: _Incoming | None = None


class FleetService(FleetServiceServicer):
    """Admits workers, sends them tasks, takes their results.

    Args:
        grace_s: how long a worker whose stream broke may stay away before its task is given up.
    """

    def __init__(self, *, grace_s: float = GRACE_S) -> None:
        self.emit: Emit = _ignore
        self.changed = threading.Condition()
        self._loop = asyncio.get_running_loop()
        self._grace_s = grace_s
        self._workers: dict[str, Worker] = {}

    # -- called from any thread

    def workers(self) -> list[Worker]:
        """The workers that can be given tasks: connected, or away for less than the grace time; by name."""
        return sorted((w for w in self._known() if not w.lost), key=lambda w: w.name)

    def roster(self) -> list[Worker]:
        """All workers ever joined, by name."""
        return sorted(self._known(), key=lambda w: w.name)

    def _known(self) -> list[Worker]:
        return list(self._workers.values())

    def assign(self, node_id: int, assignment: Assignment) -> None:
        """Give a worker a task; its outcome is delivered whatever happens."""
        self._loop.call_soon_threadsafe(self._assign, node_id, assignment)

    def cancel(self, task_id: str) -> None:
        """Withdraw a task; nothing is delivered for it any more."""
        self._loop.call_soon_threadsafe(self._cancel, task_id)

    # -- the service

    async def Join(  # noqa: N802 (the name is the protocol's)
        self, request: fleet_pb2.JoinRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> fleet_pb2.JoinResponse:
        """Admit a worker; see fleet.proto."""
        if complaint := _version_complaint(request):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, complaint)
        if not NAME.fullmatch(request.name):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"worker name: {NAME.pattern} expected")
        known = self._workers.get(request.name)
        if known and known.connected and known.instance != request.instance:
            await context.abort(
                grpc.StatusCode.ALREADY_EXISTS,
                f"expected a name no other worker has, got {request.name!r} which is connected: choose another --name",
            )
        worker = self._admit(request, known)
        return fleet_pb2.JoinResponse(
            session=worker.session,
            node_id=worker.node_id,
            heartbeat_s=HEARTBEAT_S,
            max_blob_bytes=MAX_BLOB_BYTES,
        )

    async def Work(  # type: ignore[override]  # noqa: N802
        self, _: object, context: Context
    ) -> None:
        """Serve one worker's stream until it ends; see fleet.proto."""
        first = await context.read()
        session = first.hello.session if isinstance(first, fleet_pb2.WorkRequest) else ""
        worker = next((w for w in self._workers.values() if session and w.session == session), None)
        if worker is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected the session that Join returned")
        stream = _Stream(context)
        self._attach(worker, stream)
        writer = asyncio.create_task(self._write(worker, stream))
        try:
            await self._read(worker, stream)
        except TimeoutError:
            _LOG.warning("worker %s: silent for %g s, closing its stream", worker.name, SILENCE_S)
        finally:
            writer.cancel()
            self._detach(worker, stream)

    def drain(self, reason: str) -> None:
        """Ask every connected worker to leave. Call in the event loop."""
        for worker in self._workers.values():
            if worker.outbox:
                worker.outbox.put_nowait(fleet_pb2.WorkResponse(drain=fleet_pb2.Drain(reason=reason)))

    # -- workers come and go

    def _admit(self, request: fleet_pb2.JoinRequest, known: Worker | None) -> Worker:
        worker = known or Worker(request.name, node_id_of(request.name), "", "", "", 0, "")
        worker.instance, worker.session = request.instance, secrets.token_hex(16)
        worker.chip, worker.cores, worker.version = request.chip, request.cores, request.version
        self._workers[worker.name] = worker
        return worker

    def _attach(self, worker: Worker, stream: _Stream) -> None:
        rejoined = worker.lost or worker.assignment is not None
        worker.outbox, worker.lost = stream.outbox, False
        if worker.assignment:
            stream.outbox.put_nowait(worker.assignment)
        self.emit(joined_event(worker, rejoined=rejoined))
        self._notify()

    def _detach(self, worker: Worker, stream: _Stream) -> None:
        if worker.outbox is stream.outbox:
            worker.outbox = None
            self._loop.call_later(self._grace_s, self._give_up, worker, worker.session)

    def _give_up(self, worker: Worker, session: str) -> None:
        if worker.connected or worker.session != session or worker.lost:
            return
        worker.lost = True
        reason = f"its stream broke and it did not come back within {self._grace_s:g} s"
        self.emit(monitor_pb2.WorkerLost(name=worker.name, reason=reason))
        if worker.assignment:
            self._settle(worker, Outcome(worker.assignment.task.task_id, error=reason, lost=True))
        self._notify()

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    # -- tasks

    def _assign(self, node_id: int, assignment: Assignment) -> None:
        worker = next((w for w in self._workers.values() if w.node_id == node_id and not w.lost), None)
        if worker is None:
            assignment.deliver(Outcome(assignment.task.task_id, error="the worker is gone", lost=True))
            return
        worker.assignment = assignment
        if worker.outbox:
            worker.outbox.put_nowait(assignment)

    def _cancel(self, task_id: str) -> None:
        for worker in self._workers.values():
            if worker.assignment and worker.assignment.task.task_id == task_id:
                worker.assignment = None
                if worker.outbox:
                    worker.outbox.put_nowait(fleet_pb2.WorkResponse(cancel=fleet_pb2.Cancel(task_id=task_id)))

    def _settle(self, worker: Worker, outcome: Outcome) -> None:
        assignment, worker.assignment = worker.assignment, None
        if assignment:
            assignment.deliver(outcome)
        if worker.outbox:
            ack = fleet_pb2.Ack(task_id=outcome.task_id, accepted=not outcome.rejected, reason=outcome.error)
            worker.outbox.put_nowait(fleet_pb2.WorkResponse(ack=ack))

    async def _write(self, worker: Worker, stream: _Stream) -> None:
        while True:
            item = await stream.outbox.get()
            if isinstance(item, fleet_pb2.WorkResponse):
                await stream.context.write(item)
                continue
            frames = (fleet_pb2.WorkResponse(chunk=chunk) for chunk in item.chunks)
            bytes_down = 0
            for frame in (fleet_pb2.WorkResponse(task=item.task), *frames):
                await stream.context.write(frame)
                bytes_down += frame.ByteSize()
            self.emit(
                monitor_pb2.TaskSent(
                    worker=worker.name, round=item.round_number, kind=item.task.kind, bytes_down=bytes_down
                )
            )

    async def _read(self, worker: Worker, stream: _Stream) -> None:
        while True:
            request: object = await asyncio.wait_for(stream.context.read(), SILENCE_S)
            if not isinstance(request, fleet_pb2.WorkRequest):  # grpc.aio.EOF
                return
            worker.last_seen_s = self._loop.time()
            match request.WhichOneof("frame"):
                case "heartbeat":
                    worker.cpu_s, worker.rss_bytes = request.heartbeat.cpu_s, request.heartbeat.rss_bytes
                case "progress":
                    self._progress(worker, request.progress)
                case "result" | "chunk":
                    self._take(worker, stream, request)
                case _:
                    _LOG.warning("worker %s: unexpected frame %s", worker.name, request.WhichOneof("frame"))

    def _progress(self, worker: Worker, progress: fleet_pb2.Progress) -> None:
        assignment = worker.assignment
        if assignment and assignment.task.task_id == progress.task_id:
            self.emit(
                monitor_pb2.TaskProgress(
                    worker=worker.name,
                    round=assignment.round_number,
                    step=progress.step,
                    steps=progress.steps,
                    values=progress.values,
                )
            )

    def _take(self, worker: Worker, stream: _Stream, request: fleet_pb2.WorkRequest) -> None:
        """Take a result or the next chunk of one; a result that breaks the rules is refused, the stream goes on."""
        try:
            if request.HasField("result"):
                stream.incoming = self._open_result(worker, request.result)
            elif stream.incoming:
                stream.incoming.receiver.add(request.chunk)
            incoming = stream.incoming
            if incoming is None:
                return
            incoming.bytes_up += request.ByteSize()
            if incoming.receiver.complete:
                stream.incoming = None
                blob = incoming.receiver.finish()
                result = incoming.result
                self._settle(worker, Outcome(result.task_id, result.content, blob, incoming.bytes_up))
        except DataError as error:
            stream.incoming = None
            if worker.assignment:
                self._settle(worker, Outcome(worker.assignment.task.task_id, error=str(error), rejected=True))

    def _open_result(self, worker: Worker, result: fleet_pb2.Result) -> _Incoming | None:
        """Check a result's header; None where no bytes are to be kept."""
        assignment = worker.assignment
        if assignment is None or assignment.task.task_id != result.task_id:
            if worker.outbox:
                ack = fleet_pb2.Ack(task_id=result.task_id, accepted=False, reason="nobody waits for this task")
                worker.outbox.put_nowait(fleet_pb2.WorkResponse(ack=ack))
            return None
        if result.WhichOneof("outcome") != "content":
            reason = result.error.reason or "the worker gave no reason"
            self._settle(worker, Outcome(result.task_id, error=reason[:500]))
            return None
        asked = assignment.task.content
        for name, manifest in result.content.arrays.items():
            tensors.size_bytes(manifest, MAX_BLOB_BYTES)
            if name in asked.arrays:
                tensors.require_same(manifest, asked.arrays[name], f"worker {worker.name}")
        return _Incoming(result, BlobReceiver(result.content.blob, MAX_BLOB_BYTES))


def _version_complaint(request: fleet_pb2.JoinRequest) -> str:
    """Why a worker of this version cannot take part; empty where it can."""
    ours, theirs = neurofed.__version__, request.version
    if request.protocol_version == rpc.PROTOCOL_VERSION and theirs.split(".")[:2] == ours.split(".")[:2]:
        return ""
    return (
        f"expected a worker of neurofed {'.'.join(ours.split('.')[:2])}.x (protocol {rpc.PROTOCOL_VERSION}), "
        f"got {theirs!r} (protocol {request.protocol_version}): install neurofed=={ours} on the worker"
    )
