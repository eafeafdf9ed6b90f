"""Privacy: what secure aggregation and differential privacy cost in CPU time and bytes, for a model of 24 MB.

Secure aggregation runs as both sides run it, without a network: CPU seconds by step, for one worker (the median over
all of them) and for the aggregator, with everybody there and with a fifth of the workers gone after the letters. Bytes
are those of the messages' contents. Turns with masks and without are interleaved; CPU time is the median over turns.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from benchmarks.aggregation import random_model, random_updates
from benchmarks.common import arguments, finish, must
from neurofed.secagg import fixed, messages
from server.aggregation import rule
from server.aggregation.base import Model, Rule, Update
from server.privacy.central import Fixed, private
from server.privacy.secagg import MaskedSum, mean_of, threshold_for
from worker.secagg import MaskedWorker

Row = dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

_SEED = 0
_SESSION = b"benchmark/1"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        hidden: width of the last hidden layer, which makes most of the model.
        turns: how often.
    """

    hidden: int
    turns: int


FULL = Scale(990, 5)
QUICK = Scale(100, 2)
WORKERS = (5, 20)


class _Clock:
    """CPU seconds by what they were spent on."""

    def __init__(self) -> None:
        self.spent_s: dict[str, list[float]] = defaultdict(list)

    def of(self, what: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        began_s = time.thread_time()
        result = work(*args, **kwargs)
        self.spent_s[what].append(time.thread_time() - began_s)
        return result


def masked_round(updates: list[Update], gone: int) -> tuple[_Clock, Model, dict[str, int]]:
    """One round of secure aggregation, of which the last `gone` workers vanish after the letters."""
    clock, count = _Clock(), len(updates)
    threshold = threshold_for(count)
    aggregator = MaskedSum(threshold, _SESSION, fixed.length(updates[0].model))
    workers = [MaskedWorker(number, threshold, _SESSION) for number in range(count)]
    for number, worker in enumerate(workers):
        keys = clock.of("keys", worker.keys)
        clock.of("aggregator", aggregator.admit, number, keys)
    roster = aggregator.roster()
    for number, worker in enumerate(workers):
        sent = clock.of("letters", worker.letters, roster)
        clock.of("aggregator", aggregator.relay, number, sent)
    letters = aggregator.letters()
    for number, worker in enumerate(workers[: count - gone]):
        update = updates[number]
        vector = clock.of("fixed point", fixed.weighted, update.model, update.examples, count)
        masked = clock.of("mask", worker.mask, letters[number], vector)
        clock.of("aggregator", aggregator.add, number, masked)
    arrived = aggregator.arrived()
    for number in arrived:
        shares = clock.of("shares", workers[number].shares, arrived)
        clock.of("aggregator", aggregator.open, number, shares)
    total = clock.of("unmask", aggregator.total)
    mean, _ = clock.of("aggregator", mean_of, total, updates[0].model, len(arrived))
    entry = len(messages.pack({0: b""}))
    row = entry + messages.SEALED_BYTES
    sizes = {
        "bytes_up": 8 * masked.size + messages.KEYS_BYTES + (count - 1) * row + count * (entry + 33),
        "bytes_down": count * (entry + messages.KEYS_BYTES) + (count - 1) * row + count * entry,
    }
    return clock, mean, sizes


def plain_round(strategy: Rule[Any], updates: list[Update], workers: int) -> tuple[float, Model]:
    """CPU seconds of a rule, and its model."""
    began_s = time.thread_time()
    state = strategy.init(updates[0].model, workers)
    for update in updates:
        state = strategy.add(state, update)
    model = strategy.finish(state)
    return time.thread_time() - began_s, model


def secure_rows(model: Model, turns: int) -> tuple[list[Row], list[Row]]:
    """Rows and musts of secure aggregation."""
    rows, musts = [], []
    for count in WORKERS:
        updates = random_updates(model, count)
        model_bytes = sum(array.nbytes for array in model.values())
        for gone in (0, count // 5):
            spent: dict[str, list[float]] = defaultdict(list)
            plain_s, equal = [], True
            for _ in range(turns):
                clock, mean, sizes = masked_round(updates, gone)
                seconds, expected = plain_round(rule("fedavg"), updates[: count - gone], count)
                plain_s.append(seconds)
                equal &= all(np.array_equal(mean[name], expected[name]) for name in expected)
                for what, values in clock.spent_s.items():
                    spent[what].append(sum(values) if what == "aggregator" else statistics.median(values))
            cpu = {what: statistics.median(values) for what, values in spent.items()}
            worker_s = sum(cpu[what] for what in ("keys", "letters", "fixed point", "mask", "shares"))
            up_times_dense = sizes["bytes_up"] / model_bytes
            aggregator_s = cpu["aggregator"] + cpu["unmask"]
            rows.append(
                {
                    "what": "secure aggregation",
                    "workers": count,
                    "gone": gone,
                    "worker_cpu_s": worker_s,
                    "of_that_masks_s": cpu["mask"],
                    "aggregator_cpu_s": aggregator_s,
                    "of_that_unmasking_s": cpu["unmask"],
                    "fedavg_cpu_s": statistics.median(plain_s),
                    "times_fedavg": aggregator_s / statistics.median(plain_s),
                    **sizes,
                    "up_times_dense": up_times_dense,
                }
            )
            name = f"secure aggregation of {count} workers, {gone} gone"
            musts.append(must(f"{name}: bit-equal to fedavg", float(equal), "==", 1.0))
            musts.append(must(f"{name}: bytes up by those of a dense model", up_times_dense, "<=", 2.01))
    return rows, musts


def central_rows(model: Model, turns: int) -> list[Row]:
    """Rows of differential privacy."""
    rows = []
    for count in WORKERS:
        updates = random_updates(model, count)
        spent: dict[str, list[float]] = {"fedavg": [], "dp": []}
        for _ in range(turns):
            spent["fedavg"].append(plain_round(rule("fedavg"), updates, count)[0])
            spent["dp"].append(plain_round(private(rule("fedavg"), Fixed(noise=1e-3), bytes(32)), updates, count)[0])
        plain_s, private_s = (statistics.median(values) for values in spent.values())
        rows.append(
            {
                "what": "differential privacy",
                "workers": count,
                "aggregator_cpu_s": private_s,
                "fedavg_cpu_s": plain_s,
                "times_fedavg": private_s / plain_s,
            }
        )
    return rows


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    model = random_model(np.random.default_rng(_SEED), scale.hidden)
    rows, musts = secure_rows(model, scale.turns)
    finish("privacy", options, [_SEED], [*rows, *central_rows(model, scale.turns)], musts)


if __name__ == "__main__":
    main()
