"""Secure aggregation in the ClientApp: queries for keys, letters and shares, and the masked update in between.

A worker's secrets are in this process alone, for one round. So the process has to stay between the messages of a round,
as ours does; one that was started again answers with an error, and has vanished to the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from neurofed import flower, metrics
from neurofed.errors import UpdateError
from neurofed.records import CONFIG, METRICS
from neurofed.secagg import fixed, messages
from neurofed.secagg.messages import Keys
from worker.secagg import MaskedWorker
from worker.trainer import LocalResult

_Config = Mapping[str, Any]


class Masking:
    """The worker's part of secure aggregation, as an app sees it.

    Args:
        app: is given the queries.
    """

    def __init__(self, app: ClientApp) -> None:
        self._session = b""
        self._worker: MaskedWorker | None = None
        self._numbers: dict[str, Any] = {}
        steps: Mapping[str, Callable[[int, _Config], dict[str, bytes]]] = {
            messages.KEYS: self._keys,
            messages.LETTERS: self._letters,
            messages.SHARES: self._shares,
        }
        for name, step in steps.items():
            app.query(name)(_answering(step, self._numbers))

    def records(self, config: _Config, result: LocalResult) -> dict[str, ArrayRecord | MetricRecord | ConfigRecord]:
        """What a task is answered with: the masked model, and what was reported but for the number of examples.

        Args:
            config: the task's configuration.
            result: what training led to.

        Raises:
            UpdateError: if it cannot be masked, or the letters are not those of this round.
        """
        worker = self._current(config)
        vector = fixed.weighted(result.arrays, int(result.numbers[metrics.NUM_EXAMPLES]), worker.workers)
        letters = messages.unpack(_bytes(config, messages.LETTERS), messages.SEALED_BYTES)
        masked = worker.mask(letters, vector)
        self._numbers.update({name: n for name, n in result.numbers.items() if name != metrics.NUM_EXAMPLES})
        array = flower.to_record({messages.MASKED: masked.view("<i8")})
        return {messages.MASKED: array, METRICS: MetricRecord(dict(self._numbers))}

    def _keys(self, node_id: int, config: _Config) -> dict[str, bytes]:
        """Begin a round: what was secret in the last one is forgotten."""
        session, threshold = _bytes(config, messages.SESSION), config.get(messages.THRESHOLD)
        if not isinstance(threshold, int) or threshold < 1:
            raise UpdateError(f"{messages.THRESHOLD}: expected a positive number, got {threshold!r}")
        self._session, self._worker = session, MaskedWorker(node_id, threshold, session)
        self._numbers.clear()
        return {messages.KEYS: self._worker.keys().to_bytes()}

    def _letters(self, _node_id: int, config: _Config) -> dict[str, bytes]:
        table = messages.unpack(_bytes(config, messages.ROSTER), messages.KEYS_BYTES)
        roster = {worker: Keys.from_bytes(keys) for worker, keys in table.items()}
        return {messages.LETTERS: messages.pack(self._current(config).letters(roster))}

    def _shares(self, _node_id: int, config: _Config) -> dict[str, bytes]:
        arrived = messages.unpack(_bytes(config, messages.ARRIVED), 0)
        shares = self._current(config).shares(arrived)
        self._worker = None
        return {messages.SHARES: messages.pack(shares.seeds), messages.KEY_SHARES: messages.pack(shares.keys)}

    def _current(self, config: _Config) -> MaskedWorker:
        if self._worker is None or _bytes(config, messages.SESSION) != self._session:
            raise UpdateError("secure aggregation: this worker has no keys for the round: it was started again since")
        return self._worker


def _answering(
    step: Callable[[int, _Config], dict[str, bytes]], numbers: Mapping[str, Any]
) -> Callable[[Message, Context], Message]:
    """A query's function. The numbers of the round are told again, as whoever watches keeps those of the last reply."""

    def answer(message: Message, _context: Context) -> Message:
        (config,) = flower.config_records(message.content).values()
        answers: dict[str, Any] = dict(step(message.metadata.dst_node_id, config))
        records = RecordDict({CONFIG: ConfigRecord(answers), METRICS: MetricRecord(dict(numbers))})
        return Message(records, reply_to=message)

    return answer


def _bytes(config: _Config, name: str) -> bytes:
    value = config.get(name)
    if not isinstance(value, bytes):
        raise UpdateError(f"{name}: expected bytes, got {type(value).__name__}")
    return value
