"""A run's events over however many connections: what every watching terminal stands on.

The aggregator may go away and come back. Nobody who reads on here misses an event or gets one twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from neurofed.errors import LinkError, UnreachableError
from neurofed.runstate import one_line
from neurofed.v1.monitor_pb2 import Event

_PAUSE_S: Final = (0.2, 5.0)
"""Between two attempts: at first, and at most."""

Watch = Callable[[str, int], Iterator[Event]]
"""The events of a run (empty: the newest) after the numbered one: `AggregatorClient.watch`."""


class Feed:
    """Iterates over a run's events, and over breaks of the connection to whom they come from.

    Args:
        watch: opens a stream of events.
        run_id: the run; empty means the newest, which then stays the one that is watched.
        on_lost: told in one line why nothing comes; with an empty text once events come again.
        on_rewritten: told that the run's history is another than the one seen so far (a power cut took events that
            had been sent); its events follow from the first.
        give_up_after_s: how long to try to reach who has gone; None means for ever.
    """

    def __init__(
        self,
        watch: Watch,
        run_id: str = "",
        *,
        on_lost: Callable[[str], None] = lambda why: None,
        on_rewritten: Callable[[], None] = lambda: None,
        give_up_after_s: float | None = None,
    ) -> None:
        self._watch, self.run_id = watch, run_id
        self._on_lost, self._on_rewritten = on_lost, on_rewritten
        self._give_up_after_s = give_up_after_s
        self._last = Event()
        self._closed = threading.Event()

    def close(self) -> None:
        """End the iteration, also where it waits to try again; may be called from any thread."""
        self._closed.set()

    def __iter__(self) -> Iterator[Event]:
        """The events after those that were iterated over before.

        Raises:
            UnreachableError: if nobody answered from the start, or who had answered is gone for too long.
            NeuroFedError: what else the aggregator has against it.
        """
        pause_s, lost_since_s = _PAUSE_S[0], 0.0
        while not self._closed.is_set():
            try:
                for event in self._connect():
                    if lost_since_s:
                        pause_s, lost_since_s = _PAUSE_S[0], 0.0
                        self._on_lost("")
                    yield event
            except LinkError as error:
                if self._closed.is_set():
                    return
                passing = type(error) in (LinkError, UnreachableError) and self._last.seq
                if not passing or (lost_since_s and self._is_late(lost_since_s)):
                    raise
                if not lost_since_s:
                    lost_since_s = time.monotonic()
                    self._on_lost(one_line(str(error)))
            else:
                if lost_since_s:
                    self._on_lost("")
                return
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S[1])

    def _is_late(self, since_s: float) -> bool:
        return self._give_up_after_s is not None and time.monotonic() - since_s >= self._give_up_after_s

    def _connect(self) -> Iterator[Event]:
        """New events of one connection. The last one seen is asked for again: it tells whether history is the same."""
        known, rewritten = self._last.seq, False
        for event in self._watch(self.run_id, max(0, known - 1)):
            if known and event != self._last:
                rewritten = True
                break
            known = 0
            if event.seq > self._last.seq:
                self._last = event
                self.run_id = self.run_id or event.run_submitted.run_id
                yield event
        if rewritten:
            self._on_rewritten()
            self._last = Event()
            yield from self._connect()
