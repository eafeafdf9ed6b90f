"""Aggregation: speed by thread, memory, and how many results the order of arrival leads to; against Flower and torch.

Models of 24 MB like a VGG9's. Speed is bytes of updates by CPU time of the one thread, everything from the empty state
to the new model included, the best of several turns that all contestants take one after the other. Memory is what
numpy takes beyond the updates themselves at its peak (tracemalloc). Ten updates take turns where more are added.
Flower's function gets its records ready-made: it needs all of them at once, which is not counted as its memory.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

from benchmarks.common import arguments, finish, must
from server.aggregation import BUILT_IN, native, rule
from server.aggregation.base import Memory, Model, Rule, Update

Row = dict[str, Any]
Contestant = Callable[[Sequence[Update]], object]

_SEED = 0
_DISTINCT = 10
_CHANNELS = (2, 64, 64, 128, 128, 256, 256, 256)
_ORDERS = 120
_SCRATCH_MODELS = 0.01
"""Python's own objects."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        hidden: width of the last hidden layer, which makes most of the model.
        workers: counts of updates.
        workers_all_rules: counts of updates for every rule.
        turns: how often each contestant is measured.
    """

    hidden: int
    workers: tuple[int, ...]
    workers_all_rules: tuple[int, ...]
    turns: int


FULL = Scale(990, (5, 20, 200), (5, 20), 7)
QUICK = Scale(100, (5, 20), (5,), 3)


def random_model(rng: np.random.Generator, hidden: int) -> Model:
    """Weights of a network like a VGG9."""
    shapes: dict[str, tuple[int, ...]] = {
        f"conv{i}": (o, c, 3, 3) for i, (c, o) in enumerate(itertools.pairwise(_CHANNELS))
    }
    shapes |= {"hidden": (hidden, 4096), "head": (11, hidden)}
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def random_updates(model: Model, count: int) -> list[Update]:
    """Updates near a model, a change of another size for each."""
    rng = np.random.default_rng(_SEED + 1)
    return [
        Update(
            {
                name: array + rng.normal(0, 0.002 * (1 + i), array.shape).astype(np.float32)
                for name, array in model.items()
            },
            100 + 37 * i,
        )
        for i in range(count)
    ]


def aggregate(strategy: Rule[Any], model: Model, updates: Iterable[Update], count: int) -> tuple[Model, Memory]:
    """A round of a rule: the new model, and what the rule remembers."""
    state = strategy.init(model, count)
    for update in updates:
        if strategy.sends_memory:
            update = Update(update.model, update.examples, update.model)  # noqa: PLW2901 (as good as any)
        state = strategy.add(state, update)
    model = strategy.finish(state)
    return model, strategy.memory(state)


def torch_streaming(updates: Sequence[Update]) -> object:
    """The least that can be done in 32 bits: `add_` into one accumulator."""
    total = sum(update.examples for update in updates)
    sums = {name: torch.zeros(array.shape) for name, array in updates[0].model.items()}
    for update in updates:
        for name, array in update.model.items():
            sums[name].add_(torch.from_numpy(array), alpha=update.examples / total)
    return sums


class FlowerRecords:
    """Updates as Flower's strategies get them, made once and kept."""

    def __init__(self, updates: Sequence[Update]) -> None:
        self._records = {
            id(update): RecordDict(
                {
                    "arrays": ArrayRecord({name: Array(np.asarray(array)) for name, array in update.model.items()}),
                    "metrics": MetricRecord({"num-examples": update.examples}),
                }
            )
            for update in updates
        }

    def aggregate(self, updates: Sequence[Update]) -> ArrayRecord:
        """FedAvg."""
        return aggregate_arrayrecords([self._records[id(update)] for update in updates], "num-examples")


def _nbytes(model: Model) -> int:
    return sum(array.nbytes for array in model.values())


def _cycle(updates: Sequence[Update], count: int) -> list[Update]:
    return [updates[i % len(updates)] for i in range(count)]


def _thread_s(contestant: Contestant, updates: Sequence[Update]) -> float:
    gc.collect()
    began_s = time.thread_time()
    contestant(updates)
    return time.thread_time() - began_s


