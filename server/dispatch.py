"""What each frame of a worker does."""

from __future__ import annotations

import math
from typing import Protocol

from google.protobuf.message import Message as Payload

from neurofed.errors import DamagedError, DataError, StorageError
from neurofed.v1 import fleet_pb2, monitor_pb2
from server.quarantine import Quarantine
from server.roster import Outcome, Worker
from server.stream import Incoming, Standing, WorkStream

_MAX_VALUES, _MAX_NAME = 64, 100
_MAX_REASON = 500
_MAX_TASK_ID = 500
_PROGRESS_INTERVAL_S = 0.05
"""Faster than anybody can read; an honest worker is slower."""


class Fleet(Protocol):
    """What frames act upon."""

    quarantine: Quarantine

    def tell(self, payload: Payload) -> None:
        """Emit an event."""

    def settle(self, worker: Worker, outcome: Outcome) -> None:
        """End the worker's task."""

    def refuse(self, worker: Worker, stream: WorkStream, task_id: str, reason: str) -> None:
        """The worker broke a rule."""


def handle(fleet: Fleet, worker: Worker, stream: WorkStream, frame: Incoming) -> None:
    """Act on a frame. What breaks the rules ends the task, not the stream.

    Raises:
        DamagedError: if a chunk was damaged on the way: the stream has to end, so that the worker sends it again.
    """
    request, kind = frame.message, frame.kind
    if worker.assignment and kind != "heartbeat":
        worker.assignment.moved_s = worker.last_seen_s
    match kind:
        case "heartbeat":
            worker.facts = request.heartbeat
        case "progress":
            _progress(fleet, worker, request.progress)
        case "received":
            _received(fleet, worker, stream, request.received)
        case "result" | "chunk":
            _upload(fleet, worker, stream, frame)


def tell_sent(fleet: Fleet, worker: Worker) -> None:
    """Tell of the bytes sent for the worker's task, as far as no event has."""
    assignment = worker.assignment
    if assignment and assignment.bytes_down:
        task, bytes_down = assignment.task, assignment.bytes_down
        assignment.bytes_down = 0
        fleet.tell(monitor_pb2.TaskSent(worker=worker.name, round=task.round, kind=task.kind, bytes_down=bytes_down))


def _progress(fleet: Fleet, worker: Worker, progress: fleet_pb2.Progress) -> None:
    """Tell of progress, as long as it is what people can read."""
    assignment = worker.assignment
    if assignment is None or assignment.task.task_id != progress.task_id or not 0 <= progress.step <= progress.steps:
        return
    if len(progress.values) > _MAX_VALUES or any(len(name) > _MAX_NAME for name in progress.values):
        return
    if worker.last_seen_s - worker.told_s < _PROGRESS_INTERVAL_S:
        return
    worker.told_s = worker.last_seen_s
    values = {name: value for name, value in progress.values.items() if math.isfinite(value)}
    fleet.tell(
        monitor_pb2.TaskProgress(
            worker=worker.name, round=assignment.task.round, step=progress.step, steps=progress.steps, values=values
        )
    )


def _received(fleet: Fleet, worker: Worker, stream: WorkStream, received: fleet_pb2.Received) -> None:
    try:
        whole = stream.acknowledge(received)
    except DataError as error:
        fleet.refuse(worker, stream, received.task_id, str(error))
        return
    if whole:
        tell_sent(fleet, worker)


def _upload(fleet: Fleet, worker: Worker, stream: WorkStream, frame: Incoming) -> None:
    """Take a result or the next chunk of one."""
    request = frame.message
    task_id = (request.result.task_id or stream.uploading)[:_MAX_TASK_ID]
    try:
        if request.HasField("result"):
            _open(fleet, worker, stream, frame)
        elif frame.chunk and stream.uploading:
            stream.arrive(worker.intake.add(frame.chunk, frame.size_bytes))
        elif frame.chunk:
            stream.stray(len(frame.chunk.data))
        if delivery := worker.intake.take():
            fleet.settle(worker, Outcome(task_id, delivery.result.content, delivery.blob, delivery.bytes_up))
    except DamagedError:
        raise
    except DataError as error:
        fleet.refuse(worker, stream, task_id, str(error))
    except OSError as error:
        fault = StorageError(
            f"expected the disk to take the update of {worker.name}, got: {error.strerror}: make room, then resume"
        )
        fleet.settle(worker, Outcome(task_id, error="the aggregator has no room for the update", fault=fault))


def _open(fleet: Fleet, worker: Worker, stream: WorkStream, frame: Incoming) -> None:
    """Admit a result and await the rest of its blob."""
    result, assignment = frame.message.result, worker.assignment
    standing = stream.offer(result.task_id)
    if standing is Standing.WITHDRAWN:
        reason = "too late: the task had been withdrawn"
        stream.judge(result.task_id, accepted=False, reason=reason)
        fleet.quarantine.late(worker.name, stream.origin(result.task_id), reason)
        return
    if standing is Standing.OFFERED:
        raise DataError(f"expected one result for {_shown(result)}, got another")
    if standing is Standing.UNKNOWN or assignment is None:
        raise DataError(f"expected no result but for the task in hand, got one for {_shown(result)}")
    if result.WhichOneof("outcome") != "content":
        reason = result.error.reason[:_MAX_REASON] or "the worker gave no reason"
        fleet.settle(worker, Outcome(result.task_id, error=reason))
        return
    arrived_bytes = worker.intake.open(assignment.task, result, frame.size_bytes)
    stream.await_blob(arrived_bytes, result.content.blob.size_bytes)


def _shown(result: fleet_pb2.Result) -> str:
    return repr(result.task_id[:_MAX_NAME])
