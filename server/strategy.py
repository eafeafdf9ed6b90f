"""The strategy: a pure aggregation rule as a Flower Strategy, with a round loop that can begin anywhere.

It runs on any Flower `Grid`. Updates are added to the rule as they arrive, so the aggregator never holds more than one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from google.protobuf.message import Message as Payload

from neurofed import flower, metrics, tensors
from neurofed.errors import NotEnoughWorkersError, UpdateError
from neurofed.runstate import one_line
from neurofed.v1 import monitor_pb2
from server.admission import NormScreen
from server.aggregation.base import Model, Rule, Update
from server.quarantine import Quarantine

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
"""Record names, as in Flower's own strategies."""

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]
AfterRound = Callable[[int, Model, Mapping[str, Any]], None]


class RuleStrategy(Strategy):
    """Runs rounds with one aggregation rule.

    Args:
        rule: how updates become a model.
        partitions: into how many parts the training data is divided.
        quorum: updates a round needs.
        quarantine: who is given no more tasks.
        emit: takes the events.
        after_round: called with round, model and this strategy's state once a round is evaluated; it makes it durable.
    """

    def __init__(
        self,
        rule: Rule[Any],
        *,
        partitions: int,
        quorum: int,
        quarantine: Quarantine,
        emit: Callable[[Payload], object],
        after_round: AfterRound,
    ) -> None:
        self._rule, self._partitions, self._quorum = rule, partitions, quorum
        self._quarantine, self._screen = quarantine, NormScreen()
        self._emit, self._after_round = emit, after_round
        self._parts: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._model: Model = {}
        self._selected = 0

    # -- state across a restart

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed run needs: which worker has which part of the data, what updates look like, whom to avoid."""
        return {"parts": self._parts, "typical": self._screen.typical, "quarantined": self._quarantine.reasons}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self._parts = {str(name): int(part) for name, part in state["parts"].items()}
        self._screen.typical = float(state.get("typical", 0.0))
        self._quarantine.restore(state.get("quarantined", {}))

    # -- Flower's interface

    def summary(self) -> None:
        """Nothing to say that the event log does not."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for each worker: the global model, the run's configuration, and which part to train on."""
        self._model = flower.to_numpy(arrays)
        nodes = sorted(grid.get_nodes(), key=lambda node: (node.name, node.node_id))
        self._names = {node.node_id: node.name or f"node-{node.node_id}" for node in nodes}
        messages = []
        for node_id, name in self._names.items():
            if name in self._quarantine or (part := self._part_of(name)) is None:
                continue
            entries = {**config, "server-round": server_round, "partition-id": part, "num-partitions": self._partitions}
            records = RecordDict({ARRAYS: arrays, CONFIG: ConfigRecord(entries)})
            messages.append(Message(records, node_id, MessageType.TRAIN, group_id=str(server_round)))
        self._selected = len(messages)
        chosen = [self._names[message.metadata.dst_node_id] for message in messages]
        self._emit(monitor_pb2.RoundStarted(round=server_round, workers=chosen))
        return messages

    def _part_of(self, name: str) -> int | None:
        """A worker keeps its part for the whole run; one that comes when all parts are taken stands by."""
        if name not in self._parts and (free := sorted(set(range(self._partitions)) - set(self._parts.values()))):
            self._parts[name] = free[0]
        return self._parts.get(name)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add updates as they arrive; whoever sends one that cannot be added is in quarantine from then on.

        Raises:
            NotEnoughWorkersError: if fewer than the quorum could be aggregated.
        """
        state = self._rule.init(self._model, self._selected)
        reported: list[Mapping[str, Any]] = []
        distances: list[float] = []
        for reply in replies:
            if reply.has_error():
                continue
            name = self._names.get(reply.metadata.src_node_id, f"node-{reply.metadata.src_node_id}")
            try:
                update, numbers = _update_of(reply.content)
                distance = self._screen.distance(self._model, update.model)
                state = self._rule.add(state, update)
            except UpdateError as error:
                reason = one_line(str(error))
                self._emit(monitor_pb2.ResultRejected(worker=name, round=server_round, reason=reason))
                self._quarantine.add(name, server_round, reason)
                continue
            reported.append(numbers)
            distances.append(distance)
        if len(reported) < self._quorum:
            raise NotEnoughWorkersError(
                f"round {server_round}: expected updates of at least {self._quorum} workers, got {len(reported)}: "
                "bring the workers back and resume, or lower --min-workers"
            )
        self._screen.learn(distances)
        model = self._rule.finish(state)
        means = _weighted_means(reported)
        self._emit(
            monitor_pb2.RoundAggregated(
                round=server_round,
                updates=len(reported),
                examples=sum(int(n[metrics.NUM_EXAMPLES]) for n in reported),
                model_sha256=tensors.model_digest(model),
                train_metrics=means,
            )
        )
        return flower.to_record(model), MetricRecord(dict(means))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: the aggregator evaluates the global model itself."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing to aggregate."""
        return None

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
        first_round: int = 1,
    ) -> Result:
        """Flower's `Strategy.start`, beginning at `first_round` instead of always at 1."""
        result = Result()
        arrays = initial_arrays
        for number in range(first_round, num_rounds + 1):
            began_s = time.monotonic()
            messages = self.configure_train(number, arrays, train_config or ConfigRecord(), grid)
            replies = grid.send_and_receive(messages, timeout=timeout)
            new, train_metrics = self.aggregate_train(number, replies)
            arrays = new if new is not None else arrays
            result.arrays = arrays
            if train_metrics is not None:
                result.train_metrics_clientapp[number] = train_metrics
            if evaluate_fn and (scores := evaluate_fn(number, arrays)) is not None:
                result.evaluate_metrics_serverapp[number] = scores
                self._emit(evaluated_event(number, scores, time.monotonic() - began_s))
            self._after_round(number, flower.to_numpy(arrays), self.state)
        return result


def evaluated_event(round_number: int, scores: MetricRecord, wall_s: float) -> monitor_pb2.ModelEvaluated:
    """The event that tells how good a model is."""
    numbers = {k: float(v) for k, v in scores.items() if isinstance(v, int | float)}
    return monitor_pb2.ModelEvaluated(round=round_number, metrics=numbers, wall_s=wall_s)


def _update_of(records: RecordDict) -> tuple[Update, Mapping[str, Any]]:
    """A reply as an update and the numbers reported with it.

    Raises:
        UpdateError: if the reply does not hold one model and one table of numbers with the number of examples.
    """
    arrays, tables = list(records.array_records.values()), list(records.metric_records.values())
    if len(arrays) != 1 or len(tables) != 1:
        raise UpdateError(f"expected one array and one metric record, got {len(arrays)} and {len(tables)}")
    examples = tables[0].get(metrics.NUM_EXAMPLES)
    if not isinstance(examples, int):
        raise UpdateError(f"expected a whole number {metrics.NUM_EXAMPLES!r}, got {examples!r}")
    return Update(flower.to_numpy(arrays[0]), examples), tables[0]


_AVERAGED = (metrics.LOSS, metrics.ACCURACY, metrics.SPIKE_RATE, metrics.GRADIENT_DENSITY)


def _weighted_means(reported: list[Mapping[str, Any]]) -> dict[str, float]:
    """Example-weighted means of the averaged metrics and their parts, independent of the order of arrival."""
    means = {}
    for name in sorted({n for numbers in reported for n in numbers if n.partition("/")[0] in _AVERAGED}):
        pairs = sorted((float(n[name]), int(n[metrics.NUM_EXAMPLES])) for n in reported if _is_finite(n.get(name)))
        if not pairs:
            continue
        means[name] = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    return means


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