def peak_bytes(contestant: Contestant, updates: Sequence[Update]) -> int:
    """The most that is held at once beyond what was there before."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    contestant(updates)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before


def fedavg_rows(model: Model, updates: Sequence[Update], scale: Scale) -> list[Row]:
    """Speed and memory of federated averaging, by number of updates and contestant."""
    flower = FlowerRecords(updates)
    contestants: dict[str, Contestant] = {
        "neurofed": lambda given: aggregate(rule("fedavg"), model, given, len(given)),
        "torch add_": torch_streaming,
        "flwr": flower.aggregate,
    }
    rows = []
    for count in scale.workers:
        given = _cycle(updates, count)
        best_s = dict.fromkeys(contestants, math.inf)
        for _ in range(scale.turns):
            for name, contestant in contestants.items():
                best_s[name] = min(best_s[name], _thread_s(contestant, given))
        for name, contestant in contestants.items():
            gb_per_s = count * _nbytes(model) / best_s[name] / 1e9
            extra = None if name == "torch add_" else peak_bytes(contestant, given) / _nbytes(model)
            rows.append({"fedavg": name, "updates": count, "gb_per_s": gb_per_s, "extra_models": extra})
    return rows


def rule_rows(model: Model, updates: Sequence[Update], scale: Scale) -> list[Row]:
    """Speed and memory of every rule."""
    rows = []
    for name, count in itertools.product(BUILT_IN, scale.workers_all_rules):
        given = _cycle(updates, count)
        strategy = rule(name, _possible(name, count))

        gc.collect()
        tracemalloc.start()
        began_s = time.thread_time()
        _, memory = aggregate(strategy, model, given, count)
        gb_per_s = count * _nbytes(model) / (time.thread_time() - began_s) / 1e9
        extra = tracemalloc.get_traced_memory()[1] / _nbytes(model)
        tracemalloc.stop()
        rows.append(
            {
                "rule": name,
                "updates": count,
                "gb_per_s": gb_per_s,
                "extra_models": extra,
                "remembers_models": round(_nbytes(memory) / _nbytes(model), 3),
            }
        )
    return rows


def _possible(name: str, updates: int) -> dict[str, object]:
    """Settings with which a rule is defined for so many updates."""
    return {"attackers": 0.1} if name == "bulyan" and updates >= 20 else {"attackers": 0.0} if name == "bulyan" else {}


def order_rows() -> list[Row]:
    """How many different results 120 orders of arrival lead to, of every rule and of Flower's averaging."""
    model = random_model(np.random.default_rng(_SEED), 8)
    rows = []
    for name in BUILT_IN:
        count = 7 if name == "bulyan" else 5  # which is not defined for fewer
        updates = random_updates(model, count)
        orders = list(itertools.permutations(updates))
        random.Random(_SEED).shuffle(orders)  # noqa: S311
        results = {_bits(*aggregate(rule(name), model, order, count)) for order in orders[:_ORDERS]}
        rows.append({"rule": name, "updates": count, "orders": _ORDERS, "bit_patterns": len(results)})
    updates = random_updates(model, 5)
    flower = FlowerRecords(updates)
    patterns = {
        _bits({name: array.numpy() for name, array in flower.aggregate(order).items()})
        for order in itertools.permutations(updates)
    }
    return [*rows, {"rule": "flwr FedAvg", "updates": 5, "orders": _ORDERS, "bit_patterns": len(patterns)}]


def _bits(*models: Model) -> bytes:
    return b"".join(np.ascontiguousarray(array).tobytes() for model in models for array in model.values())


def musts(fedavg: Sequence[Row], rules: Sequence[Row], orders: Sequence[Row]) -> list[Row]:
    """What was promised. Ratios are of the same run and the same number of updates; the worst counts."""

    def speed(who: str) -> list[float]:
        return [cast(float, row["gb_per_s"]) for row in fedavg if row["fedavg"] == who]

    ours, flower, limit = speed("neurofed"), speed("flwr"), speed("torch add_")
    extra = [cast(float, row["extra_models"]) for row in fedavg if row["fedavg"] == "neurofed"]
    stateless = [cast(float, row["extra_models"]) for row in rules if row["remembers_models"] == 0]
    patterns = [int(row["bit_patterns"]) for row in orders if row["rule"] in BUILT_IN]
    return [
        must("fedavg_gb_per_s", min(ours), ">=", 5.0),
        must("fedavg_times_flower", min(a / b for a, b in zip(ours, flower, strict=True)), ">=", 2.5),
        must("fedavg_share_of_torch_limit (aim)", min(a / b for a, b in zip(ours, limit, strict=True)), ">=", 0.8),
        must("fedavg_extra_models", max(extra), "<=", 2.0 + _SCRATCH_MODELS),
        must("extra_models_of_rules_without_memory", max(stateless), "<=", 2.0 + _SCRATCH_MODELS),
        must("bit_patterns_over_120_orders", max(patterns), "==", 1),
    ]


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    model = random_model(np.random.default_rng(_SEED), scale.hidden)
    updates = random_updates(model, _DISTINCT)
    print(f"model: {_nbytes(model) / 1e6:.1f} MB; kernel: {'compiled' if native.library() else 'none, numpy'}")
    fedavg, rules, orders = fedavg_rows(model, updates, scale), rule_rows(model, updates, scale), order_rows()
    finish("aggregation", options, [_SEED], [*fedavg, *rules, *orders], musts(fedavg, rules, orders))


if __name__ == "__main__":
    main()
