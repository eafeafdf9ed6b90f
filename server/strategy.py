"""The strategy: a pure aggregation rule as a Flower Strategy, with a round loop that can begin anywhere.

It runs on any Flower `Grid`. Updates are added to the rule as they arrive, so the aggregator never holds more than one.

Rounds may overlap (FedBuff): a round is then complete with the first so many updates, and who is not done yet goes on.
Its update counts in a later round, less the later it is. A worker gets the newest model as soon as it is done with an
older one, and each model once: the same model again would only lead to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from google.protobuf.message import Message as Payload

from neurofed import flower, metrics
from neurofed.errors import ConfigError, DataError, UpdateError
from neurofed.records import CONFIG, CONTROL
from neurofed.v1 import monitor_pb2
from server.admission import NormScreen
from server.aggregation.base import NOTHING, Memory, Model, Rule, Update
from server.gather import Gathering, Judges
from server.parts import Parts
from server.quarantine import Quarantine
from server.selection import Selector
from server.speeds import Speeds
from server.wire import Wire

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]
AfterRound = Callable[[int, Model, Mapping[str, Any]], None]


@runtime_checkable
class Mailbox(Protocol):
    """What a grid has besides, on which rounds may overlap."""

    def receive(self) -> Message | None:
        """Wait for the next reply to any message; None where none is awaited."""

    def withdraw(self, task_ids: Iterable[str], reason: str) -> None:
        """Take messages back; there will be no reply."""


@dataclass(slots=True)
class _Flight:
    """A task that is under way: the round whose model it began with, and its name, which only a mailbox tells."""

    round_number: int
    task_id: str = ""


class RuleStrategy(Strategy):
    """Runs rounds with one aggregation rule.

    Args:
        rule: how updates become a model.
        partitions: into how many parts the training data is divided.
        quorum: updates a round needs.
        enough: updates that complete a round; 0 means those of all workers that were asked.
        max_staleness: rounds overlap, and an update may be so many rounds late; None means that they do not overlap.
        scale_work: whether slow chips do a smaller part of their steps.
        selector: chooses who is asked in a round; None is to ask all.
        wire: how models and updates are encoded.
        quarantine: who is given no more tasks.
        emit: takes the events.
        after_round: called with round, model and this strategy's state once a round is evaluated; it makes it durable.

    Attributes:
        memory: what the rule remembers of the rounds so far; of a resumed run, as in its checkpoint.
    """

    def __init__(
        self,
        rule: Rule[Any],
        *,
        partitions: int,
        quorum: int,
        enough: int = 0,
        max_staleness: int | None = None,
        scale_work: bool = False,
        selector: Selector | None = None,
        wire: Wire | None = None,
        quarantine: Quarantine,
        emit: Callable[[Payload], object],
        after_round: AfterRound,
    ) -> None:
        self._quorum, self._enough = quorum, enough
        self._max_staleness, self._scale_work = max_staleness, scale_work
        self._selector, self._wire = selector, wire or Wire()
        self._quarantine, self._screen = quarantine, NormScreen()
        self._judges = Judges(rule, self._screen, quarantine, emit)
        self._emit, self._after_round = emit, after_round
        self._parts, self._speeds = Parts(partitions), Speeds()
        self._names: dict[int, str] = {}
        self._models: dict[int, Model] = {}
        self._flights: dict[int, _Flight] = {}
        self._asked: set[int] = set()
        self._beside: dict[str, ArrayRecord] = {}
        self._ttl_s: float | None = None
        self.memory: Memory = NOTHING

    # -- state across a restart

    @property
    def state(self) -> dict[str, Any]:
        """What a resumed run needs: who has which part of the data, what updates look like, whom to avoid, speeds."""
        return {
            "parts": self._parts.holders,
            "typical": self._screen.typical,
            "quarantined": self._quarantine.reasons,
            "speeds": self._speeds.step_s,
            "selection": self._selector.state if self._selector else {},
            **({"wire": wire} if (wire := self._wire.state) else {}),
        }

    @property
    def kept(self) -> Memory:
        """The arrays that a resumed run needs beside the model: what the rule remembers, and what the workers hold."""
        return {**self.memory, **self._wire.arrays}

    def restore(self, state: Mapping[str, Any], kept: Memory = NOTHING) -> None:
        """Take over the state of a checkpoint, and the arrays that were `kept`."""
        self.memory = self._wire.restore(state.get("wire", {}), kept)
        self._parts.holders = {str(name): int(part) for name, part in state["parts"].items()}
        self._screen.typical = float(state.get("typical", 0.0))
        self._quarantine.restore(state.get("quarantined", {}))
        self._speeds.step_s = {str(name): float(step_s) for name, step_s in state.get("speeds", {}).items()}
        if self._selector:
            self._selector.restore(state.get("selection", {}))

    # -- Flower's interface

    def summary(self) -> None:
        """Nothing to say that the event log does not."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for each worker: the global model, the run's configuration, and which part to train on.

        Where rounds overlap, workers that still train on an older model get none, unless that is too old by now.
        """
        if self._max_staleness is None:
            self._flights.clear()
        else:
            self._drop_stale(server_round, self._max_staleness, cast(Mailbox, grid))
        self._asked.clear()
        in_use = {flight.round_number for flight in self._flights.values()}
        self._models = {number: model for number, model in self._models.items() if number in in_use}
        self._models[server_round] = flower.to_numpy(arrays)
        self._wire.begin(server_round, self._models[server_round], arrays)
        self._beside = self._memory_to_send(self._models[server_round])
        messages = self._ask(server_round, config, grid)
        chosen = [self._names[message.metadata.dst_node_id] for message in messages]
        self._emit(monitor_pb2.RoundStarted(round=server_round, workers=chosen))
        return messages

    def _memory_to_send(self, model: Model) -> dict[str, ArrayRecord]:
        """What goes to the workers beside the model; a rule that remembers nothing yet says what it begins with."""
        rule = self._judges.rule
        return {CONTROL: flower.to_record(self.memory or rule.memory(rule.init(model, 1)))} if rule.sends_memory else {}

    def _drop_stale(self, number: int, limit: int, grid: Mailbox) -> None:
        for node_id, flight in list(self._flights.items()):
            if (late := number - flight.round_number) > limit:
                grid.withdraw([flight.task_id], f"expected an update at most {limit} rounds late, it is {late} by now")
                del self._flights[node_id]

    def _ask(self, number: int, config: ConfigRecord, grid: Grid, among: Container[int] | None = None) -> list[Message]:
        """A message for each worker that has a part, has nothing to do, and was not asked in this round yet.

        Args:
            number: the round.
            config: the run's.
            grid: where the workers are.
            among: the only nodes that may be asked; None means all.
        """
        nodes = {node.name or f"node-{node.node_id}": node.node_id for node in grid.get_nodes()}
        self._names.update({node_id: name for name, node_id in nodes.items()})
        parts = self._parts.give(name for name in nodes if name not in self._quarantine)
        if self._selector:
            chosen = self._selector.choose(number, parts)
            parts = {name: part for name, part in parts.items() if name in chosen}
        work = self._speeds.work(parts) if self._scale_work else {}
        messages = []
        for name, part in parts.items():
            if (node_id := nodes[name]) in self._flights or node_id in self._asked:
                continue
            if among is not None and node_id not in among:
                continue
            told, (sent, facts) = self._judges.rule.client, self._wire.sent_to(name)
            entries = {
                **config,
                **told,
                **facts,
                "server-round": number,
                "partition-id": part,
                "num-partitions": self._parts.count,
            }
            if name in work:
                entries["work"] = work[name]
            records = RecordDict({**sent, **self._beside, CONFIG: ConfigRecord(entries)})
            messages.append(Message(records, node_id, MessageType.TRAIN, group_id=str(number), ttl=self._ttl_s))
            self._flights[node_id] = _Flight(number)
            self._asked.add(node_id)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add updates as they arrive, until they are enough; whoever sends a bad one is in quarantine from then on.

        Raises:
            NotEnoughWorkersError: if fewer than the quorum could be aggregated.
        """
        overlaps = self._max_staleness is not None
        expected = self._enough if overlaps else len(self._asked)
        # Where workers have a part in what is remembered, that is a mean over all of them, not over who was asked.
        may_come = self._parts.count if self._judges.rule.sends_memory else expected
        gathering = Gathering(self._judges, server_round, self._models[server_round], may_come, self.memory)
        for reply in replies:
            flight = self._flights.pop(reply.metadata.src_node_id, None)
            if not reply.has_error() and not self._lacks_model(reply):
                self._add(gathering, reply, server_round, flight.round_number if flight else server_round)
            if gathering.count >= (self._enough or expected):
                break
        if isinstance(replies, Generator):
            replies.close()  # says that the rest is not needed
        model, means = gathering.finish(self._needed())
        self.memory = gathering.memory
        return flower.to_record(model), MetricRecord(dict(means))

    def _needed(self) -> int:
        """The updates a round needs: where not all are asked, no more than half of those, unless the run says so."""
        if not self._selector:
            return self._quorum
        return min(self._quorum, max(self._selector.least, len(self._asked) // 2 + 1))

    def _lacks_model(self, reply: Message) -> bool:
        """Whether a worker does not hold what it was sent a change of; it may then be asked again in this round."""
        node_id = reply.metadata.src_node_id
        lacks = self._wire.lacks(self._names.get(node_id, f"node-{node_id}"), reply.content)
        if lacks:
            self._asked.discard(node_id)
        return lacks

    def _add(self, gathering: Gathering, reply: Message, number: int, began: int) -> None:
        node_id, base = reply.metadata.src_node_id, self._models[began]
        name = self._names.get(node_id, f"node-{node_id}")
        try:
            update, numbers = _update_of(reply.content, self._beside)
            update = self._wire.decoded(update, base, began)
        except UpdateError as error:
            gathering.refuse(name, error)
            return
        if not gathering.add(name, update, numbers, base, number - began):
            return
        self._wire.learn(name, began)
        if self._scale_work:
            self._speeds.learn(name, numbers)
        if self._selector:
            self._selector.learn(number, name, numbers)

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
        """Flower's `Strategy.start`, beginning at `first_round` instead of always at 1.

        Raises:
            ConfigError: if rounds shall overlap and the grid cannot do that.
        """
        if self._max_staleness is not None and not isinstance(grid, Mailbox):
            raise ConfigError("buffer: expected NeuroFed's own aggregator: on Flower's engines rounds do not overlap")
        result = Result()
        arrays = initial_arrays
        del initial_arrays  # an older model than the current one is memory for nothing
        try:
            for number in range(first_round, num_rounds + 1):
                began_s = time.monotonic()
                replies = self._exchange(number, arrays, train_config or ConfigRecord(), grid, timeout)
                new, train_metrics = self.aggregate_train(number, replies)
                arrays = new if new is not None else arrays
                result.arrays = arrays
                if train_metrics is not None:
                    result.train_metrics_clientapp[number] = train_metrics
                if evaluate_fn and (scores := evaluate_fn(number, arrays)) is not None:
                    result.evaluate_metrics_serverapp[number] = scores
                    self._emit(evaluated_event(number, scores, time.monotonic() - began_s))
                self._after_round(number, flower.to_numpy(arrays), self.state)
        finally:
            if isinstance(grid, Mailbox):
                grid.withdraw(
                    [flight.task_id for flight in self._flights.values()], "not needed any more: the rounds end"
                )
        return result

    def _exchange(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid, timeout_s: float
    ) -> Iterable[Message]:
        """Ask the workers; the replies as they arrive."""
        if self._max_staleness is None:
            messages = self.configure_train(number, arrays, config, grid)
            asked = frozenset(self._asked)
            return _replies(grid, messages, lambda: self._ask(number, config, grid, asked), timeout_s)
        self._ttl_s = timeout_s
        messages = self.configure_train(number, arrays, config, grid)
        return self._keep_busy(grid, messages, lambda: self._ask(number, config, grid))

    def _keep_busy(
        self, grid: Grid, messages: Iterable[Message], more: Callable[[], Iterable[Message]]
    ) -> Iterator[Message]:
        """Replies of this round and of earlier ones; who has replied, or has come, is asked before the next."""
        while True:
            messages = list(messages)
            for message, task_id in zip(messages, grid.push_messages(messages), strict=True):
                self._flights[message.metadata.dst_node_id].task_id = task_id
            if (reply := cast(Mailbox, grid).receive()) is None:
                return
            yield reply
            messages = more()


def _replies(
    grid: Grid, messages: Iterable[Message], more: Callable[[], Iterable[Message]], timeout_s: float
) -> Iterator[Message]:
    """The replies to some messages; when all are there, those to what there is to ask then, and so on."""
    while messages:
        yield from grid.send_and_receive(messages, timeout=timeout_s)
        messages = more()


def evaluated_event(round_number: int, scores: MetricRecord, wall_s: float) -> monitor_pb2.ModelEvaluated:
    """The event that tells how good a model is."""
    numbers = {k: float(v) for k, v in scores.items() if isinstance(v, int | float)}
    return monitor_pb2.ModelEvaluated(round=round_number, metrics=numbers, wall_s=wall_s)


def _update_of(records: RecordDict, beside: Iterable[str]) -> tuple[Update, Mapping[str, Any]]:
    """A reply as an update and the numbers reported with it.

    Args:
        records: from a worker.
        beside: names of array records that have to be there beside the model.

    Raises:
        UpdateError: if the reply does not hold one model, what belongs beside it, and one table of numbers with the
            number of examples.
    """
    try:
        records = flower.unpacked(records)
    except DataError as error:
        raise UpdateError(str(error)) from error
    arrays, tables = flower.array_records(records), list(flower.metric_records(records).values())
    if missing := [name for name in beside if name not in arrays]:
        raise UpdateError(f"expected an array record {missing[0]!r} beside the model, got none")
    extra = {k: v for name in beside for k, v in flower.to_numpy(arrays.pop(name)).items()}
    if len(arrays) != 1 or len(tables) != 1:
        raise UpdateError(f"expected one array and one metric record, got {len(arrays)} and {len(tables)}")
    examples = tables[0].get(metrics.NUM_EXAMPLES)
    if not isinstance(examples, int):
        raise UpdateError(f"expected a whole number {metrics.NUM_EXAMPLES!r}, got {examples!r}")
    (model,) = arrays.values()
    return Update(flower.to_numpy(model), examples, extra), tables[0]
