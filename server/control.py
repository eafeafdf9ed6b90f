"""The control and monitor services: runs are submitted, listed, stopped and watched here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from neurofed.errors import ConfigError, RunNotFoundError
from neurofed.eventlog import read_events
from neurofed.v1 import control_pb2, monitor_pb2
from neurofed.v1.control_pb2_grpc import ControlServiceServicer
from neurofed.v1.monitor_pb2_grpc import MonitorServiceServicer
from server.fleet import FleetService
from server.runs import Run, RunManager

Context = grpc.aio.ServicerContext[Any, Any]


async def _find(runs: RunManager, run_id: str, context: Context) -> Run:
    try:
        return runs.get(run_id)
    except RunNotFoundError as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))


class ControlService(ControlServiceServicer):
    """Starts, lists and stops runs; see control.proto."""

    def __init__(self, runs: RunManager) -> None:
        self._runs = runs

    async def SubmitRun(  # noqa: N802
        self, request: control_pb2.SubmitRunRequest, context: Context
    ) -> control_pb2.SubmitRunResponse:
        """Queue a run."""
        try:
            run = self._runs.submit(request.spec, request.run_id)
        except ConfigError as error:
            context.set_trailing_metadata((("exit-code", str(error.exit_code)),))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return control_pb2.SubmitRunResponse(run_id=run.run_id)

    async def ListRuns(  # noqa: N802
        self, request: control_pb2.ListRunsRequest, context: Context
    ) -> control_pb2.ListRunsResponse:
        """The runs, newest first."""
        response = control_pb2.ListRunsResponse()
        for run in self._runs:
            snapshot = run.snapshot
            response.runs.add(
                run_id=run.run_id,
                state=snapshot.state,
                round=sum(1 for r in snapshot.rounds if r.checkpointed),
                rounds=snapshot.spec.rounds,
                workload=snapshot.spec.workload,
            )
        return response

    async def StopRun(  # noqa: N802
        self, request: control_pb2.StopRunRequest, context: Context
    ) -> control_pb2.StopRunResponse:
        """End a run; what it has trained is kept."""
        (await _find(self._runs, request.run_id, context)).stop()
        return control_pb2.StopRunResponse()


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

    async def WatchEvents(  # noqa: N802
        self, request: monitor_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[monitor_pb2.WatchEventsResponse]:
        """A run's events: those in the log, then those to come, until the run has finished."""
        run = await _find(self._runs, request.run_id, context)
        loop, coming = asyncio.get_running_loop(), asyncio.Queue[monitor_pb2.Event]()

        def forward(event: monitor_pb2.Event) -> None:
            loop.call_soon_threadsafe(coming.put_nowait, event)

        unsubscribe = run.log.subscribe(forward)
        try:
            seq = request.after_seq
            for event in read_events(run.folder / "events.jsonl"):
                if event.seq > seq:
                    seq = event.seq
                    yield monitor_pb2.WatchEventsResponse(event=event)
            while not (run.finished and seq >= run.snapshot.seq):
                event = await coming.get()
                if event.seq > seq:
                    seq = event.seq
                    yield monitor_pb2.WatchEventsResponse(event=event)
        finally:
            unsubscribe()

    async def ListWorkers(  # noqa: N802
        self, request: monitor_pb2.ListWorkersRequest, context: Context
    ) -> monitor_pb2.ListWorkersResponse:
        """All workers ever joined, by name."""
        return monitor_pb2.ListWorkersResponse(workers=[worker.entry() for worker in self._fleet.roster()])
