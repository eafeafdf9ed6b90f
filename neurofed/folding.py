"""A run's events, folded into its snapshot: the one place that knows what an event changes.

Terminal, report, web page and metrics are all drawn from the snapshot, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from neurofed.runstate import is_over, one_line
from neurofed.v1 import control_pb2, monitor_pb2
from neurofed.v1.monitor_pb2 import Event, RoundView, Snapshot, WorkerRound, WorkerView

MAX_NOTES: Final = 200
"""Notes kept; older ones are dropped, so that a flapping worker cannot grow the snapshot."""

_FINISHED: Final = frozenset(
    {
        monitor_pb2.WORKER_STATE_DONE,
        monitor_pb2.WORKER_STATE_REJECTED,
        monitor_pb2.WORKER_STATE_FAILED,
    }
)


def fold(snapshot: Snapshot, event: Event) -> None:
    """Bring a snapshot up to date with the next event.

    An event already folded in (by its number) changes nothing, and neither does a kind of event that this version
    does not know, apart from number and time.

    Args:
        snapshot: the run so far; changed in place.
        event: what happened next.
    """
    if event.seq <= snapshot.seq:
        return
    snapshot.seq = event.seq
    snapshot.updated_unix_s = event.time_unix_s
    kind = event.WhichOneof("payload")
    reducer = _REDUCERS.get(kind) if kind else None
    if reducer:
        reducer(snapshot, getattr(event, str(kind)))


def fold_all(events: Iterable[Event]) -> Snapshot:
    """The snapshot after some events, from none."""
    snapshot = Snapshot()
    for event in events:
        fold(snapshot, event)
    return snapshot


def _run_submitted(snapshot: Snapshot, event: monitor_pb2.RunSubmitted) -> None:
    snapshot.run_id = event.run_id
    snapshot.spec.CopyFrom(event.spec)
    snapshot.version = event.version
    snapshot.commit = event.commit
    snapshot.state = control_pb2.RUN_STATE_WAITING
    snapshot.started_unix_s = snapshot.started_unix_s or snapshot.updated_unix_s


def _workers_awaited(snapshot: Snapshot, event: monitor_pb2.WorkersAwaited) -> None:
    _go_on(snapshot, control_pb2.RUN_STATE_WAITING)
    for worker in snapshot.workers:
        worker.present = worker.name in event.joined
    for name in event.joined:
        _worker(snapshot, name).present = True


def _run_started(snapshot: Snapshot, event: monitor_pb2.RunStarted) -> None:
    if event.first_round > 1 or snapshot.rounds:
        _note(snapshot, f"resumed at round {event.first_round}")
    _go_on(snapshot, control_pb2.RUN_STATE_RUNNING)
    snapshot.model_bytes = event.model_bytes
    snapshot.parameters = event.parameters
    for name in event.workers:
        _worker(snapshot, name).present = True
    for view in snapshot.rounds:
        # A crash may have come between a round's checkpoint and the word of it.
        view.checkpointed = view.checkpointed or view.round < event.first_round


def _worker_joined(snapshot: Snapshot, event: monitor_pb2.WorkerJoined) -> None:
    worker = _worker(snapshot, event.name)
    worker.chip = event.chip
    worker.cores = event.cores
    worker.version = event.version
    worker.present = True
    worker.ClearField("drained")
    if event.rejoined:
        _note(snapshot, f"{_where(snapshot)}{event.name} rejoined")


def _worker_lost(snapshot: Snapshot, event: monitor_pb2.WorkerLost) -> None:
    worker = _worker(snapshot, event.name)
    worker.present = False
    for part in snapshot.rounds[-1].workers if snapshot.rounds else ():
        if part.name == event.name and part.state not in _FINISHED:
            part.state = monitor_pb2.WORKER_STATE_LOST
            part.reason = event.reason
    if worker.drained:
        _note(snapshot, f"{_where(snapshot)}{event.name} left")
    else:
        _note(snapshot, f"{_where(snapshot)}{event.name} lost", event.reason)


def _worker_drained(snapshot: Snapshot, event: monitor_pb2.WorkerDrained) -> None:
    _worker(snapshot, event.name).drained = event.reason
    _note(snapshot, f"{_where(snapshot)}{event.name} asked to leave", event.reason)


def _round_started(snapshot: Snapshot, event: monitor_pb2.RoundStarted) -> None:
    # A round that a crash cut short is done again: what it had so far never became part of the model.
    kept = [view for view in snapshot.rounds if view.round < event.round]
    del snapshot.rounds[len(kept) :]
    parts = [WorkerRound(name=name, state=monitor_pb2.WORKER_STATE_IDLE) for name in event.workers]
    snapshot.rounds.add(round=event.round, workers=parts)


def _task_sent(snapshot: Snapshot, event: monitor_pb2.TaskSent) -> None:
    part = _part(snapshot, event.round, event.worker)
    if part is None:
        return
    part.bytes_down += event.bytes_down
    if event.kind.startswith("train"):
        part.state = monitor_pb2.WORKER_STATE_RECEIVING
        part.step = 0
        for field in ("reason", "began_unix_s", "began_step", "moved_unix_s"):
            part.ClearField(field)


def _task_progress(snapshot: Snapshot, event: monitor_pb2.TaskProgress) -> None:
    part = _part(snapshot, event.round, event.worker)
    if part is None or part.state in _FINISHED:
        return
    part.state = monitor_pb2.WORKER_STATE_TRAINING
    if not part.began_unix_s or event.step < part.step:
        part.began_unix_s, part.began_step = snapshot.updated_unix_s, event.step
    part.moved_unix_s = snapshot.updated_unix_s
    part.step = event.step
    part.steps = event.steps
    _set_metrics(part.metrics, event.values)


def _result_received(snapshot: Snapshot, event: monitor_pb2.ResultReceived) -> None:
    part = _part(snapshot, event.round, event.worker)
    if part is None:
        return
    part.state = monitor_pb2.WORKER_STATE_DONE
    part.step = part.steps
    part.bytes_up += event.bytes_up
    part.examples = event.examples
    part.ClearField("reason")
    _set_metrics(part.metrics, event.metrics)


def _result_rejected(snapshot: Snapshot, event: monitor_pb2.ResultRejected) -> None:
    part = _part(snapshot, event.round, event.worker)
    if part is not None:
        part.state = monitor_pb2.WORKER_STATE_REJECTED
        part.reason = event.reason
    _worker(snapshot, event.worker).refused += 1
    _note(snapshot, f"round {event.round}: {event.worker}'s update rejected", event.reason)


def _worker_quarantined(snapshot: Snapshot, event: monitor_pb2.WorkerQuarantined) -> None:
    _worker(snapshot, event.name).quarantined = event.reason
    _note(snapshot, f"{_where(snapshot)}{event.name} in quarantine", event.reason)


def _task_failed(snapshot: Snapshot, event: monitor_pb2.TaskFailed) -> None:
    part = _part(snapshot, event.round, event.worker)
    # What fails after the update has arrived (an evaluation, say) does not undo the training.
    if part is not None and part.state != monitor_pb2.WORKER_STATE_DONE:
        part.state = monitor_pb2.WORKER_STATE_FAILED
        part.reason = event.reason
    _note(snapshot, f"round {event.round}: {event.worker} failed", event.reason)


def _task_withdrawn(snapshot: Snapshot, event: monitor_pb2.TaskWithdrawn) -> None:
    part = _part(snapshot, event.round, event.worker)
    if part is not None and part.state not in _FINISHED:
        part.state = monitor_pb2.WORKER_STATE_IDLE
        part.reason = event.reason


def _round_aggregated(snapshot: Snapshot, event: monitor_pb2.RoundAggregated) -> None:
    view = _round(snapshot, event.round)
    if view is None:
        return
    view.updates = event.updates
    view.model_sha256 = event.model_sha256
    _set_metrics(view.train_metrics, event.train_metrics)


def _model_evaluated(snapshot: Snapshot, event: monitor_pb2.ModelEvaluated) -> None:
    if event.round == 0:
        _set_metrics(snapshot.initial_metrics, event.metrics)
        return
    view = _round(snapshot, event.round)
    if view is not None:
        _set_metrics(view.metrics, event.metrics)
        view.wall_s = event.wall_s


def _samples_published(snapshot: Snapshot, event: monitor_pb2.SamplesPublished) -> None:
    snapshot.samples.CopyFrom(event)


def _checkpoint_written(snapshot: Snapshot, event: monitor_pb2.CheckpointWritten) -> None:
    view = _round(snapshot, event.round)
    if view is not None:
        view.checkpointed = True


def _checkpoint_skipped(snapshot: Snapshot, event: monitor_pb2.CheckpointSkipped) -> None:
    _note(snapshot, f"{event.file} is damaged and was skipped", event.reason)


def _pause_requested(snapshot: Snapshot, _: monitor_pb2.PauseRequested) -> None:
    if not is_over(snapshot.state):  # the last round may have ended while the wish was on its way
        snapshot.state = control_pb2.RUN_STATE_PAUSING


def _run_paused(snapshot: Snapshot, _: monitor_pb2.RunPaused) -> None:
    snapshot.state = control_pb2.RUN_STATE_PAUSED
    _note(snapshot, f"{_where(snapshot)}paused")


def _run_resumed(snapshot: Snapshot, _: monitor_pb2.RunResumed) -> None:
    if snapshot.state == control_pb2.RUN_STATE_PAUSING:
        snapshot.state = control_pb2.RUN_STATE_RUNNING
    else:
        _go_on(snapshot, control_pb2.RUN_STATE_WAITING)


def _go_on(snapshot: Snapshot, state: control_pb2.RunState.ValueType) -> None:
    """A run that goes on has not ended; that it shall pause stays true."""
    snapshot.ClearField("reason")
    snapshot.ClearField("exit_code")
    if snapshot.state != control_pb2.RUN_STATE_PAUSING:
        snapshot.state = state


def _run_finished(snapshot: Snapshot, event: monitor_pb2.RunFinished) -> None:
    snapshot.state = event.state
    snapshot.reason = event.reason
    snapshot.exit_code = event.exit_code


def _worker(snapshot: Snapshot, name: str) -> WorkerView:
    for worker in snapshot.workers:
        if worker.name == name:
            return worker
    snapshot.workers.add(name=name)
    snapshot.workers.sort(key=lambda worker: worker.name)
    return next(worker for worker in snapshot.workers if worker.name == name)


def _round(snapshot: Snapshot, number: int) -> RoundView | None:
    # Nearly always the newest.
    return next((view for view in reversed(snapshot.rounds) if view.round == number), None)


def _part(snapshot: Snapshot, number: int, name: str) -> WorkerRound | None:
    view = _round(snapshot, number)
    if view is None:
        return None
    return next((part for part in view.workers if part.name == name), None) or view.workers.add(name=name)


def _set_metrics(target: Any, source: Any) -> None:
    target.clear()
    target.update(source)


def _where(snapshot: Snapshot) -> str:
    return f"round {snapshot.rounds[-1].round}: " if snapshot.rounds else ""


def _note(snapshot: Snapshot, what: str, reason: str = "") -> None:
    snapshot.notes.append(one_line(f"{what}: {reason}" if reason else what))
    del snapshot.notes[:-MAX_NOTES]


_REDUCERS: Final[dict[str, Callable[[Snapshot, Any], None]]] = {
    "run_submitted": _run_submitted,
    "workers_awaited": _workers_awaited,
    "run_started": _run_started,
    "worker_joined": _worker_joined,
    "worker_lost": _worker_lost,
    "round_started": _round_started,
    "task_sent": _task_sent,
    "task_progress": _task_progress,
    "result_received": _result_received,
    "result_rejected": _result_rejected,
    "worker_quarantined": _worker_quarantined,
    "worker_drained": _worker_drained,
    "task_failed": _task_failed,
    "task_withdrawn": _task_withdrawn,
    "round_aggregated": _round_aggregated,
    "model_evaluated": _model_evaluated,
    "samples_published": _samples_published,
    "checkpoint_written": _checkpoint_written,
    "checkpoint_skipped": _checkpoint_skipped,
    "pause_requested": _pause_requested,
    "run_paused": _run_paused,
    "run_resumed": _run_resumed,
    "run_finished": _run_finished,
}
