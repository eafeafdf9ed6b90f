"""The Flower ServerApp: makes the initial model, runs the rounds, evaluates, checkpoints.

The same app runs on our fleet and on Flower's own engines; there `services` is absent and a folder of `runs/` serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from google.protobuf.message import Message as Payload

from neurofed import flower, spec
from neurofed.eventlog import EventLog
from neurofed.v1 import monitor_pb2
from neurofed.v1.control_pb2 import RunSpec
from server.aggregation import rule
from server.aggregation.base import Model
from server.checkpoint import Checkpoint, CheckpointStore
from server.grid import FleetGrid
from server.masked import strategy_for
from server.privacy import protected, protection_of
from server.quarantine import Quarantine
from server.samples import publish_samples
from server.selection import Selector, selection
from server.strategy import RuleStrategy, evaluated_event
from server.wire import Wire
from workloads import registry
from workloads.parameters import on_loan, release, state_arrays
from workloads.personal import personal_names

if TYPE_CHECKING:
    from torch import nn

    from workloads.base import FederatedTask


@dataclass(frozen=True, slots=True)
class Services:
    """What the app needs of the process around it.

    Attributes:
        emit: takes the events.
        checkpoints: where the rounds are kept.
        between_rounds: called when a round is safe and another follows; raises where the run is to be left.
    """

    emit: Callable[[Payload], object]
    checkpoints: CheckpointStore
    between_rounds: Callable[[], None] = lambda: None


def build_app(services: Services | None = None) -> ServerApp:
    """The ServerApp, bound to `services` or, without them, to a folder of its own."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        _run(grid, spec.from_run_config(context.run_config), services or _own_services(context))

    return app


def run_app(services: Services, grid: Grid, run: RunSpec, run_number: int) -> None:
    """Run the app in this process, as Flower's engines would in theirs."""
    flower.set_identity(run_number, flower.SERVER_NODE_ID)
    context = Context(
        run_id=run_number,
        node_id=flower.SERVER_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config=dict(spec.to_run_config(run)),
    )
    build_app(services)(grid, context)


def _own_services(context: Context) -> Services:
    folder = Path("runs") / f"flower-{context.run_id}"
    folder.mkdir(parents=True, exist_ok=True)
    return Services(EventLog(folder / "events.jsonl").emit, CheckpointStore(folder / "checkpoints"))


def _run(grid: Grid, run: RunSpec, services: Services) -> None:
    workload = registry.load(run.workload)
    settings = workload.settings(run.preset, dict(run.settings))
    task = workload.prepare(settings, run.seed)
    rounds = run.rounds or settings.rounds
    chosen = protection_of(run, rounds)
    strategy: RuleStrategy = strategy_for(chosen, run.workers)(
        protected(rule(run.strategy, spec.settings_of(run, "strategy")), chosen, services.checkpoints.folder),
        partitions=run.workers,
        quorum=spec.quorum(run),
        enough=run.updates or run.buffer,
        max_staleness=run.max_staleness if run.buffer else None,
        scale_work=run.scale_work,
        selector=_selector(run, task),
        wire=Wire(run.codec, spec.settings_of(run, "codec"), run.seed, run.workers, lambda: _shared(task)),
        quarantine=grid.quarantine if isinstance(grid, FleetGrid) else Quarantine("", services.emit),
        emit=services.emit,
        after_round=lambda number, model, state: _save(
            services, Checkpoint(number, {**model, **personal}, state, strategy.kept), rounds
        ),
    )
    model = task.build_model()
    checkpoint = services.checkpoints.newest(
        lambda path, reason: services.emit(monitor_pb2.CheckpointSkipped(file=_within_run(path), reason=reason))
    )
    if checkpoint:
        strategy.restore(checkpoint.state, checkpoint.memory)
        whole, first_round = checkpoint.model, checkpoint.round_number + 1
    else:
        task.calibrate(model)
        whole, first_round = state_arrays(model), 1
    personal: Model = {name: whole[name] for name in sorted(personal_names(task, model))}
    arrays = flower.to_record({name: array for name, array in whole.items() if name not in personal})
    services.emit(_started_event(grid, arrays, first_round))

    def evaluate(number: int, current: ArrayRecord) -> MetricRecord:
        with on_loan(model, {**flower.to_numpy(current), **personal}):
            scores = MetricRecord(dict(task.evaluate(model)))
            publish_samples(task, model, number, services.checkpoints.folder.parent, services.emit)
        return scores

    if first_round == 1:
        _evaluate_initial(task, model, services)
    release(model)
    initial = [arrays]
    del arrays, whole, checkpoint  # else the first model stays in memory to the end of the run
    config = ConfigRecord({**spec.to_run_config(run), "num-server-rounds": rounds})
    strategy.start(
        grid,
        initial.pop(),
        num_rounds=rounds,
        timeout=run.round_timeout_s,
        train_config=config,
        evaluate_fn=evaluate,
        first_round=first_round,
    )


def _selector(run: RunSpec, task: FederatedTask) -> Selector | None:
    chosen = selection(run.selection, spec.settings_of(run, "selection"))
    return Selector(chosen, run.seed, task.partition_sizes(run.workers), run.min_workers) if chosen else None


def _shared(task: FederatedTask) -> Model:
    """The network's initial parameters, before anything was calibrated, without its personal parts."""
    model = task.build_model()
    personal = personal_names(task, model)
    return {name: array for name, array in state_arrays(model).items() if name not in personal}


def _evaluate_initial(task: FederatedTask, model: nn.Module, services: Services) -> None:
    began_s = time.monotonic()
    scores = MetricRecord(dict(task.evaluate(model)))
    services.emit(evaluated_event(0, scores, time.monotonic() - began_s))


def _save(services: Services, checkpoint: Checkpoint, rounds: int) -> None:
    path = services.checkpoints.save(checkpoint)
    services.emit(monitor_pb2.CheckpointWritten(round=checkpoint.round_number, file=_within_run(path)))
    if checkpoint.round_number < rounds:
        services.between_rounds()


def _within_run(path: Path) -> str:
    """A checkpoint's name within its run's folder."""
    return f"{path.parent.name}/{path.name}"


def _started_event(grid: Grid, arrays: ArrayRecord, first_round: int) -> monitor_pb2.RunStarted:
    model: Model = flower.to_numpy(arrays)
    return monitor_pb2.RunStarted(
        first_round=first_round,
        model_bytes=sum(array.nbytes for array in model.values()),
        parameters=sum(array.size for array in model.values()),
        workers=sorted(node.name or f"node-{node.node_id}" for node in grid.get_nodes()),
    )


app = build_app()
