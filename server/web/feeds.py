"""The runs that somebody looks at: one feed for each, made when first asked for."""

from __future__ import annotations

import asyncio
from typing import Final

from neurofed.errors import RunNotFoundError
from neurofed.eventlog import read_tail
from neurofed.report.data import Data
from neurofed.runstate import is_over
from neurofed.v1.control_pb2 import RunEntry, RunState
from neurofed.v1.monitor_pb2 import Event
from server.fleet import FleetService
from server.run import Run
from server.runs import RunManager
from server.store import EVENTS
from server.web.feed import Feed
from server.web.view import board_view

_MAX_IDLE: Final = 8
_TAIL_BYTES: Final = 1 << 18
_BUSY: Final = frozenset({RunState.RUN_STATE_RUNNING, RunState.RUN_STATE_PAUSING})


class Feeds:
    """Makes feeds, and forgets those that nobody has looked at for longest.

    Args:
        runs: the runs.
        fleet: the workers.
    """

    def __init__(self, runs: RunManager, fleet: FleetService) -> None:
        self._runs, self._fleet = runs, fleet
        self._feeds: dict[str, Feed] = {}
        self._making = asyncio.Lock()

    @property
    def viewers(self) -> int:
        """How many watch."""
        return sum(feed.viewers for feed in self._feeds.values())

    def active(self) -> str:
        """The name of the run being trained, else of the newest; empty where there is none."""
        entries = self._runs.entries()
        busy = next((entry for entry in entries if entry.state in _BUSY), None)
        found = busy or next(iter(entries), None)
        return found.run_id if found else ""

    async def get(self, run_id: str) -> Feed:
        """The feed of a run.

        Raises:
            NeuroFedError: if there is no such run, or it cannot be read.
        """
        async with self._making:
            entry = next((entry for entry in self._runs.entries() if entry.run_id == run_id), None)
            if entry is None:
                raise RunNotFoundError(f"expected a run this aggregator knows, got {run_id!r}")
            feed = self._feeds.pop(run_id, None)
            if feed is None or _is_stale(feed, entry):
                run, latest = await asyncio.to_thread(self._open, run_id)
                feed = Feed(run, self.boards, latest)
            self._feeds[run_id] = feed  # as the newest
            self._forget()
            return feed

    def boards(self) -> list[Data]:
        """The workers' processes and boards as of now."""
        return [board_view(worker.entry()) for worker in self._fleet.roster()]

    def close(self) -> None:
        """Follow no run any more."""
        for feed in self._feeds.values():
            feed.close()

    def _open(self, run_id: str) -> tuple[Run, list[Event]]:
        run = self._runs.get(run_id)
        return run, read_tail(run.folder / EVENTS, _TAIL_BYTES)

    def _forget(self) -> None:
        idle = [run_id for run_id, feed in self._feeds.items() if not feed.viewers]
        for run_id in idle[:-_MAX_IDLE]:
            self._feeds.pop(run_id).close()


def _is_stale(feed: Feed, entry: RunEntry) -> bool:
    """Whether a run has gone on after its feed had ended."""
    return feed.ended and (feed.snapshot.state != entry.state or not is_over(entry.state))
