"""The queue: runs are taken in the order of their submission, one is trained at a time, the workers stay joined.

A run keeps its place: one that was paused, or cut off by a crash, goes on before those submitted after it.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from neurofed import __version__, spec
from neurofed.errors import ConfigError, DataError, NeuroFedError, RunNotFoundError, RunStateError, StoppedError
from neurofed.eventlog import read_events
from neurofed.runstate import is_over
from neurofed.source import commit
from neurofed.v1 import monitor_pb2
from neurofed.v1.control_pb2 import RunEntry, RunSpec, RunState
from server import choices
from server.fleet import FleetService
from server.run import Run
from server.store import EVENTS, RunStore

_LOG = logging.getLogger(__name__)
_INDEXED = frozenset(
    {
        "run_submitted",
        "workers_awaited",
        "run_started",
        "checkpoint_written",
        "pause_requested",
        "run_paused",
        "run_resumed",
        "run_finished",
    }
)
"""Events that change a run's line in the list."""


class RunManager:
    """Keeps the queue and trains in a thread of its own. The other methods may be called from any thread.

    Args:
        folder: where the runs' folders are.
        fleet: the workers.
    """

    def __init__(self, folder: Path, fleet: FleetService) -> None:
        self._folder, self._fleet = folder, fleet
        self._store = RunStore(folder)
        self._runs: dict[str, Run] = {}
        self._changed = threading.Condition(threading.RLock())
        self._training: Run | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)

    def start(self) -> None:
        """Begin to train what is queued."""
        self._thread.start()

    # -- what operators ask for

    def submit(self, run_spec: RunSpec, run_id: str = "") -> Run:
        """Queue a run.

        Raises:
            ConfigError: if the specification is wrong or the name is taken.
            StorageError: if the disk does not take it.
        """
        spec.validate(run_spec)
        settings = choices.check(run_spec)
        run_spec.rounds = run_spec.rounds or settings.rounds
        with self._changed:
            run_id = spec.require_run_id(run_id or self._new_id())
            if _has_events(self._folder / run_id / EVENTS):
                raise ConfigError(f"expected a run id that is not in use, got {run_id!r}: choose another or resume it")
            run = self._open(run_id)
            try:
                payload = monitor_pb2.RunSubmitted(run_id=run_id, spec=run_spec, version=__version__, commit=commit())
                run.log.emit(payload)
            except NeuroFedError:
                run.log.close()
                del self._runs[run_id]
                raise
            self._changed.notify_all()
        return run

    def resume(self, run_id: str = "") -> None:
        """Queue the named run again, whatever its state, or every unfinished one.

        Raises:
            RunNotFoundError: if there is no such run, or nothing to resume.
            RunStateError: if another aggregator has it in hand.
            StorageError: if the disk does not take it.
        """
        if not run_id:
            self.recover()
            if all(run.finished for run in self._runs.values()):
                raise RunNotFoundError(f"expected an unfinished run in {self._folder}, got none")
            return
        with self._changed:
            run = self.get(run_id)
            if run.log.closed:
                run = self._open(run_id)
            run.resume(training=run is self._training)
            self._changed.notify_all()

    def recover(self) -> None:
        """Take up what an earlier aggregator left unfinished. Paused runs rest on."""
        with self._changed:
            for row in self._store.rows():
                run_id = row.entry.run_id
                if run_id in self._runs or is_over(row.entry.state):
                    continue
                try:
                    run = self._open(run_id)
                    if run.log.state != RunState.RUN_STATE_PAUSED:
                        run.resume(training=False)
                except NeuroFedError as error:
                    _LOG.warning("run %s is not taken up: %s", run_id, error)
            self._changed.notify_all()

    def pause(self, run_id: str) -> None:
        """Let a run rest until it is resumed: at once, or when the round in hand is safe.

        Raises:
            RunNotFoundError: if there is no such run.
            RunStateError: if it has ended, or is not in our hands.
            StorageError: if the disk does not take the wish.
        """
        with self._changed:
            run = self.get(run_id)
            if run.log.closed:
                raise RunStateError(f"expected a run that is waiting or running, got {run_id!r} which is not")
            run.pause(training=run is self._training)

    def stop(self, run_id: str) -> None:
        """End a run; what it has trained is kept. One that has ended already stays as it is.

        Raises:
            RunNotFoundError: if there is no such run.
        """
        with self._changed:
            run = self.get(run_id)
            if run is self._training:
                run.stop()
            elif not run.log.closed:
                self._finish_untrained(run)

    def get(self, run_id: str = "") -> Run:
        """A run by name, or the newest. One that is not in our hands can be looked at: its log is closed.

        Raises:
            DataError: if its log is damaged.
            RunNotFoundError: if there is none.
            RunStateError: if another aggregator has it in hand.
        """
        with self._changed:
            rows = [row.entry.run_id for row in self._store.rows()]
            run_id = run_id or (rows[-1] if rows else "")
            if run_id in self._runs:
                return self._runs[run_id]
            if run_id not in rows:
                known = ", ".join(rows[-10:]) or "none"
                raise RunNotFoundError(f"expected a run this aggregator knows ({known}), got {run_id or 'no name'!r}")
            run = Run(self._folder / run_id)
            run.log.close()
            return run

    def entries(self) -> list[RunEntry]:
        """The runs, newest first."""
        return [row.entry for row in reversed(self._store.rows())]

    def close(self, *, stop: bool) -> None:
        """Leave the run in hand, close all logs, and wait for the thread.

        Args:
            stop: end the unfinished runs for good; else they are left for the next aggregator to go on with.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if self._training:
                (self._training.stop if stop else self._training.suspend)()
            for run in self._runs.values():
                if stop and run is not self._training and run.log.state == RunState.RUN_STATE_WAITING:
                    self._finish_untrained(run)
        if self._thread.is_alive():
            self._thread.join()
        for run in self._runs.values():
            run.log.close()
        self._store.close()

    # -- inside

    def _open(self, run_id: str) -> Run:
        """Take a run in hand: its log is ours, its line in the list follows it."""
        run = self._runs[run_id] = Run(self._folder / run_id)

        def index(event: monitor_pb2.Event) -> None:
            if event.WhichOneof("payload") in _INDEXED:
                self._store.put(run.snapshot, run.log.whole_bytes)

        run.log.subscribe(index)
        run.take_up()
        return run

    def _finish_untrained(self, run: Run) -> None:
        error = StoppedError("the run was stopped while others ran or it was paused")
        state = RunState.RUN_STATE_STOPPED
        run.finish(monitor_pb2.RunFinished(state=state, reason=str(error), exit_code=error.exit_code))

    def _new_id(self) -> str:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        taken = {path.name for path in self._folder.glob(f"{stamp}*")}
        return next(i for n in range(1, 10_000) if (i := stamp if n == 1 else f"{stamp}-{n}") not in taken)

    def _work(self) -> None:
        while (found := self._next()) is not None:
            run, number = found
            try:
                run.train(self._fleet, number)
            except Exception:
                _LOG.exception("run %s is left as it is", run.run_id)
                run.log.close()
            with self._changed:
                self._training = None
                if run.stop_unheard and not run.log.closed:
                    self._finish_untrained(run)

    def _next(self) -> tuple[Run, int] | None:
        """Wait for the first run in the queue; returns it with its number, or None when it is time to go."""
        with self._changed:
            while not self._closing:
                for row in self._store.rows():
                    run = self._runs.get(row.entry.run_id)
                    if run and not run.log.closed and run.log.state == RunState.RUN_STATE_WAITING:
                        self._training = run
                        return run, row.position
                self._changed.wait()
        return None


def _has_events(path: Path) -> bool:
    """Whether a log tells of a run; a submission that was cut off leaves one without a whole line."""
    try:
        return path.exists() and next(read_events(path), None) is not None
    except DataError:
        return True
