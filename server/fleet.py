"""The fleet service: workers join, come and go; tasks are given to them and taken back.

Everything here runs in one event loop. Other threads hand tasks in through `assign` and get outcomes through the
callback of the assignment.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message as Payload

import neurofed
from neurofed import protocol, spec
from neurofed.errors import DamagedError, DataError, VersionMismatchError
from neurofed.framing import Frame, read_frame
from neurofed.runstate import one_line
from neurofed.security.identity import require_name
from neurofed.v1 import fleet_pb2, monitor_pb2
from neurofed.v1.fleet_pb2_grpc import FleetServiceServicer
from server.dispatch import handle, tell_sent
from server.intake import Intake
from server.pace import Pace
from server.quarantine import Quarantine
from server.roster import NAME, Assignment, Outcome, Worker, joined_event, node_id_of
from server.stream import Context, WorkStream

_LOG = logging.getLogger(__name__)

Emit = Callable[[Payload], object]

SERVICE = "neurofed.v1.FleetService"
HEARTBEAT_S = 5.0
SILENCE_S = 12.0
"""Two heartbeats are lost and the third is late: who is cut off is known to be within 15 s, on a busy machine too."""
"""A stream without any frame for this long is dead."""
GRACE_S = 5.0
"""A worker whose stream broke has this long to come back before its task is given up."""
_MAX_TEXT = 200


def _ignore(_: Payload) -> None:
    """Where events go while no run is active."""


_READ = partial(read_frame, fleet_pb2.WorkRequest)


class FleetService(FleetServiceServicer):
    """Admits workers, sends them tasks, takes their results.

    Args:
        grace_s: how long a worker whose stream broke may stay away before its task is given up.
        folder: where uploads are kept until they are aggregated; None keeps them in memory.
    """

    def __init__(self, *, grace_s: float = GRACE_S, folder: Path | None = None) -> None:
        self.emit: Emit = _ignore
        self.quarantine = Quarantine("", _ignore)
        self.changed = threading.Condition()
        self._loop = asyncio.get_running_loop()
        self._grace_s, self._folder, self._pace = grace_s, folder, Pace()
        self._workers: dict[str, Worker] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve at `server`. Responses are bytes already: what goes to many workers is serialised once."""
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Join": grpc.unary_unary_rpc_method_handler(
                self.Join,
                request_deserializer=fleet_pb2.JoinRequest.FromString,
                response_serializer=fleet_pb2.JoinResponse.SerializeToString,
            ),
            "Work": grpc.stream_stream_rpc_method_handler(self.Work, request_deserializer=_READ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    # -- called from any thread

    def workers(self) -> list[Worker]:
        """The workers that can be given tasks: connected, or away for less than the grace time; by name."""
        return [worker for worker in self.roster() if not worker.lost and not worker.draining]

    def roster(self) -> list[Worker]:
        """All workers ever joined, by name."""
        return sorted(self._workers.values(), key=lambda worker: worker.name)

    def start_run(self, run_id: str) -> Quarantine:
        """Begin a run: every worker has its trust again."""
        self.quarantine = Quarantine(run_id, self.emit)
        return self.quarantine

    def assign(self, node_id: int, assignment: Assignment) -> None:
        """Give a worker a task; its outcome is delivered whatever happens."""
        self._loop.call_soon_threadsafe(self._assign, node_id, assignment)

    def cancel(self, task_id: str) -> None:
        """Withdraw a task; nothing is delivered for it any more."""
        self._loop.call_soon_threadsafe(self._cancel, task_id)

    def tell(self, payload: Payload) -> None:
        """Emit an event of the active run."""
        self.emit(payload)

    # -- the service

    async def Join(  # noqa: N802 (the name is the protocol's)
        self, request: fleet_pb2.JoinRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> fleet_pb2.JoinResponse:
        """Admit a worker; see fleet.proto."""
        try:
            agreement = protocol.agree(request)
        except VersionMismatchError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        if not NAME.fullmatch(request.name):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"worker name: {NAME.pattern} expected")
        if max(len(text) for text in (request.instance, request.version, request.chip)) > _MAX_TEXT:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"expected texts of at most {_MAX_TEXT} characters")
        await require_name(context, request.name)
        known = self._workers.get(request.name)
        if known is None and len(self._workers) >= spec.MAX_WORKERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"expected at most {spec.MAX_WORKERS} workers")
        if known and known.connected and known.instance != request.instance:
            await context.abort(
                grpc.StatusCode.ALREADY_EXISTS,
                f"expected a name no other worker has, got {request.name!r} which is connected: choose another --name",
            )
        worker = self._admit(request, agreement)
        return fleet_pb2.JoinResponse(
            session=worker.session,
            node_id=worker.node_id,
            heartbeat_s=HEARTBEAT_S,
            version=neurofed.__version__,
            protocol=agreement.protocol,
            capabilities=agreement.capabilities,
        )

    async def Work(self, _: object, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """Serve one worker's stream until it ends; see fleet.proto."""
        worker, stream = await self._greet(context), WorkStream(context, self._pace, SILENCE_S)
        self._attach(worker, stream)
        writer = asyncio.create_task(stream.write())
        fault: DataError | None = None
        try:
            await self._serve(worker, stream)
        except TimeoutError:
            _LOG.warning("worker %s: silent for %g s, closing its stream", worker.name, SILENCE_S)
        except DataError as error:
            _LOG.warning("worker %s: %s, closing its stream", worker.name, error)
            fault = error
        finally:
            writer.cancel()
            stream.close()
            self._detach(worker, stream)
            await asyncio.gather(writer, return_exceptions=True)
        if fault:  # told last: a worker that does not read would keep us waiting
            code = grpc.StatusCode.DATA_LOSS if isinstance(fault, DamagedError) else grpc.StatusCode.INVALID_ARGUMENT
            await context.abort(code, str(fault))

    async def _serve(self, worker: Worker, stream: WorkStream) -> None:
        """Act on a worker's frames until it ends the stream or comes back on another one."""
        async for frame in stream.frames():
            if worker.stream is not stream:
                return
            worker.last_seen_s = self._loop.time()
            handle(self, worker, stream, frame)
            del frame  # see `frames`

    def drain(self, reason: str, name: str = "") -> bool:
        """Ask a connected worker to leave, or all of them; they get no more tasks. Call in the event loop.

        Returns:
            True where somebody was asked.
        """
        asked = False
        for worker in self._workers.values():
            if worker.stream and name in ("", worker.name):
                asked = worker.draining = True
                self.tell(monitor_pb2.WorkerDrained(name=worker.name, reason=reason))
                worker.stream.send(fleet_pb2.WorkResponse(drain=fleet_pb2.Drain(reason=reason)))
        return asked

    # -- workers come and go

    async def _greet(self, context: Context) -> Worker:
        """The worker whose stream this is."""
        try:
            first: object = await asyncio.wait_for(context.read(), SILENCE_S)
        except TimeoutError:
            first = None
        session = first.message.hello.session if isinstance(first, Frame) else ""
        worker = next((w for w in self._workers.values() if session and w.session == session), None)
        if worker is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "expected the session that Join returned")
        await require_name(context, worker.name)
        return worker

    def _admit(self, request: fleet_pb2.JoinRequest, agreement: protocol.Agreement) -> Worker:
        name = request.name
        worker = self._workers.get(name) or Worker(name, node_id_of(name), Intake(name, self._folder))
        worker.instance, worker.session = request.instance, secrets.token_hex(16)
        worker.chip, worker.cores, worker.version = request.chip, request.cores, request.version
        worker.capabilities, worker.draining = agreement.capabilities, False
        self._workers[name] = worker
        self._expect(worker)
        return worker

    def _attach(self, worker: Worker, stream: WorkStream) -> None:
        rejoined = worker.lost or worker.assignment is not None
        worker.stream, worker.lost, worker.last_seen_s = stream, False, self._loop.time()
        if worker.patience:
            worker.patience.cancel()
        if worker.assignment:
            _announce(stream, worker.assignment)
        self.tell(joined_event(worker, rejoined=rejoined))
        self._notify()

    def _detach(self, worker: Worker, stream: WorkStream) -> None:
        if worker.stream is stream:
            worker.stream = None
            self._expect(worker)

    def _expect(self, worker: Worker) -> None:
        """Give a worker without a stream the grace time to open one."""
        if worker.patience:
            worker.patience.cancel()
        worker.patience = self._loop.call_later(self._grace_s, self._give_up, worker)

    def _give_up(self, worker: Worker) -> None:
        if worker.connected or worker.lost:
            return
        reason = f"its stream broke and it did not come back within {self._grace_s:g} s"
        tell_sent(self, worker)
        worker.lost = True
        self.tell(monitor_pb2.WorkerLost(name=worker.name, reason=reason))
        if worker.assignment:
            self.settle(worker, Outcome(worker.assignment.task.task_id, error=reason, lost=True))
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
        worker.intake.drop()
        if worker.stream:
            _announce(worker.stream, assignment)

    def _cancel(self, task_id: str) -> None:
        for worker in self._workers.values():
            if worker.assignment and worker.assignment.task.task_id == task_id:
                tell_sent(self, worker)
                worker.assignment = None
                worker.intake.drop()
                if worker.stream:
                    worker.stream.withdraw(task_id)

    def settle(self, worker: Worker, outcome: Outcome) -> None:
        """End the worker's task: its outcome is delivered, the worker may forget it."""
        assignment, worker.assignment = worker.assignment, None
        worker.intake.drop()
        if worker.stream:
            worker.stream.judge(outcome.task_id, accepted=not outcome.rejected, reason=outcome.error)
        if assignment:
            assignment.deliver(outcome)

    def refuse(self, worker: Worker, stream: WorkStream, task_id: str, reason: str) -> None:
        """A worker broke a rule with what it sent for `task_id`: its task ends, and it gets no other in this run."""
        reason, (_, round_number) = one_line(reason), stream.origin(task_id)
        self.quarantine.add(worker.name, round_number, reason)
        current = worker.assignment.task.task_id if worker.assignment else ""
        if task_id != current:
            stream.judge(task_id, accepted=False, reason=reason)
        if current:
            self.settle(worker, Outcome(current, error=reason, rejected=True))


def _announce(stream: WorkStream, assignment: Assignment) -> None:
    """Announce a task on a stream; counts what goes over the wire for it."""
    task, parcel = assignment.task, assignment.parcel
    chunk = partial(_counted_chunk, assignment)
    assignment.bytes_down += stream.announce(task, parcel.size_bytes, chunk)


def _counted_chunk(assignment: Assignment, offset: int) -> bytes:
    frame = assignment.parcel.frame(offset)
    assignment.bytes_down += len(frame)
    return frame
