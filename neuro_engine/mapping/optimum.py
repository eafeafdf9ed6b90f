"""The search for the mapping that takes the fewest cycles in closed form."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from neuro_engine.mapping.closed_form import Array, Costs, Setup, Work, estimate, stage, stage_costs
from neuro_engine.mapping.greedy import CoreMapping, map_layers


@lru_cache(maxsize=1024)
def greedy(work: Work, setup: Setup) -> CoreMapping:
    """The baseline: `map_layers` on the load of each layer's slowest engine, without replicas."""
    stages, first = [], 0
    for given in map_layers({layer.name: layer.load for layer in work}, setup.cores).stages:
        last = first + len(given.layers)
        stages.append(stage(work[first:last], given.cores, 1, setup))
        first = last
    return CoreMapping(tuple(stages))


@lru_cache(maxsize=1024)
def search(work: Work, setup: Setup) -> CoreMapping:
    """The mapping with the least `estimate` of all pipelines of contiguous stages.

    A stage is a run of layers on n replicas of k cores. Every partition into stages with every k and n is searched,
    so the result is never worse than `greedy`, which is one of them. `estimate` is a sum over the stages (fill) and
    a maximum (steady). For a limit on the maximum, dynamic programming over layers and cores finds the least sum;
    branch and bound finds the best limit. That is exact where all weights fit the buffers. Where they do not, the
    refetches are a second sum, and the best is taken of three mappings: without regard to them, with all of them in
    the first sum, both within a hundredth of that aim's best, and the greedy one.

    Args:
        work: the layers, in the order of the network.
        setup: the chip, of which some cores may stay without work, and how the batch runs.
    """
    if not work:
        return CoreMapping(())
    costs = stage_costs(work, setup)
    aims = [costs]
    if costs.refetch.any():
        aims.append(replace(costs, fill=costs.fill + costs.refetch))
    gap = 0.01 if len(aims) > 1 else 0.0
    candidates = [_pipeline(work, aim, setup, gap) for aim in aims] + [greedy(work, setup)]
    return min(candidates, key=lambda mapping: estimate(work, mapping, setup).cycles)


def _pipeline(work: Work, costs: Costs, setup: Setup, gap: float) -> CoreMapping:
    """The mapping with the least sum of fill and steady part, or one within a fraction of it."""
    limit = _best_limit(costs, setup.cores, gap)
    return CoreMapping(
        tuple(
            stage(work[first : last + 1], *costs.shapes[shape], setup)
            for first, last, shape in _stages(costs, limit, setup.cores)
        )
    )


def _best_limit(costs: Costs, cores: int, gap: float) -> float:
    """The limit on the steady part for which limit and least fill add up to the least.

    With a higher limit the least fill can only fall. So for limits between two that are known, the sum is at least
    the lower limit and the fill at the upper one: where that is no better than the best sum known, none is tried.
    """
    limits = np.unique(costs.steady[np.isfinite(costs.fill)])
    fills = {-1: math.inf, len(limits) - 1: _least_fill(costs, limits[-1], cores)}
    best, chosen = fills[len(limits) - 1] + limits[-1], len(limits) - 1
    between = [(0.0, -1, len(limits) - 1)]  # least sum possible, the places of two known limits
    while between:
        bound, low, high = heapq.heappop(between)
        if bound >= best * (1 - gap) or high - low < 2:
            continue
        middle = (low + high) // 2
        fills[middle] = _least_fill(costs, limits[middle], cores)
        if fills[middle] + limits[middle] < best:
            best, chosen = fills[middle] + limits[middle], middle
        for start, end in ((low, middle), (middle, high)):
            heapq.heappush(between, (limits[start + 1] + fills[end], start, end))
    return float(limits[chosen])


def _least_fill(costs: Costs, limit: float, cores: int) -> float:
    return float(_tables(costs, limit, cores)[0][-1, cores])


def _tables(costs: Costs, limit: float, cores: int) -> tuple[Array, Array]:
    """The least fill of the first layers on a number of cores, and of each run of layers on exactly so many."""
    totals = np.array([k * n for k, n in costs.shapes])
    allowed = np.where(costs.steady <= limit, costs.fill, math.inf)
    runs = np.minimum.reduceat(allowed, np.flatnonzero(np.diff(totals, prepend=0)), axis=2)
    layers = len(runs)
    table = np.full((layers + 1, cores + 2), math.inf)  # the last column stands for fewer cores than none
    table[0, : cores + 1] = 0.0
    left = _left(cores)
    for last in range(layers):
        options = table[: last + 1, left] + runs[: last + 1, last, None, :]
        table[last + 1, : cores + 1] = options.min(axis=(0, 2))
    return table, runs


@lru_cache(maxsize=64)
def _left(cores: int) -> np.ndarray[tuple[int, int], np.dtype[np.int_]]:
    """Cores left of so many (rows) when a stage takes one, two, ... of them (columns)."""
    left = np.arange(cores + 1)[:, None] - np.arange(1, cores + 1)
    return np.where(left < 0, cores + 1, left)


def _stages(costs: Costs, limit: float, cores: int) -> list[tuple[int, int, int]]:
    """First layer, last layer and shape of the stages with the least fill within the limit."""
    table, runs = _tables(costs, limit, cores)
    left = _left(cores)
    stages: list[tuple[int, int, int]] = []
    last = len(runs) - 1
    while last >= 0:
        options = table[: last + 1, left[cores]] + runs[: last + 1, last]
        first, taken = (int(place) for place in np.unravel_index(np.argmin(options), options.shape))
        total = taken + 1
        fitting = [
            place
            for place, (k, n) in enumerate(costs.shapes)
            if k * n == total and costs.steady[first, last, place] <= limit
        ]
        stages.append((first, last, min(fitting, key=lambda place: float(costs.fill[first, last, place]))))
        last, cores = first - 1, cores - total
    return stages[::-1]
