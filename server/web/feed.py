"""One run's live view, made once and shared by all who watch.

A frame is a message of Server-Sent Events: the events since the frame before, and the state of what they changed. The
last frames are kept in a ring. A viewer is a place in it, so a viewer that stops reading costs nothing, and when the
ring has moved on it is dropped. Coming back with the identifier of the last frame it saw, it misses nothing and sees
nothing twice; where its frame is no longer known, it gets the missing events from the log and the whole state.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from neurofed.folding import fold
from neurofed.report.data import Data
from neurofed.v1.monitor_pb2 import Event
from server.run import Run
from server.watch import LogClosedError, watch
from server.web.view import event_view, round_view, rounds_touched, run_view, workers_view

_LOG = logging.getLogger(__name__)

PERIOD_S, VIEWER_S = 0.25, 0.001
"""How long news is gathered before it is sent, and how much longer for each viewer."""
_BOARDS_EVERY: Final = 8
RING: Final = 512
"""Frames that are kept for viewers."""
_RECENT: Final = 200
_BATCH: Final = 500
_NOISE: Final = frozenset({"task_progress", "task_sent"})


@dataclass(frozen=True, slots=True)
class Place:
    """What a viewer saw last: an event's number, and in which process's frames."""

    seq: int
    epoch: str = ""

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """`EPOCH-SEQ` as frames are identified, or a bare number; None where it is neither."""
        epoch, _, seq = text.rpartition("-")
        return cls(int(seq), epoch) if seq.isascii() and seq.isdecimal() and len(seq) < 19 else None


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    before: int
    """Number of the last event before the frame."""
    seq: int
    data: bytes


class Feed:
    """Follows one run.

    Args:
        run: the run.
        boards: makes the workers' state of now.
        latest: the events before now that a new viewer gets to read.
    """

    def __init__(self, run: Run, boards: Callable[[], list[Data]], latest: Iterable[Event] = ()) -> None:
        self.run, self._boards = run, boards
        self.snapshot = run.snapshot
        self.rounds: dict[int, Data] = {view.round: round_view(view) for view in self.snapshot.rounds}
        self._seq = self.snapshot.seq
        self._epoch = secrets.token_hex(4)
        self._pending: list[Event] = []
        self._recent: deque[Data] = deque(maxlen=_RECENT)
        self._recall(event_view(event) for event in latest if event.seq <= self._seq)
        self._ring: deque[_Frame] = deque(maxlen=RING)
        self._next_number = 0
        self._kept: tuple[tuple[int, int, bool] | None, bytes] = (None, b"")
        self._news = asyncio.Event()
        self.ended = False
        self.viewers = 0
        self._task = asyncio.get_running_loop().create_task(self._work())

    def close(self) -> None:
        """Follow it no longer."""
        self._task.cancel()

    def whole(self) -> Data:
        """All there is to show."""
        self._publish()
        return {
            "seq": self._seq,
            "whole": True,
            "run": run_view(self.snapshot),
            "workers": workers_view(self.snapshot),
            "rounds": self.rounds,
            "events": list(self._recent),
            "boards": self._boards(),
        }

    async def frames(self, after: Place | None) -> AsyncIterator[bytes]:
        """Messages for one viewer, until the run has ended or the viewer has fallen behind.

        Args:
            after: what it saw last; None for a new viewer, who gets the whole state and the latest events.
        """
        self._publish()
        number = self._number_after(after)
        if number is None:
            number, seq = self._next_number, self._seq
            whole = self._whole_frame(told=after is not None)
            if after is not None:
                async for events in self._missed(after.seq if after.seq <= seq else 0, seq):
                    yield _message("events", {"events": events}, str(events[-1]["seq"]))
            yield whole
        while True:
            first = self._ring[0].number if self._ring else self._next_number
            if number < first:
                return
            for frame in [frame for frame in self._ring if frame.number >= number]:
                yield frame.data
                number = frame.number + 1
            if number == self._next_number:
                if self.ended:
                    yield _message("end", {}, "")
                    return
                await self._news.wait()

    def _whole_frame(self, *, told: bool) -> bytes:
        """All there is, made once for all viewers that come within a second: after a restart that is everybody.

        Args:
            told: whether the viewer has the events.
        """
        key = (self._next_number, int(asyncio.get_running_loop().time()), told)
        if self._kept[0] != key:
            whole = self.whole() | ({"events": []} if told else {})
            self._kept = key, _message("news", whole, f"{self._epoch}-{self._seq}")
        return self._kept[1]

    def _number_after(self, place: Place | None) -> int | None:
        """The number of the frame that follows on what a viewer has; None where there is none such."""
        if place is None or place.epoch != self._epoch:
            return None
        if place.seq == self._seq:
            return self._next_number
        return next((frame.number for frame in self._ring if frame.before == place.seq < frame.seq), None)

    async def _missed(self, after_seq: int, until_seq: int) -> AsyncIterator[list[Data]]:
        events: list[Data] = []
        if after_seq < until_seq:
            async for event in watch(self.run, after_seq):
                events.append(event_view(event))
                if len(events) == _BATCH or event.seq == until_seq:
                    yield events
                    events = []
                if event.seq == until_seq:
                    return

    async def _work(self) -> None:
        """Take the run's events in, and send them on in bundles."""
        follow = asyncio.create_task(self._follow())
        beats = 0
        try:
            while not follow.done():
                await asyncio.wait({follow}, timeout=PERIOD_S + self.viewers * VIEWER_S)
                self._publish()
                beats += 1
                if beats % _BOARDS_EVERY == 0 and self.viewers:
                    self._send(_message("boards", {"boards": self._boards()}, ""), self._seq)
            self._publish()
            if not follow.cancelled() and (error := follow.exception()):
                raise error
        except LogClosedError:
            pass
        except Exception:
            _LOG.exception("run %s is no longer shown", self.run.run_id)
        finally:
            follow.cancel()
            self.ended = True
            self._wake()

    async def _follow(self) -> None:
        async for event in watch(self.run, self.snapshot.seq):
            fold(self.snapshot, event)
            self._pending.append(event)
            if len(self._pending) >= _BATCH:
                self._publish()

    def _publish(self) -> None:
        """Make a frame of what has happened since the last one."""
        if not self._pending:
            return
        events, self._pending = self._pending, []
        known = {view.round for view in self.snapshot.rounds}
        changed = {view.round: round_view(view) for view in rounds_touched(self.snapshot, events)}
        self.rounds = {number: data for number, data in {**self.rounds, **changed}.items() if number in known}
        shown = [event_view(event) for event in events]
        self._recall(shown)
        news = {
            "seq": self.snapshot.seq,
            "run": run_view(self.snapshot),
            "workers": workers_view(self.snapshot),
            "rounds": changed,
            "last_round": max(known, default=0),
            "events": shown,
        }
        self._send(_message("news", news, f"{self._epoch}-{self.snapshot.seq}"), self.snapshot.seq)

    def _recall(self, events: Iterable[Data]) -> None:
        self._recent.extend(event for event in events if event["kind"] not in _NOISE)

    def _send(self, data: bytes, seq: int) -> None:
        self._ring.append(_Frame(self._next_number, self._seq, seq, data))
        self._next_number += 1
        self._seq = seq
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _message(kind: str, data: Data, identifier: str) -> bytes:
    """One message of Server-Sent Events; one without an identifier does not move the viewer's place."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    head = f"id: {identifier}\n" if identifier else ""
    return f"{head}event: {kind}\ndata: {text}\n\n".encode()
