"""The tasks of a worker: at most one is on the chip, and its result is kept until the aggregator has it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from neurofed.rope import Buffer, Rope
from neurofed.v1 import fleet_pb2, records_pb2

_LOG = logging.getLogger(__name__)
_PROGRESS_INTERVAL_S = 0.2
_MAX_REASON = 500


class TaskCancelled(Exception):  # noqa: N818 (not an error: the aggregator's wish)
    """The aggregator withdrew the task."""


@dataclass(slots=True)
class RunningTask:
    """A task on the chip. `report` is called in the task's thread, the rest in the event loop's.

    Attributes:
        task: what is asked for.
        blob: the bytes of its arrays.
        node_id: this worker's number in Flower's terms.
    """

    task: fleet_pb2.Task
    blob: Buffer
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


@dataclass(frozen=True, slots=True)
class Finished:
    """A result that waits for its verdict: the task, the header of the answer, and the bytes of its arrays."""

    task: fleet_pb2.Task
    result: fleet_pb2.Result
    blob: Buffer | Rope = b""


Execute = Callable[[RunningTask], tuple[records_pb2.Content, Buffer | Rope]]
"""Does a task: its records and the bytes of their arrays."""


class Jobs:
    """Runs tasks, one at a time, in a thread. Belongs to one event loop.

    Args:
        execute: does a task; an exception becomes the task's error.
        done: told of each result.
    """

    def __init__(self, execute: Execute, done: Callable[[Finished], None]) -> None:
        self._execute, self._done = execute, done
        self._running: RunningTask | None = None
        self._finished: Finished | None = None
        self._waiting: set[asyncio.Task[None]] = set()
        self._chip = asyncio.Lock()

    def holds(self, task_id: str) -> bool:
        """True where a task of that name is on the chip or its result in hand."""
        return any(job is not None and job.task.task_id == task_id for job in (self._running, self._finished))

    def has(self, task: fleet_pb2.Task) -> bool:
        """True where this very task is on the chip or its result in hand."""
        return any(job is not None and job.task == task for job in (self._running, self._finished))

    def finished(self, task: fleet_pb2.Task) -> Finished | None:
        """The result of a task, if it is in hand."""
        return self._finished if self._finished and self._finished.task == task else None

    def progress(self) -> fleet_pb2.Progress | None:
        """What progress there was since the last call."""
        if self._running is None or self._running.progress is None:
            return None
        progress, self._running.progress = self._running.progress, None
        return progress

    def begin(self, running: RunningTask) -> None:
        """Start a task, in place of any other and its result."""
        self.abandon()
        self._running, self._finished = running, None
        job = asyncio.create_task(self._do(running))
        self._waiting.add(job)
        job.add_done_callback(self._waiting.discard)

    def fail(self, task: fleet_pb2.Task, reason: str) -> None:
        """Answer a task that cannot be begun."""
        self.abandon()
        self._finish(Finished(task, _failed(task, reason)))

    def cancel(self, task_id: str) -> None:
        """Forget a task that was withdrawn; on the chip it ends at its next step."""
        self.forget(task_id)
        if self._running and self._running.task.task_id == task_id:
            self.abandon()

    def forget(self, task_id: str) -> None:
        """Forget a result that has its verdict."""
        if self._finished and self._finished.task.task_id == task_id:
            self._finished = None

    def abandon(self) -> None:
        """Forget the task on the chip, which ends at its next step."""
        if self._running:
            self._running.cancelled = True
            self._running = None

    async def _do(self, running: RunningTask) -> None:
        task = running.task
        try:
            async with self._chip:  # a withdrawn task leaves it at its next step
                if running.cancelled:
                    return
                content, blob = await asyncio.to_thread(self._execute, running)
            finished = Finished(task, fleet_pb2.Result(task_id=task.task_id, content=content), blob)
        except TaskCancelled:
            return
        except Exception as error:
            _LOG.exception("task %s failed", task.task_id)
            finished = Finished(task, _failed(task, f"{type(error).__name__}: {error}"))
        if self._running is running:
            self._running = None
            self._finish(finished)

    def _finish(self, finished: Finished) -> None:
        self._finished = finished
        self._done(finished)


def _failed(task: fleet_pb2.Task, reason: str) -> fleet_pb2.Result:
    return fleet_pb2.Result(task_id=task.task_id, error=fleet_pb2.TaskError(reason=reason[:_MAX_REASON]))
