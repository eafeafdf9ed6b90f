"""A run's events for one reader: those in the log, then those to come, each once and in order.

However slowly it reads, the run never waits for it and keeps at most a few events for it: a reader that falls behind
goes on from the file.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Final

from neurofed.v1.monitor_pb2 import Event
from server.run import Run

STALL_S: Final = 30.0
"""How long a viewer may read nothing before it is dropped."""

_LOOK_S: Final = 1.0
_BATCH: Final = 500
_MAX_COMING: Final = 1000


class LogClosedError(Exception):
    """The run has not ended, but its events come from elsewhere now: for those who watch it here."""


class _Coming:
    """The events that came since the file was read; once there are too many, none: then the file has them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self.missed = False

    def put(self, event: Event) -> None:
        """Take an event; called by the log, in any thread."""
        self._loop.call_soon_threadsafe(self._take, event)

    def _take(self, event: Event) -> None:
        if len(self._events) >= _MAX_COMING:
            self._events.clear()
            self.missed = True
        if not self.missed:
            self._events.append(event)
        self._news.set()

    async def wait(self) -> None:
        """Wait for the next event, for a while."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), _LOOK_S)
        self._news.clear()

    def pop_all(self) -> list[Event]:
        """The events so far."""
        events, self._events = list(self._events), deque()
        return events


async def watch(run: Run, after_seq: int = 0) -> AsyncIterator[Event]:
    """A run's events after the numbered one, until the run has finished.

    Raises:
        LogClosedError: if this process does not train the run any more.
    """
    coming, seq = _Coming(), after_seq
    unsubscribe = run.log.subscribe(coming.put)
    try:
        while True:
            coming.missed = False
            past = run.log.read(seq)
            while batch := await asyncio.to_thread(_some, past):
                for event in batch:
                    seq = event.seq
                    yield event
            while not coming.missed:
                for event in coming.pop_all():
                    if event.seq > seq:
                        seq = event.seq
                        yield event
                if run.log.closed and seq >= run.log.seq and not run.finished:
                    raise LogClosedError(f"run {run.run_id} is not trained here any more")
                if run.finished and seq >= run.log.seq:
                    return
                if not coming.missed:
                    await coming.wait()
    finally:
        unsubscribe()


def _some(events: Iterator[Event]) -> list[Event]:
    return list(islice(events, _BATCH))
