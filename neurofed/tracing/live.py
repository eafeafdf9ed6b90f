"""Traces while rounds go on: off unless the environment says NEUROFED_TRACES=otlp."""

from __future__ import annotations

import atexit
import functools
import os
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from neurofed.errors import ConfigError
from neurofed.eventlog import EventLog
from neurofed.tracing.spans import RoundSpans, work_span
from neurofed.v1.monitor_pb2 import Event

VARIABLE: Final = "NEUROFED_TRACES"
"""`otlp` switches traces on; the collector's address is that of OTEL_EXPORTER_OTLP_ENDPOINT."""

_R = TypeVar("_R")


def trace_run(log: EventLog) -> None:
    """Send the spans of a run's rounds as they end, where traces are asked for.

    Args:
        log: the run's events.

    Raises:
        ConfigError: if they are asked for in a way that nobody knows, or the extra is missing.
    """
    if not _wanted():
        return
    sender, rounds = _sender("neurofed-aggregator"), RoundSpans()
    for event in log.read():
        rounds.take(event)

    def on_event(event: Event) -> None:
        for span in rounds.take(event):
            sender.send(span)

    log.subscribe(on_event)


def trace_work(execute: Callable[[Any], _R], worker: str) -> Callable[[Any], _R]:
    """Have each task of a worker sent as a span below the aggregator's, where traces are asked for.

    Args:
        execute: does a task; its argument has the `Task` as its `task`.
        worker: the worker's name.

    Returns:
        A function that does the same.

    Raises:
        ConfigError: as of `trace_run`.
    """
    if not _wanted():
        return execute
    sender = _sender("neurofed-worker")

    @functools.wraps(execute)
    def traced(running: Any) -> _R:
        task, start_ns, error = running.task, time.time_ns(), ""
        try:
            return execute(running)
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
            raise
        finally:
            span = work_span(task.task_id, task.run_id, task.round, worker, start_ns, time.time_ns(), error)
            sender.send(span)

    return traced


def _wanted() -> bool:
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", "otlp"):
        raise ConfigError(f"{VARIABLE}: expected otlp or nothing, got {asked!r}")
    return bool(asked)


@functools.cache
def _sender(service: str) -> Any:
    """One for each process; what waits is sent when it ends."""
    from neurofed.tracing.otlp import Sender

    sender = Sender(service)
    atexit.register(sender.close)
    return sender
