"""Optimizers on the aggregator (Hsu et al. 2019, Reddi et al. 2021): the exact mean is a step, not yet the next model.

delta = mean - model stands for a negative gradient, computed from the exact sums in 64 bits. What is remembered from
round to round, momentum m and second moment v, has the model's names with a prefix, so that a checkpoint can keep it.

    fedavgm      m = momentum m + delta                            model + lr m
    fedadagrad   m = delta,  v = v + delta^2                       model + lr m / (sqrt v + tau)
    fedyogi      m = b1 m + (1 - b1) delta                         the same
                 v = v - (1 - b2) delta^2 sign(v - delta^2)
    fedadam      m as fedyogi's, v = b2 v + (1 - b2) delta^2       the same, with Adam's bias correction of lr

As in Flower, so that results agree: v begins at zero, and the bias correction counts its first round as the second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np

from server.aggregation import fedavg
from server.aggregation.base import NOTHING, Memory, Model, Rule, Update, floating
from server.aggregation.exact import Wide
from workloads.settings import Range

ROUNDS, MOMENTUM, MOMENT = "rounds", "m/", "v/"
"""Names and prefixes in the memory."""


@dataclass(frozen=True)
class Momentum:
    """Settings of FedAvgM.

    Attributes:
        lr: how much of the momentum is added to the model.
        momentum: how much of the last momentum is kept.
    """

    lr: Annotated[float, Range(0.0)] = 1.0
    momentum: Annotated[float, Range(0.0, 1.0)] = 0.9


@dataclass(frozen=True)
class Adaptive:
    """Settings of FedAdagrad, FedYogi and FedAdam.

    Attributes:
        lr: the length of a step, in units of the model's values.
        beta1: how much of the last momentum is kept.
        beta2: how much of the last second moment is kept.
        tau: steps are the longer, the closer v is to zero; tau bounds that. The lower, the more adaptive.
    """

    lr: Annotated[float, Range(0.0)] = 0.1
    beta1: Annotated[float, Range(0.0, 0.999999)] = 0.9
    beta2: Annotated[float, Range(0.0, 0.999999)] = 0.99
    tau: Annotated[float, Range(1e-12)] = 1e-3


@dataclass(slots=True)
class Optimizing:
    """State of a round: the mean in the making, and what is remembered, replaced by `finish`."""

    average: fedavg.Average
    memory: dict[str, Any]


Advance = Callable[[Wide, dict[str, Any], str, slice], Wide]
"""One step on a piece of a tensor: given delta it renews the memory, in place, and tells what to add to the model."""


def _init(moments: bool, model: Model, workers: int, memory: Memory = NOTHING) -> Optimizing:
    kept: dict[str, Any] = {ROUNDS: np.array(memory.get(ROUNDS, 0), np.int64)}
    for prefix in (MOMENTUM, MOMENT) if moments else (MOMENTUM,):
        for name, array in floating(model).items():
            dtype, old = np.promote_types(array.dtype, np.float32), memory.get(prefix + name)
            kept[prefix + name] = np.zeros(array.size, dtype) if old is None else np.array(old, dtype).reshape(-1)
    return Optimizing(fedavg.init(model, workers), kept)


def _add(state: Optimizing, update: Update) -> Optimizing:
    state.average = fedavg.add(state.average, update)
    return state


def _finish(advance: Advance, state: Optimizing) -> Model:
    memory, model = state.memory, state.average.sums.model
    memory[ROUNDS] = memory[ROUNDS] + 1

    def step(name: str, piece: slice, mean: Wide) -> Wide:
        old = model[name].reshape(-1)[piece].astype(np.float64)
        return old + advance(mean - old, memory, name, piece)

    return state.average.sums.settle(step)


def _memory(state: Optimizing) -> Memory:
    return state.memory


def _rule(name: str, advance: Advance, moments: bool = True) -> Rule[Optimizing]:
    return Rule(name, partial(_init, moments), _add, partial(_finish, advance), _memory)


def _decayed(memory: dict[str, Any], name: str, piece: slice, keep: float, delta: Wide, take: float) -> Wide:
    """`m = keep m + take delta`, rounded to what is remembered, so that a resumed run computes with the same."""
    m = memory[MOMENTUM + name]
    m[piece] = keep * m[piece].astype(np.float64) + take * delta
    return _wide(m, piece)


def _wide(array: Any, piece: slice) -> Wide:
    return np.asarray(array[piece], np.float64)


def _momentum(s: Momentum, delta: Wide, memory: dict[str, Any], name: str, piece: slice) -> Wide:
    return s.lr * _decayed(memory, name, piece, s.momentum, delta, 1.0)


def _adagrad(s: Adaptive, delta: Wide, memory: dict[str, Any], name: str, piece: slice) -> Wide:
    v = memory[MOMENT + name]
    v[piece] = _wide(v, piece) + delta**2
    return s.lr * _decayed(memory, name, piece, 0.0, delta, 1.0) / (np.sqrt(_wide(v, piece)) + s.tau)


def _yogi(s: Adaptive, delta: Wide, memory: dict[str, Any], name: str, piece: slice) -> Wide:
    m = _decayed(memory, name, piece, s.beta1, delta, 1 - s.beta1)
    v, squares = memory[MOMENT + name], delta**2
    v[piece] = _wide(v, piece) - (1 - s.beta2) * squares * np.sign(_wide(v, piece) - squares)
    return s.lr * m / (np.sqrt(_wide(v, piece)) + s.tau)


def _adam(s: Adaptive, delta: Wide, memory: dict[str, Any], name: str, piece: slice) -> Wide:
    m = _decayed(memory, name, piece, s.beta1, delta, 1 - s.beta1)
    v, count = memory[MOMENT + name], int(memory[ROUNDS]) + 1
    v[piece] = s.beta2 * _wide(v, piece) + (1 - s.beta2) * delta**2
    lr = s.lr * math.sqrt(1 - s.beta2**count) / (1 - s.beta1**count)
    return lr * m / (np.sqrt(_wide(v, piece)) + s.tau)


def fedavgm(settings: Momentum) -> Rule[Optimizing]:
    """FedAvg with momentum."""
    return _rule("fedavgm", partial(_momentum, settings), moments=False)


def fedadagrad(settings: Adaptive) -> Rule[Optimizing]:
    """FedAdagrad; its betas count for nothing."""
    return _rule("fedadagrad", partial(_adagrad, settings))


def fedyogi(settings: Adaptive) -> Rule[Optimizing]:
    """FedYogi."""
    return _rule("fedyogi", partial(_yogi, settings))


def fedadam(settings: Adaptive) -> Rule[Optimizing]:
    """FedAdam."""
    return _rule("fedadam", partial(_adam, settings))
