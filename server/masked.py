"""The strategy with secure aggregation: around the training of a round, queries for keys, letters and shares."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from neurofed import flower, metrics, tensors
from neurofed.errors import NotEnoughWorkersError, UpdateError
from neurofed.records import CONFIG
from neurofed.runstate import one_line
from neurofed.secagg import fixed, messages
from neurofed.secagg.messages import Keys, Shares
from neurofed.secagg.shamir import SHARE_BYTES
from neurofed.v1 import monitor_pb2
from server.aggregation.base import Model, Rule, Update
from server.gather import weighted_means
from server.privacy import Masked, Protection
from server.privacy.secagg import MaskedSum, mean_of, threshold_for
from server.strategy import RuleStrategy

_EXACT = ("fedavg", "fedprox")
"""Rules whose model is the mean itself."""


def strategy_for(chosen: Protection, workers: int) -> Callable[..., RuleStrategy]:
    """What makes the strategy of a run.

    Args:
        chosen: how it is kept private.
        workers: of the run.

    Raises:
        ConfigError: if secure aggregation is not defined for so few workers, or not with that threshold.
    """
    if isinstance(chosen, Masked):
        return partial(MaskedStrategy, threshold=threshold_for(workers, chosen.threshold))
    return RuleStrategy


class MaskedStrategy(RuleStrategy):
    """Runs rounds in which the aggregator sees no update, only their sum.

    Args:
        rule: a function of the mean; it is given the mean as the model of its only worker.
        threshold: as of `server.privacy.secagg.threshold_for`.
        rest: as of `RuleStrategy`; rounds do not overlap.
    """

    def __init__(self, rule: Rule[Any], *, threshold: int, **rest: Any) -> None:
        super().__init__(rule, **rest)
        self._rule, self._threshold = rule, threshold
        self._sum = MaskedSum(threshold, b"", 1)
        self._ask_all: Callable[[str, Mapping[int, Mapping[str, Any]]], Iterator[tuple[int, RecordDict]]]

    def _exchange(
        self, number: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid, timeout_s: float
    ) -> Iterable[Message]:
        """Exchange keys and letters, then ask for masked updates; the replies as they arrive."""
        tasks = {task.metadata.dst_node_id: task for task in self.configure_train(number, arrays, config, grid)}
        session = number.to_bytes(8) + secrets.token_bytes(16)
        self._sum = MaskedSum(self._threshold, session, fixed.length(self._models[number]))

        def ask_all(what: str, entries: Mapping[int, Mapping[str, Any]]) -> Iterator[tuple[int, RecordDict]]:
            kind = f"{MessageType.QUERY}.{what}"
            common: dict[str, Any] = {"server-round": number, messages.SESSION: session}
            queries = [
                Message(RecordDict({CONFIG: ConfigRecord({**common, **own})}), node_id, kind, group_id=str(number))
                for node_id, own in entries.items()
            ]
            for reply in grid.send_and_receive(queries, timeout=timeout_s):
                if not reply.has_error():
                    yield reply.metadata.src_node_id, reply.content

        self._ask_all = ask_all
        for node_id, records in ask_all(messages.KEYS, {n: {messages.THRESHOLD: self._threshold} for n in tasks}):
            self._take(number, node_id, self._admit, records)
        roster = self._sum.roster()
        table = messages.pack({node_id: keys.to_bytes() for node_id, keys in roster.items()})
        for node_id, records in ask_all(messages.LETTERS, {n: {messages.ROSTER: table} for n in roster}):
            self._take(number, node_id, self._relay, records)
        letters = self._sum.letters()
        for node_id, own in letters.items():
            told = flower.config_records(tasks[node_id].content)[CONFIG]
            told[messages.SESSION], told[messages.LETTERS] = session, messages.pack(own)
        return grid.send_and_receive([tasks[node_id] for node_id in letters], timeout=timeout_s)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Add masked updates as they arrive, until they are enough, then take the masks off.

        Raises:
            NotEnoughWorkersError: if fewer than the quorum or the threshold took part to the end.
            UpdateError: if somebody's shares are false, or the sum is none of models.
        """
        reported: list[Mapping[str, Any]] = []
        for reply in replies:
            self._flights.pop(reply.metadata.src_node_id, None)
            if not reply.has_error():
                node_id, records = reply.metadata.src_node_id, reply.content
                if self._take(server_round, node_id, self._add_masked, records):
                    reported.append(_numbers_of(records))
            if self._enough and len(reported) >= self._enough:
                break
        if isinstance(replies, Generator):
            replies.close()  # says that the rest is not needed
        model, examples = self._opened(server_round, len(reported))
        means = weighted_means([{**numbers, metrics.NUM_EXAMPLES: 1} for numbers in reported])
        self._emit(
            monitor_pb2.RoundAggregated(
                round=server_round,
                updates=len(reported),
                examples=examples,
                model_sha256=tensors.model_digest(model),
                train_metrics=means,
            )
        )
        return flower.to_record(model), MetricRecord(dict(means))

    def _opened(self, number: int, count: int) -> tuple[Model, int]:
        """The new model, and the examples in it."""
        arrived = self._sum.arrived()
        if count < self._quorum:
            raise NotEnoughWorkersError(
                f"round {number}: expected updates of at least {self._quorum} workers, got {count}: "
                "bring the workers back and resume, or lower --min-workers"
            )
        table = messages.pack(dict.fromkeys(arrived, b""))
        for node_id, records in self._ask_all(messages.SHARES, {n: {messages.ARRIVED: table} for n in arrived}):
            self._take(number, node_id, self._open, records)
        mean, examples = mean_of(self._sum.total(), self._models[number], count)
        if self._rule.name in _EXACT:
            return mean, examples
        state = self._rule.add(self._rule.init(self._models[number], 1, self.memory), Update(mean, 1))
        model = self._rule.finish(state)
        self.memory = self._rule.memory(state)
        return model, examples

    # -- what a reply holds

    def _admit(self, node_id: int, records: RecordDict) -> None:
        self._sum.admit(node_id, Keys.from_bytes(_bytes(records, messages.KEYS)))

    def _relay(self, node_id: int, records: RecordDict) -> None:
        self._sum.relay(node_id, messages.unpack(_bytes(records, messages.LETTERS), messages.SEALED_BYTES))

    def _add_masked(self, node_id: int, records: RecordDict) -> None:
        arrays = [flower.to_numpy(record) for record in flower.array_records(records).values()]
        if [list(tensor) for tensor in arrays] != [[messages.MASKED]]:
            raise UpdateError(f"expected one array {messages.MASKED!r}, got {[sorted(tensor) for tensor in arrays]}")
        self._sum.add(node_id, arrays[0][messages.MASKED])

    def _open(self, node_id: int, records: RecordDict) -> None:
        seeds, keys = _bytes(records, messages.SHARES), _bytes(records, messages.KEY_SHARES)
        self._sum.open(node_id, Shares(messages.unpack(seeds, SHARE_BYTES), messages.unpack(keys, SHARE_BYTES)))

    def _take(self, number: int, node_id: int, step: Callable[[int, RecordDict], None], records: RecordDict) -> bool:
        """Take a reply in; whoever sends one that cannot be is in quarantine from then on."""
        try:
            step(node_id, records)
        except UpdateError as error:
            name, reason = self._names.get(node_id, f"node-{node_id}"), one_line(str(error))
            self._emit(monitor_pb2.ResultRejected(worker=name, round=number, reason=reason))
            self._quarantine.add(name, number, reason)
            return False
        return True


def _bytes(records: RecordDict, name: str) -> bytes:
    found = [record.get(name) for record in flower.config_records(records).values()]
    if len(found) != 1 or not isinstance(found[0], bytes):
        raise UpdateError(f"expected one configuration record with bytes {name!r}")
    return found[0]


def _numbers_of(records: RecordDict) -> dict[str, Any]:
    return {name: value for record in flower.metric_records(records).values() for name, value in record.items()}
