"""Spans, made of events: the pure part, which knows no library."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from neurofed.runstate import one_line
from neurofed.v1.monitor_pb2 import Event

Value = str | int | float

_ENDS_A_ROUND: Final = frozenset({"round_started", "run_paused", "run_finished", "run_started"})
_ENDS_A_TASK: Final = frozenset({"result_rejected", "task_failed", "task_withdrawn", "worker_lost"})
_STEPS: Final = {"round_aggregated": "aggregate", "model_evaluated": "evaluate", "checkpoint_written": "checkpoint"}


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a round that took time.

    Attributes:
        name: what was done, such as `round` or `train`; few different ones.
        trace: number of the trace, 128 bits: one for each round.
        number: number of the span, 64 bits.
        parent: number of the span it is a part of; 0 for the round itself.
        start_ns: when it began, in nanoseconds since 1970.
        end_ns: when it ended.
        attributes: which one it was.
        error: why it failed, in one line; empty where it did not.
    """

    name: str
    trace: int
    number: int
    parent: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""


@dataclass(slots=True)
class _Open:
    name: str
    start_ns: int
    attributes: dict[str, Value]


class RoundSpans:
    """Turns a run's events, in order, into the spans that end with them.

    A round is one trace: below it each worker's task, from its sending to its result; the aggregation, from the last
    update to the new model; the evaluation; and the checkpoint. Times are the aggregator's.
    """

    def __init__(self) -> None:
        self._run_id = self._workload = ""
        self._round: _Open | None = None
        self._number = 0
        self._tasks: dict[str, _Open] = {}
        self._step_ns = 0

    def take(self, event: Event) -> list[Span]:
        """The spans that end with this event."""
        kind, now_ns = str(event.WhichOneof("payload")), int(event.time_unix_s * 1e9)
        ended = self._close_round(now_ns, "cut short") if kind in _ENDS_A_ROUND else []
        if kind == "run_submitted":
            self._run_id, self._workload = event.run_submitted.run_id, event.run_submitted.spec.workload
        elif kind == "round_started":
            self._number, self._step_ns = event.round_started.round, now_ns
            about: dict[str, Value] = {"neurofed.workload": self._workload}
            self._round = _Open("round", now_ns, {**about, "neurofed.workers": len(event.round_started.workers)})
        elif self._round:
            ended += self._within(kind, getattr(event, kind), now_ns)
        return ended

    def _within(self, kind: str, payload: Any, now_ns: int) -> list[Span]:
        if kind in _STEPS:
            step = self._step(_STEPS[kind], now_ns)
            return [step, *self._close_round(now_ns, "")] if kind == "checkpoint_written" else [step]
        if kind in _ENDS_A_TASK:
            worker = payload.name if kind == "worker_lost" else payload.worker
            return self._close_task(worker, now_ns, error=payload.reason or kind)
        if getattr(payload, "round", 0) != self._number:  # an update of an earlier round
            return []
        if kind == "task_sent":
            about: dict[str, Value] = {"neurofed.worker": payload.worker, "neurofed.bytes_down": payload.bytes_down}
            self._tasks[payload.worker] = _Open(payload.kind, now_ns, about)
        elif kind == "result_received":
            self._step_ns = now_ns
            return self._close_task(payload.worker, now_ns, bytes_up=payload.bytes_up)
        return []

    def _close_task(self, worker: str, now_ns: int, *, bytes_up: int = 0, error: str = "") -> list[Span]:
        task = self._tasks.pop(worker, None)
        if task is None:
            return []
        number = task_number(self._run_id, self._number, task.name, worker)
        return [
            self._span(
                task.name, number, task.start_ns, now_ns, {**task.attributes, "neurofed.bytes_up": bytes_up}, error
            )
        ]

    def _step(self, name: str, now_ns: int) -> Span:
        start_ns, self._step_ns = self._step_ns, now_ns
        number = _number(8, self._run_id, self._number, name)
        return self._span(name, number, start_ns, now_ns, {}, "")

    def _close_round(self, now_ns: int, error: str) -> list[Span]:
        opened, self._round = self._round, None
        if opened is None:
            return []
        left = [span for worker in list(self._tasks) for span in self._close_task(worker, now_ns, error="no result")]
        trace, number = round_numbers(self._run_id, self._number)
        attributes = {**opened.attributes, "neurofed.run": self._run_id, "neurofed.round": self._number}
        return [*left, Span("round", trace, number, 0, opened.start_ns, now_ns, attributes, error)]

    def _span(
        self, name: str, number: int, start_ns: int, end_ns: int, attributes: Mapping[str, Value], error: str
    ) -> Span:
        trace, parent = round_numbers(self._run_id, self._number)
        attributes = {**attributes, "neurofed.run": self._run_id, "neurofed.round": self._number}
        return Span(name, trace, number, parent, start_ns, max(start_ns, end_ns), attributes, one_line(error))


def work_span(task_id: str, run_id: str, number: int, worker: str, start_ns: int, end_ns: int, error: str = "") -> Span:
    """The worker's own part of a task: the time on its chip, by its clock.

    Args:
        task_id: the task's name, `RUN/ROUND/KIND/WORKER`.
        run_id: the run.
        number: the round.
        worker: this worker.
        start_ns: when the work began, in nanoseconds since 1970.
        end_ns: when it ended.
        error: why it failed; empty where it did not.
    """
    trace, _ = round_numbers(run_id, number)
    attributes: dict[str, Value] = {"neurofed.worker": worker, "neurofed.run": run_id, "neurofed.round": number}
    own, parent = _number(8, "work", task_id), _number(8, "task", task_id)
    return Span("work", trace, own, parent, start_ns, max(start_ns, end_ns), attributes, one_line(error))


def round_numbers(run_id: str, number: int) -> tuple[int, int]:
    """Numbers of a round's trace and of its span."""
    return _number(16, run_id, number), _number(8, run_id, number)


def task_number(run_id: str, number: int, kind: str, worker: str) -> int:
    """Number of the span of a task."""
    return _number(8, "task", f"{run_id}/{number}/{kind}/{worker}")


def _number(size_bytes: int, *about: object) -> int:
    digest = hashlib.sha256("\0".join(map(str, about)).encode()).digest()
    return int.from_bytes(digest[:size_bytes]) or 1  # 0 means that there is none
