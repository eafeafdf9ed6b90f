"""The runs of one aggregator: each a folder with its event log, checkpoints and report; one is trained at a time.

runs/ID/events.jsonl            what happened, the source of everything else
runs/ID/checkpoints/            the newest global models
runs/ID/report.json, .html      drawn from the events when the run ends
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from neurofed import __version__, spec
from neurofed.errors import ConfigError, NeuroFedError, NotEnoughWorkersError, RunNotFoundError, StoppedError
from neurofed.eventlog import EventLog
from neurofed.report import write_report
from neurofed.source import commit
from neurofed.v1 import monitor_pb2
from neurofed.v1.control_pb2 import RunSpec, RunState
from neurofed.v1.monitor_pb2 import Snapshot
from server.checkpoint import CheckpointStore
from server.fleet import FleetService
from server.grid import FleetGrid
from server.roster import joined_event
from server.server_app import Services, run_app
from workloads import registry

_LOG = logging.getLogger(__name__)
FINISHED = (RunState.RUN_STATE_COMPLETED, RunState.RUN_STATE_STOPPED, RunState.RUN_STATE_FAILED)


class Run:
    """One run: its folder and its event log."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.run_id = folder, folder.name
        self.log = EventLog(folder / "events.jsonl")
        self.stopping = threading.Event()
        self.grid: FleetGrid | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The run as it stands."""
        return self.log.snapshot()

    @property
    def finished(self) -> bool:
        """True once the log is closed."""
        return self.snapshot.state in FINISHED

    def stop(self) -> None:
        """End the run soon; call from any thread."""
        self.stopping.set()
        if self.grid:
            self.grid.stop()


class RunManager:
    """Queues runs and trains them one after the other, in a thread of its own.

    Args:
        folder: where the runs' folders are.
        fleet: the workers.
    """

    def __init__(self, folder: Path, fleet: FleetService) -> None:
        self._folder, self._fleet = folder, fleet
        self._runs: dict[str, Run] = {}
        self._queue: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="runs", daemon=True)

    # -- called by the control and monitor services

    def start(self) -> None:
        """Begin to train what is queued."""
        self._thread.start()

    def submit(self, run_spec: RunSpec, run_id: str = "") -> Run:
        """Queue a run.

        Raises:
            ConfigError: if the specification is wrong or the name is taken.
        """
        spec.validate(run_spec)
        settings = registry.load(run_spec.workload).settings(run_spec.preset, dict(run_spec.settings))
        run_spec.rounds = run_spec.rounds or settings.rounds
        run_id = spec.require_run_id(run_id or self._new_id())
        if (self._folder / run_id / "events.jsonl").exists():
            raise ConfigError(f"expected a run id that is not in use, got {run_id!r}: choose another or resume it")
        run = Run(self._folder / run_id)
        run.log.emit(monitor_pb2.RunSubmitted(run_id=run_id, spec=run_spec, version=__version__, commit=commit()))
        run.log.sync()
        self._enqueue(run)
        return run

    def resume(self, run_id: str = "") -> list[Run]:
        """Queue the named run again, or every unfinished one.

        Raises:
            RunNotFoundError: if there is no such run, or nothing to resume.
        """
        found = [Run(p.parent) for p in sorted(self._folder.glob("*/events.jsonl")) if run_id in ("", p.parent.name)]
        runs = [run for run in found if run.log.snapshot().run_id and (run_id or not run.finished)]
        if not runs:
            raise RunNotFoundError(
                f"expected {f'run {run_id!r}' if run_id else 'an unfinished run'} in {self._folder}, got none"
            )
        for run in runs:
            run.log.emit(monitor_pb2.WorkersAwaited(wanted=run.snapshot.spec.workers))
            self._enqueue(run)
        return runs

    def get(self, run_id: str = "") -> Run:
        """A run by name, or the newest.

        Raises:
            RunNotFoundError: if there is none.
        """
        if run_id in self._runs:
            return self._runs[run_id]
        if not run_id and self._runs:
            return next(reversed(self._runs.values()))
        known = ", ".join(self._runs) or "none"
        raise RunNotFoundError(f"expected a run this aggregator knows ({known}), got {run_id or 'no name'!r}")

    def __iter__(self) -> Iterator[Run]:
        """The runs, newest first."""
        return iter(list(reversed(self._runs.values())))

    def close(self) -> None:
        """Stop the run in hand, close its log, and wait for the thread."""
        self._queue.put(None)
        for run in self:
            if not run.finished:
                run.stop()
        if self._thread.is_alive():
            self._thread.join()

    # -- in the manager's thread

    def _enqueue(self, run: Run) -> None:
        self._runs[run.run_id] = run
        self._queue.put(run)

    def _new_id(self) -> str:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        taken = {path.name for path in self._folder.glob(f"{stamp}*")}
        return next(i for n in range(1, 10_000) if (i := stamp if n == 1 else f"{stamp}-{n}") not in taken)

    def _work(self) -> None:
        while (run := self._queue.get()) is not None:
            try:
                self._train(run)
            except Exception:
                _LOG.exception("run %s: the report could not be written", run.run_id)

    def _train(self, run: Run) -> None:
        ending = monitor_pb2.RunFinished(state=RunState.RUN_STATE_COMPLETED)
        try:
            self._fleet.emit = run.log.emit
            self._await_workers(run)
            self._run_app(run)
        except StoppedError as error:
            ending = _ending(RunState.RUN_STATE_STOPPED, str(error), error.exit_code)
        except NeuroFedError as error:
            ending = _ending(RunState.RUN_STATE_FAILED, str(error), error.exit_code)
        except Exception as error:
            _LOG.exception("run %s failed", run.run_id)
            ending = _ending(RunState.RUN_STATE_FAILED, f"unexpected {type(error).__name__}: {error}", 34)
        finally:
            run.log.emit(ending)
            run.log.sync()
            write_report(run.folder, run.snapshot)

    def _await_workers(self, run: Run) -> None:
        """Wait for the run's workers; what is missing is told, and after the time given the run fails."""
        wanted = run.snapshot.spec.workers
        deadline = time.monotonic() + run.snapshot.spec.join_timeout_s
        told: list[str] | None = None
        while True:
            if run.stopping.is_set():
                raise StoppedError("the run was stopped while it waited for workers")
            joined = [worker.name for worker in self._fleet.workers() if worker.connected]
            if len(joined) >= wanted:
                break
            if joined != told:
                told = joined
                run.log.emit(monitor_pb2.WorkersAwaited(wanted=wanted, joined=joined))
            if time.monotonic() > deadline:
                self._require_enough(run, joined)
                break
            with self._fleet.changed:
                self._fleet.changed.wait(0.2)
        for worker in self._fleet.workers():
            run.log.emit(joined_event(worker, rejoined=False))

    def _require_enough(self, run: Run, joined: list[str]) -> None:
        run_spec = run.snapshot.spec
        if not run_spec.min_workers or len(joined) < run_spec.min_workers:
            raise NotEnoughWorkersError(
                f"expected {run_spec.workers} workers within {run_spec.join_timeout_s:g} s, {len(joined)} joined "
                f"({', '.join(joined) or 'none'}): start the others, or go on without them with --min-workers"
            )

    def _run_app(self, run: Run) -> None:
        run_number = 1 + sorted(self._runs).index(run.run_id)
        run.grid = FleetGrid(self._fleet, run.run_id, run_number)
        if run.stopping.is_set():
            raise StoppedError("the run was stopped")
        services = Services(run.log.emit, CheckpointStore(run.folder / "checkpoints"))
        run_app(services, run.grid, run.snapshot.spec, run_number)


def _ending(state: RunState.ValueType, reason: str, exit_code: int) -> monitor_pb2.RunFinished:
    return monitor_pb2.RunFinished(state=state, reason=reason, exit_code=exit_code)
