"""Where the stages' cores are on the mesh, and which of them exchange spikes and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import lcm

import numpy as np

from neuro_engine.mapping.closed_form import Array, Work
from neuro_engine.mapping.greedy import CoreMapping, Stage
from neuro_engine.mapping.split import Split, core_shares, margin, row_spans


@dataclass(frozen=True, slots=True)
class Flow:
    """A part of one layer's output on one core, and the cores that read it; its gradient flows back.

    Attributes:
        producer: the core, by its place in the mapping.
        consumers: the other cores that read this part, or compute a part of its gradient.
        fraction: the part, of the layer's output.
    """

    producer: int
    consumers: tuple[int, ...]
    fraction: float


def first_cores(mapping: CoreMapping) -> tuple[int, ...]:
    """The first core of each stage. Cores are counted by stage, by replica and by place in the layers' grids."""
    return tuple(accumulate((stage.cores * stage.replicas for stage in mapping.stages[:-1]), initial=0))


def flows(work: Work, mapping: CoreMapping, source: int, target: int, micro_batch: int) -> tuple[Flow, ...]:
    """What layer `target` reads of layer `source`, in the replicas that have the micro-batch.

    Args:
        work: the layers.
        mapping: a mapping with splits.
        source: place of the layer that fires.
        target: place of the layer that reads.
        micro_batch: its number, which chooses the replicas.
    """
    (first_a, split_a), (first_b, split_b) = (grid(mapping, place, micro_batch) for place in (source, target))
    halo = margin(work[target].geometry) / 2 if split_b.rows > 1 else 0.0
    return tuple(
        Flow(first_a + core, readers, fraction)
        for core, parts, fraction in _parts(work, source, target, split_a, split_b, halo)
        if (readers := tuple(first_b + reader for reader in parts if first_b + reader != first_a + core))
    )


def grid(mapping: CoreMapping, place: int, micro_batch: int) -> tuple[int, Split]:
    """The first core of a layer in the replica that has the micro-batch, and the layer's grid."""
    index, within = locate(mapping)[place]
    stage = mapping.stages[index]
    return first_cores(mapping)[index] + stage.cores * (micro_batch % stage.replicas), stage.splits[within]


@lru_cache(maxsize=256)
def locate(mapping: CoreMapping) -> tuple[tuple[int, int], ...]:
    """Stage of each layer, and the layer's place in it."""
    return tuple((index, place) for index, stage in enumerate(mapping.stages) for place in range(len(stage.layers)))


def _parts(
    work: Work, source: int, target: int, split_a: Split, split_b: Split, halo: float
) -> Iterator[tuple[int, list[int], float]]:
    """Core of the source, cores of the target that read the same rows of it, and the fraction of the output."""
    spans_a, spans_b = row_spans(work[source].geometry, split_a), row_spans(work[target].geometry, split_b)
    shares = core_shares(work[source].geometry, split_a, work[source].grain)
    working = core_shares(work[target].geometry, split_b, work[target].grain)
    for core, share in enumerate(shares):
        start, end = spans_a[core % split_a.rows]
        for row, (low, high) in enumerate(spans_b):
            common = min(end, high + halo) - max(start, low - halo)
            readers = [reader for reader in range(row, split_b.cores, split_b.rows) if working[reader]]
            if share and common > 0:
                yield core, readers, share * common / (end - start)


def place(work: Work, mapping: CoreMapping, rows: int, columns: int) -> tuple[int, ...]:
    """The node of each core, chosen so that bytes travel few hops.

    Cores start along a snake, row after row, so that neighbours in the pipeline are neighbours on the mesh; where
    there are more cores than nodes, as few as possible share one. Then pairs of cores swap places for as long as the
    best swap lessens bytes times hops (steepest descent). Every reader is counted with a route of its own: that
    multicast shares links is left out.
    """
    each = max(1, -(-mapping.cores // (rows * columns)))
    node = np.repeat(np.arange(rows * columns), each)
    row, column = np.divmod(node, columns)
    hops = np.abs(row[:, None] - row) + np.abs(column[:, None] - column)
    order = np.lexsort((np.where(row % 2, -column, column), row))
    bytes_ = _bytes(work, mapping, len(node))
    for _ in range(4 * len(node)):
        apart = hops[order][:, order]
        reached = bytes_ @ apart
        own = np.diagonal(reached)
        gain = own[:, None] + own - reached - reached.T - 2 * bytes_ * apart
        a, b = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[a, b] <= 1e-9 * own.sum():
            break
        order[[a, b]] = order[[b, a]]
    return tuple(int(at) for at in node[order][: mapping.cores])


def _bytes(work: Work, mapping: CoreMapping, places: int) -> Array:
    """Bytes that each pair of cores exchanges for one micro-batch, on average: symmetric."""
    between = np.zeros((places, places))
    for target, layer in enumerate(work):
        for source in layer.inputs:
            moved = work[source].exchanged.spikes + work[source].exchanged.gradients
            pairs = replica_pairs(mapping, source, target)
            for micro_batch in range(pairs):
                for flow in flows(work, mapping, source, target, micro_batch):
                    between[flow.producer, list(flow.consumers)] += moved * flow.fraction / pairs
    return between + between.T


def replica_pairs(mapping: CoreMapping, source: int, target: int) -> int:
    """Micro-batches after which the same replicas of two layers meet again."""
    stages: list[Stage] = [mapping.stages[locate(mapping)[place][0]] for place in (source, target)]
    return lcm(*(stage.replicas for stage in stages))
