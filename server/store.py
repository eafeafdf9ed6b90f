"""The run store: which runs there are, in the order of their submission, and where each stands.

The truth about a run is its event log. That stays a file of JSON lines beside the run's checkpoints: after a kill at
any byte it can be read by any tool, a damaged one takes no other run with it, and a run's folder can be moved as it is.
The store is an SQLite index (WAL) over those logs. It adds the one thing that they cannot tell, the order of the queue
independent of any clock, and spares a start with thousands of finished runs from reading them all. It follows the logs
and never leads them: deleted, damaged or out of date, it is made again from them, and no fault of it stops a run.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neurofed.errors import DataError
from neurofed.eventlog import fold_log
from neurofed.files import make_folder
from neurofed.runstate import is_over, run_state_name
from neurofed.v1.control_pb2 import RunEntry, RunState
from neurofed.v1.monitor_pb2 import Snapshot

_LOG = logging.getLogger(__name__)
INDEX, EVENTS = "index.sqlite", "events.jsonl"
_BUSY_S = 2.0
_FAULTS = (sqlite3.Error, ValueError)
"""What a damaged file makes SQLite and its strings raise."""
_NOT_THE_FILES_FAULT = tuple(
    f"SQLITE_{name}" for name in ("BUSY", "LOCKED", "FULL", "IOERR", "CANTOPEN", "READONLY", "PERM", "AUTH", "NOLFS")
)
_SCHEMA = """CREATE TABLE IF NOT EXISTS runs (
    position INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
    round INTEGER NOT NULL, rounds INTEGER NOT NULL, workload TEXT NOT NULL, reason TEXT NOT NULL, log_bytes INTEGER)"""
_COLUMNS = "run_id, state, round, rounds, workload, reason, log_bytes"
_PUT = f"""INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET
    state = excluded.state, round = excluded.round, rounds = excluded.rounds, workload = excluded.workload,
    reason = excluded.reason, log_bytes = excluded.log_bytes RETURNING position"""  # noqa: S608 (all constants)


@dataclass(frozen=True, slots=True)
class Row:
    """One run in the store.

    Attributes:
        position: where it is in the order of submission.
        entry: where it stands.
        log_bytes: length of the event log that says so; None where the log says less.
    """

    position: int
    entry: RunEntry
    log_bytes: int | None


class RunStore:
    """The runs in one folder. All methods may be called from any thread.

    Args:
        folder: where the runs' folders are.

    Raises:
        StorageError: if the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = {}
        self._database = _open(folder / INDEX)
        if self._database:
            with self._tried():
                rows = self._database.execute(f"SELECT position, {_COLUMNS} FROM runs ORDER BY position")  # noqa: S608
                self._rows = {row[1]: _row(row) for row in rows}
        self._follow_logs()

    def rows(self) -> list[Row]:
        """The runs in the order of their submission."""
        with self._lock:
            return sorted(self._rows.values(), key=lambda row: row.position)

    def put(self, snapshot: Snapshot, log_bytes: int | None) -> None:
        """Take down where a run stands; one that is new goes to the end.

        Args:
            snapshot: the run.
            log_bytes: length of the event log that the snapshot was folded from.
        """
        entry = entry_of(snapshot)
        with self._lock:
            known = self._rows.get(entry.run_id)
            position = known.position if known else 1 + max((row.position for row in self._rows.values()), default=0)
            if self._database:
                with self._tried():
                    (position,) = self._database.execute(_PUT, _values(entry, log_bytes)).fetchone()
            self._rows[entry.run_id] = Row(position, entry, log_bytes)

    def close(self) -> None:
        """Close the index."""
        with self._lock:
            if self._database:
                with self._tried():
                    self._database.close()
                self._database = None

    def _follow_logs(self) -> None:
        """Bring the rows up to date with the folders: the logs are right."""
        logs = {path.parent.name: path for path in self._folder.glob(f"*/{EVENTS}")}
        for run_id in set(self._rows) - set(logs):
            del self._rows[run_id]
            if self._database:
                with self._tried():
                    self._database.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
        found = []
        for run_id, path in logs.items():
            known = self._rows.get(run_id)
            size = path.stat().st_size
            if known and is_over(known.entry.state) and known.log_bytes == size:
                continue
            try:
                snapshot = fold_log(path)
            except DataError as error:
                _LOG.error("run %s is left alone: %s", run_id, error)
                continue
            if snapshot.run_id == run_id:  # not so where a submission was cut off, or a folder renamed
                found.append((snapshot.started_unix_s, run_id, snapshot, size))
        for _, _, snapshot, size in sorted(found, key=lambda run: run[:2]):
            self.put(snapshot, size)

    @contextlib.contextmanager
    def _tried(self) -> Iterator[None]:
        try:
            yield
        except _FAULTS as error:
            _LOG.warning("the index of %s is behind and is made up for at the next start: %s", self._folder, error)


def entry_of(snapshot: Snapshot) -> RunEntry:
    """One line about a run."""
    return RunEntry(
        run_id=snapshot.run_id,
        state=snapshot.state,
        round=max((view.round for view in snapshot.rounds if view.checkpointed), default=0),
        rounds=snapshot.spec.rounds,
        workload=snapshot.spec.workload,
        reason=snapshot.reason,
    )


def _open(path: Path) -> sqlite3.Connection | None:
    """The index, made anew where it is damaged; None where the disk has no place for one."""
    for _ in range(2):
        try:
            database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = NORMAL")
                database.execute(_SCHEMA)
                (verdict,) = database.execute("PRAGMA quick_check").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
                database.execute(f"SELECT {_COLUMNS} FROM runs").fetchone()  # noqa: S608
                return database
            except BaseException:
                database.close()
                raise
        except _FAULTS as error:
            _LOG.warning("%s cannot be used: %s", path, error)
            if getattr(error, "sqlite_errorname", "").startswith(_NOT_THE_FILES_FAULT):
                return None
            _set_aside(path)
    return None


def _set_aside(path: Path) -> None:
    """Rename a damaged index, so that it can be looked at; its log belongs to nobody then."""
    with contextlib.suppress(OSError):
        path.replace(path.with_name(f"{path.name}.damaged"))
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def _row(columns: tuple[int, str, str, int, int, str, str, int | None]) -> Row:
    position, run_id, state, number, rounds, workload, reason, log_bytes = columns
    value = RunState.DESCRIPTOR.values_by_name.get(f"RUN_STATE_{state.upper()}")
    entry = RunEntry(run_id=run_id, round=number, rounds=rounds, workload=workload, reason=reason)
    entry.state = RunState.ValueType(value.number if value else 0)
    return Row(position, entry, log_bytes)


def _values(entry: RunEntry, log_bytes: int | None) -> tuple[str | int | None, ...]:
    state = run_state_name(entry.state)
    return entry.run_id, state, entry.round, entry.rounds, entry.workload, entry.reason, log_bytes
