"""Workers that broke a rule: they are given no more tasks for the rest of the run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from google.protobuf.message import Message as Payload

from neurofed.runstate import one_line
from neurofed.v1 import monitor_pb2

_LOG = logging.getLogger(__name__)


class Quarantine:
    """Who is in quarantine, and why. May be used from any thread.

    Args:
        run_id: the run.
        emit: takes its events.
    """

    def __init__(self, run_id: str, emit: Callable[[Payload], object]) -> None:
        self._run_id, self._emit = run_id, emit
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {}

    def __contains__(self, worker: str) -> bool:
        return worker in self._reasons

    @property
    def reasons(self) -> dict[str, str]:
        """The reason by worker; part of a checkpoint."""
        with self._lock:
            return dict(self._reasons)

    def restore(self, reasons: Mapping[str, str]) -> None:
        """Take over the reasons of a checkpoint; of these, events have told."""
        with self._lock:
            self._reasons.update(reasons)

    def add(self, worker: str, round_number: int, reason: str) -> None:
        """Put a worker into quarantine. The first reason stays."""
        with self._lock:
            if worker in self._reasons:
                return
            self._reasons[worker] = one_line(reason)
        _LOG.warning("worker %s is in quarantine: %s", worker, one_line(reason))
        self._emit(monitor_pb2.WorkerQuarantined(name=worker, round=round_number, reason=one_line(reason)))

    def late(self, worker: str, origin: tuple[str, int], reason: str) -> None:
        """Tell of a result that came when its task was withdrawn, as may happen to anybody: refused, and no more.

        Args:
            worker: who sent it.
            origin: run and round of the task; another run's log hears nothing of it.
            reason: one line for people.
        """
        run_id, round_number = origin
        if run_id == self._run_id:
            self._emit(monitor_pb2.ResultRejected(worker=worker, round=round_number, reason=reason))
