"""The event log of a run: a file of events, one line of JSON each, only ever appended to.

A line counts once its line break is there. What a crash left behind after the last one is no event. A log has one
writer at a time: who opens it for writing holds a lock, which ends with the process.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from google.protobuf import json_format
from google.protobuf.message import Message

from neurofed.errors import DataError, RunStateError, StorageError
from neurofed.files import storing, sync_folder
from neurofed.folding import fold, fold_all
from neurofed.v1.control_pb2 import RunState
from neurofed.v1.monitor_pb2 import Event, Snapshot

_LOG = logging.getLogger(__name__)
_PAYLOADS: Final = {
    field.message_type.full_name: field.name
    for field in Event.DESCRIPTOR.oneofs_by_name["payload"].fields
    if field.message_type
}
_DURABLE: Final = frozenset(
    {
        "run_submitted",
        "run_resumed",
        "pause_requested",
        "run_paused",
        "model_evaluated",  # the round's checkpoint follows: no checkpoint may be newer than the events that led to it
        "run_finished",
    }
)
"""Events that are on the disk before anybody hears of them: a power cut without them would change what happens next."""

_COMPACT_EVENTS = 10_000
"""Protocol buffers keep the memory of what is overwritten until the whole message goes. Progress is overwritten several
times a second for each worker, for days: so the snapshot is copied now and then."""


def read_events(path: Path) -> Iterator[Event]:
    """The events of a log, in order.

    Args:
        path: the log.

    Yields:
        Each complete event. A torn last line is passed over.

    Raises:
        DataError: a complete line is not an event.
    """
    for number, line in enumerate(_complete_lines(path), start=1):
        yield _parse(line, path, number)


def read_tail(path: Path, size_bytes: int) -> list[Event]:
    """The last events of a log: those whose lines are whole within its last bytes.

    Raises:
        DataError: a complete line is not an event.
    """
    with path.open("rb") as file:
        start = max(0, file.seek(0, os.SEEK_END) - size_bytes)
        file.seek(start)
        lines = file.read(size_bytes).split(b"\n")
    return [_parse(line, path, -number) for number, line in enumerate(reversed(lines[bool(start) : -1]), 1)][::-1]


def fold_log(path: Path) -> Snapshot:
    """The snapshot that a log's events add up to."""
    return fold_all(read_events(path))


def to_json_line(event: Event) -> str:
    """An event as one line of JSON, without the line break."""
    return json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True)


class EventLog:
    """Numbers the events of one run, writes them down and tells whoever listens.

    Opening a file that exists goes on where it ends. All methods may be called from any thread.

    Raises:
        DataError: if a complete line is not an event.
        RunStateError: if somebody else writes this log.
        StorageError: if the disk does not give or take it.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.RLock()
        self._subscribers: list[Callable[[Event], None]] = []
        self._snapshot = Snapshot()
        self._size = 0
        self._torn = False
        self._unwritten: list[Event] = []
        with storing(path):
            self._file = path.open("ab", buffering=0)
        try:
            with storing(path):
                self._take_over()
        except BaseException:
            self._file.close()
            raise

    def _take_over(self) -> None:
        """Lock the file, fold what is in it, and cut off what a crash left behind."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunStateError(f"expected nobody else to write {self._path}, another process does") from None
        for number, line in enumerate(_complete_lines(self._path), start=1):
            fold(self._snapshot, _parse(line, self._path, number))
            self._size += len(line)
        self._file.truncate(self._size)
        sync_folder(self._path.parent)

    @property
    def state(self) -> RunState.ValueType:
        """Where the run stands."""
        return self._snapshot.state

    @property
    def seq(self) -> int:
        """Number of the last event."""
        return self._snapshot.seq

    @property
    def closed(self) -> bool:
        """True once nothing can be written any more."""
        return self._file.closed

    @property
    def whole_bytes(self) -> int | None:
        """Length of the file; None where an event is missing in it."""
        return None if self._unwritten else self._size

    def emit(self, payload: Message, *, must_write: bool = True) -> Event:
        """Append an event and call the subscribers with it.

        Args:
            payload: one of the messages of `Event.payload`, such as `RoundStarted`.
            must_write: False lets subscribers and snapshot have it even where the disk does not take it. That is for
                the last event of a process only: the next one to open the log knows nothing of it.

        Returns:
            The numbered event.

        Raises:
            StorageError: the disk does not take the event; it has not happened.
            TypeError: the message is no event's payload.
        """
        field = _PAYLOADS.get(payload.DESCRIPTOR.full_name)
        if field is None:
            raise TypeError(f"expected a payload of Event, got {payload.DESCRIPTOR.full_name}")
        with self._lock:
            event = Event(seq=self._snapshot.seq + 1, time_unix_s=self._clock())
            part: Message = getattr(event, field)
            part.SetInParent()
            part.CopyFrom(payload)
            try:
                self._append(to_json_line(event).encode() + b"\n", durable=field in _DURABLE)
            except StorageError as error:
                if must_write:
                    raise
                _LOG.error("event %d, %s, is not in the log: %s", event.seq, field, error)
                self._unwritten.append(event)
            fold(self._snapshot, event)
            if event.seq % _COMPACT_EVENTS == 0:
                self._snapshot = self.snapshot()
            for callback in tuple(self._subscribers):
                self._tell(callback, event)
        return event

    def read(self, after_seq: int = 0) -> Iterator[Event]:
        """The events so far that come after the numbered one."""
        for event in itertools.chain(read_events(self._path), tuple(self._unwritten)):
            if event.seq > after_seq:
                after_seq = event.seq
                yield event

    def snapshot(self) -> Snapshot:
        """A copy of the run as it stands."""
        with self._lock:
            copy = Snapshot()
            copy.CopyFrom(self._snapshot)
            return copy

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Have a function called with each event from now on.

        It is called in order, in the emitting thread, with the log locked: it should be quick and must not emit.
        An error it raises is logged and does not reach the emitter: no view may stop a run.

        Args:
            callback: what to call.

        Returns:
            A function that ends the subscription.
        """
        with self._lock:
            self._subscribers.append(callback)

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._subscribers:
                    self._subscribers.remove(callback)

        return unsubscribe

    def sync(self) -> None:
        """Wait until all events so far are on the disk.

        Raises:
            StorageError: the disk does not take them.
        """
        with self._lock, storing(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close the file; the snapshot and the events can still be read. Closing twice does nothing."""
        with self._lock:
            if self._file.closed:
                return
            try:
                self.sync()
            except StorageError as error:
                _LOG.error("%s", error)
            finally:
                self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, line: bytes, *, durable: bool) -> None:
        if self._file.closed:
            raise StorageError(f"expected {self._path} to be open, it is closed: nothing is added to it")
        with storing(self._path):
            if self._torn:  # half a line would spoil this one
                self._file.truncate(self._size)
            self._torn = True
            rest = memoryview(line)
            while rest:
                rest = rest[self._file.write(rest) :]
            if durable:
                os.fsync(self._file.fileno())
        self._torn = False
        self._size += len(line)

    def _tell(self, callback: Callable[[Event], None], event: Event) -> None:
        try:
            callback(event)
        except Exception:
            _LOG.exception("a subscriber of %s failed at event %d", self._path.name, event.seq)


def _complete_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _parse(line: bytes, path: Path, number: int) -> Event:
    try:
        event = json_format.Parse(line, Event(), ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}, line {number}: expected an event as JSON, got something else: {error}") from error
    if event.seq < 1:
        raise DataError(f"{path}, line {number}: expected an event with a number from 1, got {event.seq}")
    return event
