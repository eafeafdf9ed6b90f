"""A run as the full-screen monitor knows it: one thread folds events in, another draws.

What is kept does not grow with the number of events: the snapshot, the last lines, and one entry for each worker and
each round.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from neurofed import metrics
from neurofed.cli.tui.eventline import event_line
from neurofed.folding import fold
from neurofed.runstate import is_finished
from neurofed.v1.monitor_pb2 import Event, RoundView, Snapshot, WorkerEntry, WorkerRound

TAIL_LINES: Final = 200
"""Lines of the event tail that are kept."""


@dataclass(slots=True)
class Cost:
    """What something has cost so far."""

    bytes_up: int = 0
    bytes_down: int = 0
    energy_j: float | None = None
    """Modelled; None where nothing was billed."""

    @classmethod
    def of(cls, part: WorkerRound) -> Cost:
        """What a worker's part in a round has cost."""
        energy_j = part.metrics.get(metrics.ENERGY_J, math.nan)
        return cls(part.bytes_up, part.bytes_down, energy_j if math.isfinite(energy_j) else None)

    def add(self, more: Cost, less: Cost | None = None) -> None:
        """Add what something has cost now; `less` is what it had cost when it was added before."""
        less = less or Cost()
        self.bytes_up += more.bytes_up - less.bytes_up
        self.bytes_down += more.bytes_down - less.bytes_down
        if more.energy_j is not None:
            self.energy_j = (self.energy_j or 0.0) + more.energy_j - (less.energy_j or 0.0)


@dataclass(slots=True)
class Watched:
    """A run that is watched. `lock` is held while it changes and shall be held while it is read."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    lost: str = ""
    """Why nothing comes from the aggregator; empty where it answers."""
    ended: bool = False
    """Whether the stream of events has come to its end."""
    error: Exception | None = None
    """What ended it early."""
    changes: int = 0
    """Counts what could be drawn."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _costs: dict[str, Cost] = field(default_factory=dict)
    _entries: dict[str, tuple[WorkerEntry, float]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Fold the next event in."""
        with self.lock:
            if event.HasField("round_started"):
                self._close_rounds(event.round_started.round)
            late = self._late_part(event)
            before = Cost.of(late) if late else None
            fold(self.snapshot, event)
            if late:
                self._add(late, before)
            if not event.HasField("task_progress") and (line := event_line(event)):
                self.tail.append(line)
            self.changes += 1

    def restart(self) -> None:
        """Forget the run: its history comes again."""
        with self.lock:
            self.snapshot.Clear()
            self.tail.clear()
            self._costs.clear()
            self.changes += 1

    def say_lost(self, why: str) -> None:
        """The aggregator is gone, or answers again where `why` is empty."""
        with self.lock:
            self.lost = why
            self.changes += 1

    def end(self, error: Exception | None = None) -> None:
        """Nothing more will come."""
        with self.lock:
            self.ended, self.error = True, error
            self.changes += 1

    def set_entries(self, entries: Iterable[WorkerEntry]) -> None:
        """What the aggregator says of its workers now."""
        now_s = time.monotonic()
        with self.lock:
            self._entries = {entry.name: (entry, now_s) for entry in entries}
            self.changes += 1

    def heartbeat_age_s(self, worker: str) -> float | None:
        """Time since the aggregator last heard of a worker; None where it does not know."""
        if worker not in self._entries:
            return None
        entry, asked_s = self._entries[worker]
        return entry.heartbeat_age_s + time.monotonic() - asked_s

    def cost(self, worker: str = "") -> Cost:
        """What the run has cost so far, all of it or one worker's part."""
        known = self._costs.get(worker, Cost())
        total = Cost(known.bytes_up, known.bytes_down, known.energy_j)
        for part in self.snapshot.rounds[-1].workers if self.snapshot.rounds else ():
            if worker in ("", part.name):
                total.add(Cost.of(part))
        return total

    def rounds_done(self) -> int:
        """Rounds that have a new global model."""
        rounds = self.snapshot.rounds
        return max(0, len(rounds) - 1) + (bool(rounds) and is_finished(rounds[-1]))

    def _close_rounds(self, number: int) -> None:
        """A round begins: those before it are summed up once, and those it replaces are taken back."""
        rounds = self.snapshot.rounds
        if rounds and rounds[-1].round < number:
            closed: Iterable[RoundView] = rounds[-1:]
        else:
            self._costs.clear()
            closed = (view for view in rounds if view.round < number)
        for view in closed:
            for part in view.workers:
                self._add(part)

    def _late_part(self, event: Event) -> WorkerRound | None:
        """The part that an event changes in a round that is summed up already: an update may come rounds later."""
        told = event.task_sent if event.HasField("task_sent") else event.result_received
        rounds = self.snapshot.rounds
        if not rounds or not told.round or told.round >= rounds[-1].round:
            return None
        view = next((view for view in reversed(rounds) if view.round == told.round), RoundView())
        return next((part for part in view.workers if part.name == told.worker), None)

    def _add(self, part: WorkerRound, before: Cost | None = None) -> None:
        for name in ("", part.name):
            self._costs.setdefault(name, Cost()).add(Cost.of(part), before)
