"""The control and monitor services: runs are submitted, listed, stopped and watched here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

import grpc

from neurofed import spec
from neurofed.errors import ConfigError, NeuroFedError, RunNotFoundError, RunStateError, StorageError
from neurofed.runstate import one_line
from neurofed.v1 import control_pb2, monitor_pb2
from neurofed.v1.control_pb2_grpc import ControlServiceServicer
from neurofed.v1.monitor_pb2_grpc import MonitorServiceServicer
from server.fleet import FleetService
from server.run import Run
from server.runs import RunManager
from server.watch import STALL_S, LogClosedError, watch

DRAINED = "an operator asked it to leave"

Context = grpc.aio.ServicerContext[Any, Any]


_STATUS: Mapping[type[NeuroFedError], grpc.StatusCode] = {
    ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    RunNotFoundError: grpc.StatusCode.NOT_FOUND,
    RunStateError: grpc.StatusCode.FAILED_PRECONDITION,
    StorageError: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


async def _refuse(error: NeuroFedError, context: Context) -> NoReturn:
    """End a call with an error's text and exit code."""
    context.set_trailing_metadata((("exit-code", str(error.exit_code)),))
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    await context.abort(status, str(error))


async def _find(runs: RunManager, run_id: str, context: Context) -> Run:
    try:
        return runs.get(run_id)
    except NeuroFedError as error:
        await _refuse(error, context)


class ControlService(ControlServiceServicer):
    """Starts, lists and stops runs; see control.proto."""

    def __init__(self, runs: RunManager, fleet: FleetService) -> None:
        self._runs, self._fleet = runs, fleet

    async def SubmitRun(  # noqa: N802
        self, request: control_pb2.SubmitRunRequest, context: Context
    ) -> control_pb2.SubmitRunResponse:
        """Queue a run."""
        try:
            run = self._runs.submit(request.spec, request.run_id)
        except NeuroFedError as error:
            await _refuse(error, context)
        return control_pb2.SubmitRunResponse(run_id=run.run_id)

    async def ListRuns(  # noqa: N802
        self, request: control_pb2.ListRunsRequest, context: Context
    ) -> control_pb2.ListRunsResponse:
        """The runs, newest first."""
        return control_pb2.ListRunsResponse(runs=self._runs.entries())

    async def StopRun(  # noqa: N802
        self, request: control_pb2.StopRunRequest, context: Context
    ) -> control_pb2.StopRunResponse:
        """End a run; what it has trained is kept."""
        try:
            self._runs.stop(request.run_id)
        except NeuroFedError as error:
            await _refuse(error, context)
        return control_pb2.StopRunResponse()

    async def PauseRun(  # noqa: N802
        self, request: control_pb2.PauseRunRequest, context: Context
    ) -> control_pb2.PauseRunResponse:
        """Let a run rest once its round is safe."""
        try:
            self._runs.pause(request.run_id)
        except NeuroFedError as error:
            await _refuse(error, context)
        return control_pb2.PauseRunResponse()

    async def ResumeRun(  # noqa: N802
        self, request: control_pb2.ResumeRunRequest, context: Context
    ) -> control_pb2.ResumeRunResponse:
        """Let a run go on."""
        try:
            self._runs.resume(spec.require_run_id(request.run_id))
        except NeuroFedError as error:
            await _refuse(error, context)
        return control_pb2.ResumeRunResponse()

    async def DrainWorker(  # noqa: N802
        self, request: control_pb2.DrainWorkerRequest, context: Context
    ) -> control_pb2.DrainWorkerResponse:
        """Ask a worker to leave."""
        if not request.name or not self._fleet.drain(one_line(request.reason) or DRAINED, request.name):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"expected a connected worker, got {request.name!r}")
        return control_pb2.DrainWorkerResponse()


class MonitorService(MonitorServiceServicer):
    """Shows runs and workers; see monitor.proto."""

    def __init__(self, runs: RunManager, fleet: FleetService) -> None:
        self._runs, self._fleet = runs, fleet

    async def GetSnapshot(  # noqa: N802
        self, request: monitor_pb2.GetSnapshotRequest, context: Context
    ) -> monitor_pb2.GetSnapshotResponse:
        """A run as it stands."""
        run = await _find(self._runs, request.run_id, context)
        return monitor_pb2.GetSnapshotResponse(snapshot=run.snapshot)

    async def WatchEvents(self, request: monitor_pb2.WatchEventsRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        """A run's events: those in the log, then those to come, until the run has finished."""
        run, seq = await _find(self._runs, request.run_id, context), request.after_seq
        try:
            async for event in watch(run, seq):
                await asyncio.wait_for(context.write(monitor_pb2.WatchEventsResponse(event=event)), STALL_S)
                seq = event.seq
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.ABORTED,
                f"expected a reader, nothing was read for {STALL_S:g} s: go on after event {seq}",
            )
        except LogClosedError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def ListWorkers(  # noqa: N802
        self, request: monitor_pb2.ListWorkersRequest, context: Context
    ) -> monitor_pb2.ListWorkersResponse:
        """All workers ever joined, by name."""
        return monitor_pb2.ListWorkersResponse(workers=[worker.entry() for worker in self._fleet.roster()])
