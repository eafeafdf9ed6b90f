"""One run: its folder, its event log, and its way from waiting to its end.

runs/ID/events.jsonl            what happened, the source of everything else
runs/ID/checkpoints/            the newest global models
runs/ID/report.json, .html      drawn from the events when the run ends or rests
"""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path

from google.protobuf.message import Message as Payload

from neurofed.errors import NeuroFedError, NotEnoughWorkersError, RunFailedError, StoppedError, StorageError
from neurofed.eventlog import EventLog
from neurofed.files import make_folder
from neurofed.report import write_report
from neurofed.runstate import is_over
from neurofed.tracing.live import trace_run
from neurofed.v1 import monitor_pb2
from neurofed.v1.control_pb2 import RunState
from neurofed.v1.monitor_pb2 import RunFinished, Snapshot
from server.checkpoint import CheckpointStore
from server.fleet import FleetService
from server.grid import FleetGrid
from server.roster import joined_event
from server.server_app import Services, run_app
from server.store import EVENTS

_LOG = logging.getLogger(__name__)


class _PausedError(Exception):
    """The run rests: no fault, only the way out of the rounds."""


class Run:
    """A run that this process may write.

    Raises:
        DataError: if its event log is damaged.
        RunStateError: if another aggregator has it in hand.
        StorageError: if the disk does not take its folder.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder, self.run_id = folder, folder.name
        self.log = EventLog(folder / EVENTS)
        trace_run(self.log)
        self._lock = threading.RLock()
        self._halting = threading.Event()
        self._suspended = False
        self._fault: StorageError | None = None
        self._grid: FleetGrid | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The run as it stands."""
        return self.log.snapshot()

    @property
    def finished(self) -> bool:
        """True once the run has ended."""
        return is_over(self.log.state)

    @property
    def stop_unheard(self) -> bool:
        """True where the wish to stop came when the run was about to rest."""
        return self._halting.is_set() and not self._suspended and not self.finished

    # -- wishes, from any thread

    def take_up(self) -> None:
        """Begin where an earlier aggregator left off: the round that a pause waited for was cut off, it is time."""
        if self.log.state == RunState.RUN_STATE_PAUSING:
            self.log.emit(monitor_pb2.RunPaused())

    def stop(self) -> None:
        """End a run that is being trained, soon."""
        self._halting.set()
        if self._grid:
            self._grid.stop()

    def suspend(self) -> None:
        """Leave a run that is being trained as a crash would, but in order: the next aggregator goes on with it."""
        self._suspended = True
        self.stop()

    def pause(self, *, training: bool) -> None:
        """Let the run rest: at once, or if it is being trained, when its round is safe."""
        with self._lock:
            if self.log.state not in (RunState.RUN_STATE_PAUSING, RunState.RUN_STATE_PAUSED):
                self.log.emit(monitor_pb2.PauseRequested() if training else monitor_pb2.RunPaused())

    def resume(self, *, training: bool) -> None:
        """Let the run go on; one that is going on anyway does."""
        with self._lock:
            if self.log.state != (RunState.RUN_STATE_RUNNING if training else RunState.RUN_STATE_WAITING):
                self.log.emit(monitor_pb2.RunResumed())

    def finish(self, ending: RunFinished) -> None:
        """Write the end down, and the report. The end is told even where the disk does not take it."""
        self.log.emit(ending, must_write=False)
        self._report()
        self.log.close()

    def _report(self) -> None:
        try:
            write_report(self.folder, self.snapshot)
        except StorageError as error:
            _LOG.error("run %s has no report: %s", self.run_id, error)
        except Exception:
            _LOG.exception("run %s has no report", self.run_id)

    # -- training, in the manager's thread

    def train(self, fleet: FleetService, run_number: int) -> None:
        """Train until the run ends, rests or is suspended.

        Args:
            fleet: the workers.
            run_number: Flower's number of the run.
        """
        fleet.emit = self._note
        try:
            ending = self._outcome(fleet, run_number)
        finally:
            fleet.emit = _nobody
            self._grid = None
        if ending:
            self.finish(ending)
        else:
            self._report()

    def _outcome(self, fleet: FleetService, run_number: int) -> RunFinished | None:
        """Train; returns the end, or None where the run is to go on later."""
        try:
            self._await_workers(fleet)
            stall_timeout_s = self.snapshot.spec.stall_timeout_s or math.inf
            self._grid = FleetGrid(fleet, self.run_id, run_number, stall_timeout_s=stall_timeout_s)
            self._between_rounds()
            checkpoints = CheckpointStore(self.folder / "checkpoints")
            services = Services(self.log.emit, checkpoints, self._between_rounds)
            run_app(services, self._grid, self.snapshot.spec, run_number)
        except _PausedError:
            return None
        except NeuroFedError as error:
            return self._ending(self._fault or error)
        except Exception as error:
            _LOG.exception("run %s failed", self.run_id)
            return self._ending(self._fault or RunFailedError(f"unexpected {type(error).__name__}: {error}"))
        return RunFinished(state=RunState.RUN_STATE_COMPLETED)

    def _ending(self, error: NeuroFedError) -> RunFinished | None:
        stopped = isinstance(error, StoppedError)
        if stopped and self._suspended:
            return None
        return RunFinished(
            state=RunState.RUN_STATE_STOPPED if stopped else RunState.RUN_STATE_FAILED,
            reason=str(error),
            exit_code=error.exit_code,
        )

    def _between_rounds(self) -> None:
        """Where a run may be left without losing anything."""
        if self._halting.is_set():
            raise StoppedError("the run was stopped")
        with self._lock:
            if self.log.state == RunState.RUN_STATE_PAUSING:
                self.log.emit(monitor_pb2.RunPaused())
                raise _PausedError

    def _note(self, payload: Payload) -> None:
        """Take an event of the fleet. The streams must not suffer from our disk: a full one ends the run, not them."""
        try:
            self.log.emit(payload)
        except StorageError as error:
            self._fault = self._fault or error
            self.stop()

    def _await_workers(self, fleet: FleetService) -> None:
        """Wait for the run's workers; what is missing is told, and after the time given the run fails."""
        spec = self.snapshot.spec
        deadline = time.monotonic() + spec.join_timeout_s
        told: list[str] | None = None
        while True:
            self._between_rounds()
            joined = [worker.name for worker in fleet.workers() if worker.connected]
            if len(joined) >= spec.workers:
                break
            if joined != told:
                told = joined
                self.log.emit(monitor_pb2.WorkersAwaited(wanted=spec.workers, joined=joined))
            if time.monotonic() > deadline:
                _require_enough(self.snapshot, joined)
                break
            with fleet.changed:
                fleet.changed.wait(0.2)
        for worker in fleet.workers():
            self.log.emit(joined_event(worker, rejoined=False))


def _require_enough(snapshot: Snapshot, joined: list[str]) -> None:
    spec = snapshot.spec
    if not spec.min_workers or len(joined) < spec.min_workers:
        raise NotEnoughWorkersError(
            f"expected {spec.workers} workers within {spec.join_timeout_s:g} s, {len(joined)} joined "
            f"({', '.join(joined) or 'none'}): start the others, or go on without them with --min-workers"
        )


def _nobody(_: Payload) -> None:
    """Where the fleet's events go while no run is trained."""
