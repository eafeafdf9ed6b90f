"""The Flower ClientApp: a `train` message in, the local model and its bill out.

The same app runs in our worker, which keeps it and its trainer between rounds, and on Flower's own engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from neurofed import flower, spec
from neurofed.errors import DataError
from neurofed.rope import Rope
from neurofed.v1 import records_pb2
from worker.jobs import RunningTask
from worker.trainer import Report, Trainer, run_key


def _quiet(_done: int, _steps: int, _numbers: Mapping[str, float]) -> None:
    """Where progress goes when nobody watches."""


def build_app(report: Report = _quiet, chip_name: str = spec.DEFAULT_CHIP) -> ClientApp:
    """The ClientApp.

    Args:
        report: told after each training step.
        chip_name: the chip of this worker, where the run does not name one.
    """
    app = ClientApp()
    trainers: dict[str, Trainer] = {}

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays, config = _inputs(message)
        key = run_key(config)
        if key not in trainers:
            trainers.clear()  # one run at a time: the last one's data and model are not needed any more
            trainers[key] = Trainer(config, chip_name)
        part = config.get("partition-id", context.node_config.get("partition-id"))
        parts = config.get("num-partitions", context.node_config.get("num-partitions"))
        if not isinstance(part, int) or not isinstance(parts, int):
            raise DataError("expected 'partition-id' and 'num-partitions' in the message or the node's configuration")
        work = config.get("work", 1.0)
        if not isinstance(work, float) or not 0.0 < work <= 1.0:
            raise DataError(f"work: expected a fraction in (0, 1] of the round's steps, got {work!r}")
        result = trainers[key].train(arrays, part, parts, int(config["server-round"]), report, work)
        records = RecordDict({"arrays": flower.to_record(result.arrays), "metrics": MetricRecord(dict(result.numbers))})
        return Message(records, reply_to=message)

    return app


def _inputs(message: Message) -> tuple[dict[str, Any], Mapping[str, Any]]:
    arrays = list(flower.array_records(message.content).values())
    configs = list(flower.config_records(message.content).values())
    if len(arrays) != 1 or len(configs) != 1:
        raise DataError(f"expected one array and one configuration record, got {len(arrays)} and {len(configs)}")
    return flower.to_numpy(arrays[0]), configs[0]


def executor(chip_name: str, state_dir: Path) -> Callable[[RunningTask], tuple[records_pb2.Content, Rope]]:
    """A function that does one task at a time by calling the ClientApp in this process, keeping it between rounds.

    Args:
        chip_name: the chip of this worker, where the run does not name one.
        state_dir: the folder for a `worker.state.StateStore`; the app finds it in its node's configuration.
    """
    current: list[RunningTask] = []

    def report(done: int, steps: int, numbers: Mapping[str, float]) -> None:
        current[0].report(done, steps, numbers)

    app = build_app(report, chip_name)

    def execute(running: RunningTask) -> tuple[records_pb2.Content, Rope]:
        current[:] = [running]
        return flower.content_of(app(_message(running), _context(running, state_dir)).content)

    return execute


_RUN_NUMBER = 1
"""Flower's number of the run; within one worker process any will do."""


def _message(running: RunningTask) -> Message:
    task = running.task
    flower.set_identity(_RUN_NUMBER, running.node_id)
    return flower.task_message(
        flower.records_of(task.content, running.blob),
        task_id=task.task_id,
        run_number=_RUN_NUMBER,
        node_id=running.node_id,
        kind=task.kind,
        group=str(task.round),
    )


def _context(running: RunningTask, state_dir: Path) -> Context:
    return Context(
        run_id=_RUN_NUMBER,
        node_id=running.node_id,
        node_config={"state-dir": str(state_dir)},
        state=RecordDict(),
        run_config={},
    )


app = build_app()
