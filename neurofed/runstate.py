"""What a run's snapshot says: its states in words, how it stands, how fast its workers are."""

from __future__ import annotations

import math
from typing import Final

from neurofed import metrics
from neurofed.v1 import control_pb2
from neurofed.v1.monitor_pb2 import RoundView, Snapshot, WorkerRound, WorkerState

_MAX_NOTE_CHARS: Final = 300
_OVER: Final = frozenset({control_pb2.RUN_STATE_COMPLETED, control_pb2.RUN_STATE_STOPPED, control_pb2.RUN_STATE_FAILED})


def steps_per_s(part: WorkerRound) -> float | None:
    """Training steps of a worker's part per second, between the first and the last step it told of; None before."""
    elapsed_s, steps = part.moved_unix_s - part.began_unix_s, part.step - part.began_step
    return steps / elapsed_s if elapsed_s > 0 and steps > 0 else None


def samples_per_s(snapshot: Snapshot) -> dict[str, float]:
    """Examples that each worker trains in a second, measured: now, or in its last task.

    An example counts once in a round, however often the task shows it to the network. While a task is under way its
    steps are timed, and how many examples a step has is known from the worker's last result.

    Args:
        snapshot: the run; its last two rounds are looked at.

    Returns:
        Examples per second by worker; workers that are gone, or without a result in those rounds, are left out.
    """
    present = {worker.name for worker in snapshot.workers if worker.present}
    done: dict[str, WorkerRound] = {}
    newest: dict[str, WorkerRound] = {}
    for view in snapshot.rounds[-2:]:
        for part in view.workers:
            newest[part.name] = part
            if part.state == WorkerState.WORKER_STATE_DONE:
                done[part.name] = part
    speeds = {name: _samples_per_s(newest[name], part) for name, part in done.items() if name in present}
    return {name: speed for name, speed in speeds.items() if speed is not None}


def _samples_per_s(now: WorkerRound, done: WorkerRound) -> float | None:
    pace = steps_per_s(now) if now.state == WorkerState.WORKER_STATE_TRAINING else None
    if pace is not None and done.steps:
        return pace * done.examples / done.steps
    train_s = done.metrics.get(metrics.TRAIN_S, 0.0)
    return done.examples / train_s if train_s > 0 and math.isfinite(train_s) else None


def is_finished(view: RoundView) -> bool:
    """Whether a round has its new global model, evaluated."""
    return bool(view.metrics)


def is_over(state: int) -> bool:
    """Whether a run in this state has ended; it may still be resumed."""
    return state in _OVER


def run_state_name(state: int) -> str:
    """A run's state in one lower-case word, such as `running`."""
    value = control_pb2.RunState.DESCRIPTOR.values_by_number.get(state)
    return value.name.removeprefix("RUN_STATE_").lower() if value else str(state)


def worker_state_name(state: int) -> str:
    """A worker's state in one lower-case word, such as `training`."""
    value = WorkerState.DESCRIPTOR.values_by_number.get(state)
    return value.name.removeprefix("WORKER_STATE_").lower() if value else str(state)


def one_line(text: str, limit: int = _MAX_NOTE_CHARS) -> str:
    """Foreign text made safe for one line of a terminal: no line breaks, no control characters, bounded."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
