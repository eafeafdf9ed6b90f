"""Federated averaging (McMahan et al. 2017), exact under any order of arrival: see `exact`.

FedProx (Li et al. 2020) averages in the same way; it differs in what the workers do. They are told `proximal-mu` with
each task and add mu (w - w_global) to every gradient, which keeps them from drifting apart on unlike data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from neurofed.records import PROXIMAL_MU
from server.aggregation.base import NOTHING, Memory, Model, Rule, Update, require_fit
from server.aggregation.exact import ExactSum
from workloads.settings import Range


@dataclass(slots=True)
class Average:
    """State of a round.

    Attributes:
        sums: of examples times values.
        workers: how many updates may come.
    """

    sums: ExactSum
    workers: int


def init(model: Model, workers: int, _memory: Memory = NOTHING) -> Average:
    """Nothing is summed up yet."""
    return Average(ExactSum(model), workers)


def add(state: Average, update: Update) -> Average:
    """Add an update, with its examples as its weight."""
    require_fit(update, state.sums.model, state.workers)
    state.sums.add(update.model, update.examples)
    return state


def finish(state: Average) -> Model:
    """The mean."""
    return state.sums.settle()


FEDAVG: Rule[Average] = Rule("fedavg", init, add, finish)


@dataclass(frozen=True)
class Proximal:
    """Settings of FedProx.

    Attributes:
        mu: the weight of the proximal term; 0 is federated averaging.
    """

    mu: Annotated[float, Range(0.0)] = 0.01


def fedprox(settings: Proximal) -> Rule[Average]:
    """FedProx."""
    return Rule("fedprox", init, add, finish, client={PROXIMAL_MU: settings.mu})
