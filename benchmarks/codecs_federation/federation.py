"""The aggregator's strategy and the workers' ClientApp in one process: a grid that hands messages over by itself.

Messages become what would be on the wire and are read from that again, so that their bytes can be counted. Counting
operations changes no bits of training but takes twice as long; it is left out but for the first task, whose table of
numbers stands in for those of the others when bytes are counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from google.protobuf.message import Message as Payload

from neurofed import flower, spec
from neurofed.errors import RunFailedError
from neurofed.framing import CHUNK_BYTES, chunk_frame
from neurofed.records import METRICS, NUMBERS
from neurofed.v1 import fleet_pb2, monitor_pb2, records_pb2
from neurofed.v1.control_pb2 import RunSpec
from server.aggregation import rule
from server.quarantine import Quarantine
from server.strategy import RuleStrategy
from server.wire import Wire
from worker.client_app import build_app
from workloads import registry
from workloads.parameters import load_state, state_arrays

WORKERS = 5
RUN_ID = "video-classification-20260101-120000"
"""As long as a run's name usually is: it is part of every task's name."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to: accuracy on the test clips by round, and bytes of all workers and rounds."""

    accuracies: Mapping[int, float]
    bytes_up: int
    bytes_down: int


class Federation:
    """A run.

    Args:
        preset: of the video workload.
        codec: how updates are encoded.
        settings: of the codec.
        seed: the run's.
        folder: where workers keep their state.
        counted: whether operations are counted in every task: an allocation by activity needs that.
    """

    def __init__(
        self, preset: str, codec: str, settings: Mapping[str, str], seed: int, folder: Path, counted: bool = False
    ) -> None:
        self._run: RunSpec = spec.default_spec()
        self._run.preset, self._run.codec, self._run.seed, self._run.workers = preset, codec, seed, WORKERS
        self._run.codec_settings.update(settings)
        workload = registry.load(self._run.workload)
        self._task = workload.prepare(workload.settings(preset, {}), seed)
        self._grid = _Grid(folder, counted)

    def run(self, rounds: int, every: int) -> Trained:
        """Train, and evaluate every so many rounds."""
        model = self._task.build_model()
        initial = state_arrays(model)
        self._task.calibrate(model)
        run = self._run
        events: list[Payload] = []
        strategy = RuleStrategy(
            rule(run.strategy),
            partitions=WORKERS,
            quorum=WORKERS,
            wire=Wire(run.codec, spec.settings_of(run, "codec"), run.seed, WORKERS, lambda: initial),
            quarantine=Quarantine(RUN_ID, events.append),
            emit=events.append,
            after_round=lambda *_: None,
        )
        config = ConfigRecord({**spec.to_run_config(run), "num-server-rounds": rounds})
        flower.set_identity(1, flower.SERVER_NODE_ID)
        accuracies: dict[int, float] = {}

        def evaluate(number: int, arrays: ArrayRecord) -> None:
            if number % every == 0:
                load_state(model, flower.to_numpy(arrays))
                accuracies[number] = self._task.evaluate(model)["accuracy"]

        first, grid = flower.to_record(state_arrays(model)), cast(Grid, self._grid)
        strategy.start(grid, first, rounds, train_config=config, evaluate_fn=evaluate)
        if bad := [event for event in events if isinstance(event, monitor_pb2.ResultRejected)]:
            raise RunFailedError(f"expected updates that can be aggregated: {bad[0].reason}")
        return Trained(accuracies, self._grid.bytes_up, self._grid.bytes_down)


class _Grid:
    """Workers in this process, asked one after the other."""

    def __init__(self, folder: Path, counted: bool) -> None:
        self._folder, self._app, self._counts = folder, build_app(), counted
        self._numbers: MetricRecord | None = None
        self.bytes_up = self.bytes_down = 0

    def get_nodes(self) -> list[NodeInfo]:
        """The workers."""
        return [NodeInfo(node_id=2 + n, name=f"worker-{n}") for n in range(WORKERS)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float) -> Iterator[Message]:
        """Replies in order."""
        return map(self._reply, messages)

    def _reply(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        content, blob = flower.content_of(message.content)
        task = fleet_pb2.Task(
            task_id=f"{RUN_ID}/{message.metadata.group_id}/train/worker-{node - 2}",
            run_id=RUN_ID,
            round=int(message.metadata.group_id),
            kind="train",
            content=content,
        )
        self.bytes_down += fleet_pb2.WorkResponse(task=task).ByteSize() + _chunk_bytes(fleet_pb2.WorkResponse, blob)
        flower.set_identity(1, node)
        try:
            asked = flower.task_message(
                _traced(flower.records_of(content, bytes(blob)), self._counts or self._numbers is None),
                task_id=task.task_id,
                run_number=1,
                node_id=node,
                kind="train",
                group=message.metadata.group_id,
            )
            reply = self._app(asked, self._context(node))
            records = self._counted(reply.content, task.task_id)
            return Message(records, reply_to=message)
        finally:
            flower.set_identity(1, flower.SERVER_NODE_ID)

    def _context(self, node: int) -> Context:
        config: dict[str, bool | int | float | str] = {"state-dir": str(self._folder / str(node)), "run-id": RUN_ID}
        return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})

    def _counted(self, records: RecordDict, task_id: str) -> RecordDict:
        """The records as they arrive, their bytes counted."""
        plain = flower.unpacked(records)
        if self._numbers is None:
            (self._numbers,) = flower.metric_records(plain).values()
        sent = dict(records)
        if NUMBERS in sent:
            sent[NUMBERS] = flower.packed(dict(self._numbers))  # type: ignore[arg-type]
        elif METRICS in sent:
            sent[METRICS] = self._numbers
        content, blob = flower.content_of(RecordDict(sent))
        result = fleet_pb2.Result(task_id=task_id, content=content)
        self.bytes_up += fleet_pb2.WorkRequest(result=result).ByteSize() + _chunk_bytes(fleet_pb2.WorkRequest, blob)
        return flower.records_of(*_again(records))


def _again(records: RecordDict) -> tuple[records_pb2.Content, bytes]:
    content, blob = flower.content_of(records)
    return content, bytes(blob)


def _traced(records: RecordDict, wanted: bool) -> RecordDict:
    """A task in which operations are counted only where that is wanted."""
    (config,) = flower.config_records(records).values()
    config["trace"] = wanted
    return records


def _chunk_bytes(kind: Any, blob: Any) -> int:
    """Bytes of the frames of a blob's chunks."""
    return sum(len(chunk_frame(kind, blob, offset)) for offset in range(0, len(blob), CHUNK_BYTES))
