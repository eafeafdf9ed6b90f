"""The updates of one round on their way into the rule: screened, brought up to date, added as they arrive."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message as Payload

from neurofed import metrics, tensors
from neurofed.errors import NotEnoughWorkersError, UpdateError
from neurofed.runstate import one_line
from neurofed.v1 import monitor_pb2
from server.admission import NormScreen
from server.aggregation import stale
from server.aggregation.base import NOTHING, Memory, Model, Rule, Update
from server.quarantine import Quarantine

_AVERAGED = (metrics.LOSS, metrics.ACCURACY, metrics.SPIKE_RATE, metrics.GRADIENT_DENSITY)


@dataclass(frozen=True, slots=True)
class Judges:
    """What stays the same from round to round.

    Attributes:
        rule: how updates become a model.
        screen: refuses what is absurd.
        quarantine: who is given no more tasks.
        emit: takes the events.
    """

    rule: Rule[Any]
    screen: NormScreen
    quarantine: Quarantine
    emit: Callable[[Payload], object]


class Gathering:
    """The updates of one round. Whoever sends one that cannot be added is in quarantine from then on.

    Args:
        judges: what updates go through.
        number: the round.
        model: the global model it begins with.
        expected: how many updates may come.
        memory: what the rule remembers of the rounds before.
    """

    def __init__(self, judges: Judges, number: int, model: Model, expected: int, memory: Memory = NOTHING) -> None:
        self._judges, self._number, self._model = judges, number, model
        self._state = judges.rule.init(model, expected, memory)
        self._reported: list[Mapping[str, Any]] = []
        self._distances: list[float] = []
        self._staleness: list[int] = []

    @property
    def count(self) -> int:
        """Updates added so far."""
        return len(self._reported)

    @property
    def memory(self) -> Memory:
        """What the rule remembers for the next round; asked after `finish`."""
        return self._judges.rule.memory(self._state)

    def add(self, worker: str, update: Update, numbers: Mapping[str, Any], base: Model, staleness: int = 0) -> bool:
        """Add an update; False where it is refused.

        Args:
            worker: whose it is.
            update: the worker's model and its weight.
            numbers: what was reported with it.
            base: the global model the worker began with.
            staleness: how many rounds ago that was the newest.
        """
        judges = self._judges
        try:
            distance = 0.0 if judges.rule.bounded else judges.screen.distance(base, update.model)
            model = stale.brought_up_to_date(update.model, base, self._model, staleness)
            self._state = judges.rule.add(self._state, replace(update, model=model))
        except UpdateError as error:
            self.refuse(worker, error)
            return False
        self._reported.append(numbers)
        self._distances.append(distance)
        self._staleness.append(staleness)
        return True

    def refuse(self, worker: str, error: UpdateError) -> None:
        """Tell of an update that cannot be added."""
        reason, judges = one_line(str(error)), self._judges
        judges.emit(monitor_pb2.ResultRejected(worker=worker, round=self._number, reason=reason))
        judges.quarantine.add(worker, self._number, reason)

    def finish(self, quorum: int) -> tuple[Model, dict[str, float]]:
        """The new global model, and the example-weighted means of what was reported.

        Raises:
            NotEnoughWorkersError: if fewer than the quorum could be aggregated.
        """
        if self.count < quorum:
            raise NotEnoughWorkersError(
                f"round {self._number}: expected updates of at least {quorum} workers, got {self.count}: "
                "bring the workers back and resume, or lower --min-workers"
            )
        self._judges.screen.learn(self._distances)
        model = self._judges.rule.finish(self._state)
        means = {**weighted_means(self._reported), **self._judges.rule.numbers(self._state)}
        if any(self._staleness):
            means[metrics.STALENESS] = sum(self._staleness) / self.count
        self._judges.emit(
            monitor_pb2.RoundAggregated(
                round=self._number,
                updates=self.count,
                examples=sum(int(n[metrics.NUM_EXAMPLES]) for n in self._reported),
                model_sha256=tensors.model_digest(model),
                train_metrics=means,
            )
        )
        return model, means


def weighted_means(reported: list[Mapping[str, Any]]) -> dict[str, float]:
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
