"""The threads behind the full-screen monitor: one reads events, one asks how the workers are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from neurofed.cli.feed import Feed
from neurofed.cli.tui.watched import Watched
from neurofed.errors import AccessError, NeuroFedError
from neurofed.v1.monitor_pb2 import Event, WorkerEntry

_ASK_S: Final = 2.0


class Watcher:
    """Keeps a `Watched` up to date until it is closed.

    Args:
        watched: what is kept up to date.
        feed: whose events are read.
        events: an iteration over the feed that has begun; None begins one.
        workers: asks the aggregator for its workers.
    """

    def __init__(
        self,
        watched: Watched,
        feed: Feed,
        workers: Callable[[], Iterable[WorkerEntry]],
        events: Iterator[Event] | None = None,
    ) -> None:
        self._watched, self._feed, self._workers = watched, feed, workers
        self._closed = threading.Event()
        self._asker = threading.Thread(target=self._ask, name="workers", daemon=True)
        self._reader = self._reading(events or iter(feed))

    def start(self) -> None:
        """Begin."""
        self._asker.start()
        self._reader.start()

    def read_on(self) -> None:
        """Read further events of a run that had ended and was resumed."""
        with self._watched.lock:
            if not self._watched.ended or self._closed.is_set():
                return
            self._watched.ended = False
            self._reader = self._reading(iter(self._feed))
        self._reader.start()

    def close(self) -> None:
        """Ask both threads to end; the one that reads ends once the connection is closed."""
        self._closed.set()
        self._feed.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads' end."""
        for thread in (self._reader, self._asker):
            thread.join(timeout_s)

    def _reading(self, events: Iterator[Event]) -> threading.Thread:
        return threading.Thread(target=self._read, args=(events,), name="events", daemon=True)

    def _read(self, events: Iterator[Event]) -> None:
        try:
            for event in events:
                self._watched.take(event)
        except NeuroFedError as error:
            self._watched.end(error)
        else:
            self._watched.end()

    def _ask(self) -> None:
        while not self._closed.is_set():
            try:
                self._watched.set_entries(self._workers())
            except AccessError:
                return
            except NeuroFedError:
                pass  # whoever reads the events tells that the aggregator is gone
            self._closed.wait(_ASK_S)
