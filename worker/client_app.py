"""The Flower ClientApp: a `train` message in, the local model and its bill out.

The same app runs in our worker, which keeps it and its trainer between rounds, and on Flower's own engines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from torch.optim import Optimizer

from neurofed import codecs, flower, spec
from neurofed.codecs import Context as Encoding
from neurofed.errors import DataError
from neurofed.records import ARRAYS, CHANGE, CONTROL, DIGEST, LACKS, METRICS, NUMBERS, PROXIMAL_MU, UPDATE
from neurofed.rope import Rope
from neurofed.secagg.messages import SESSION
from neurofed.v1 import records_pb2
from worker.drift import Controlled, add_proximal_term
from worker.jobs import RunningTask
from worker.masking import Masking
from worker.state import State, StateStore, default_folder
from worker.trainer import Arrays, LocalResult, Report, Trainer, run_key
from worker.updates import Holder, Sender, activity


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
    masking = Masking(app)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        received, control, config = _inputs(message)
        key = run_key(config)
        if key not in trainers:
            trainers.clear()  # one run at a time: the last one's data and model are not needed any more
            trainers[key] = Trainer(config, chip_name)
        trainer = trainers[key]
        part = config.get("partition-id", context.node_config.get("partition-id"))
        parts = config.get("num-partitions", context.node_config.get("num-partitions"))
        if not isinstance(part, int) or not isinstance(parts, int):
            raise DataError("expected 'partition-id' and 'num-partitions' in the message or the node's configuration")
        work = config.get("work", 1.0)
        if not isinstance(work, float) or not 0.0 < work <= 1.0:
            raise DataError(f"work: expected a fraction in (0, 1] of the round's steps, got {work!r}")
        number, mu = int(config["server-round"]), _proximal_mu(config)
        kept = _Kept(context, message, part, number)
        controlled = None if control is None else Controlled(control, kept.load(CONTROL))
        personal = kept.load(_PERSONAL) if trainer.initial else {}
        wire = _Wire(config, kept, part)
        arrays = wire.model(received, trainer.shared)
        if arrays is None:
            lacks = {LACKS: np.frombuffer(number.to_bytes(8, "little"), np.uint8)}  # no two rounds send the same bytes
            return Message(RecordDict({LACKS: flower.to_record(lacks)}), reply_to=message)

        def prepare(network: nn.Module, optimizer: Optimizer) -> None:
            if controlled:
                controlled.attach(network, optimizer)
            add_proximal_term(optimizer, mu)

        result = trainer.train(arrays, part, parts, number, report, work, prepare, personal)
        records: dict[str, ArrayRecord | MetricRecord | ConfigRecord]
        records = masking.records(config, result) if SESSION in config else wire.records(result, arrays)
        if controlled:
            change, own = controlled.result()
            kept.save(CONTROL, own)
            records[CONTROL] = flower.to_record(change)
        if result.personal:
            kept.save(_PERSONAL, result.personal)
        return Message(RecordDict(records), reply_to=message)

    return app


_PERSONAL = "personal"
"""The name of what a worker keeps of its model."""


class _Wire:
    """How models come and updates go, as the run has chosen.

    Args:
        config: of the task.
        kept: where a worker keeps what was not sent, and the model that it holds.
        part: which part of the data.
    """

    def __init__(self, config: Mapping[str, Any], kept: _Kept, part: int) -> None:
        run = spec.from_run_config(config)
        self._codecs = codecs.choose(run.codec, spec.settings_of(run, "codec"), run.workers)
        self._kept, self._round, self._seed, self._part = kept, int(config["server-round"]), run.seed, part
        self._digest = config.get(DIGEST)

    def model(self, received: Arrays, initial: Callable[[], Arrays]) -> Arrays | None:
        """The model to train; None where a change came of one that is not held here."""
        if self._codecs.down is None:
            return received
        holder = Holder(self._codecs.down, self._kept, initial)
        if not isinstance(self._digest, bytes):
            holder.keep(received)
            return received
        if list(received) != [CHANGE]:
            raise DataError(f"expected an encoded {CHANGE!r}, got {len(received)} tensors")
        return holder.changed(received[CHANGE], self._round, self._digest)

    def records(self, result: LocalResult, base: Arrays) -> dict[str, ArrayRecord | MetricRecord | ConfigRecord]:
        """A trained model and its numbers."""
        if self._codecs.plain:
            return {ARRAYS: flower.to_record(result.arrays), METRICS: MetricRecord(dict(result.numbers))}
        sender = Sender(self._codecs.up, self._codecs.feedback, self._kept)
        key = (self._seed, self._round, self._part)
        encoding = Encoding(key, activity(result.numbers, base), turn=self._round + self._part)
        update = sender.write(result.arrays, base, self._round, encoding)
        return {UPDATE: flower.to_record({UPDATE: update}), NUMBERS: flower.packed(result.numbers)}


class _Kept:
    """Where a worker keeps what it needs in later rounds: by run, name and part of the data, as it was after a round.

    Args:
        context: names the folder and the run; on Flower's engines it does not.
        message: the task.
        part: which part of the data, since what is kept was learnt from it.
        round_number: the round; what is loaded is that of an earlier one, however often the task is done.
    """

    def __init__(self, context: Context, message: Message, part: int, round_number: int) -> None:
        own_folder = default_folder(f"flower-node-{message.metadata.dst_node_id}")
        self._store = StateStore(Path(str(context.node_config.get("state-dir", own_folder))))
        self._run_id = str(context.node_config.get("run-id", f"flower-{message.metadata.run_id}"))
        self._part, self._round = part, round_number

    def load(self, name: str) -> Mapping[str, Any]:
        state = self._store.load(self._run_id, self._named(name), self._round)
        return state.arrays if state else {}

    def save(self, name: str, arrays: Mapping[str, Any]) -> None:
        self._store.save(self._run_id, self._named(name), State(self._round, arrays))

    def _named(self, name: str) -> str:
        return f"{name}-part-{self._part:05d}"


def _proximal_mu(config: Mapping[str, Any]) -> float:
    mu = config.get(PROXIMAL_MU, 0.0)
    if not isinstance(mu, float) or not 0.0 <= mu < math.inf:
        raise DataError(f"{PROXIMAL_MU}: expected a finite number of at least 0, got {mu!r}")
    return mu


def _inputs(message: Message) -> tuple[dict[str, Any], dict[str, Any] | None, Mapping[str, Any]]:
    """The model, the control where the rule sends one, and the configuration."""
    arrays = flower.array_records(message.content)
    configs = list(flower.config_records(message.content).values())
    control = arrays.pop(CONTROL, None)
    if len(arrays) != 1 or len(configs) != 1:
        raise DataError(f"expected one array and one configuration record, got {len(arrays)} and {len(configs)}")
    (model,) = arrays.values()
    return flower.to_numpy(model), None if control is None else flower.to_numpy(control), configs[0]


def executor(
    chip_name: str, state_dir: Path, rest: Callable[[Callable[[], bool]], None] = lambda _wanted: None
) -> Callable[[RunningTask], tuple[records_pb2.Content, Rope]]:
    """A function that does one task at a time by calling the ClientApp in this process, keeping it between rounds.

    Args:
        chip_name: the chip of this worker, where the run does not name one.
        state_dir: the folder for a `worker.state.StateStore`; the app finds it in its node's configuration.
        rest: called after each training step, with a function that says whether the task is still wanted; may wait.
    """
    current: list[RunningTask] = []

    def report(done: int, steps: int, numbers: Mapping[str, float]) -> None:
        running = current[0]
        running.report(done, steps, numbers)
        rest(lambda: not running.cancelled)

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
        node_config={"state-dir": str(state_dir), "run-id": running.task.run_id},
        state=RecordDict(),
        run_config={},
    )


app = build_app()
