"""What the tasks of a batch send over the mesh."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuro_engine.cost.noc import Link, NocParameters, Traffic, all_reduce, multicast, reduction
from neuro_engine.mapping import CoreMapping, LayerWork, Setup
from neuro_engine.mapping.placement import first_cores, flows, grid, locate, place, replica_pairs


class Load(NamedTuple):
    """Traffic, ready to be sent: numbers of links, cycles on each, cycles of the last flit's hops, bytes times hops."""

    links: NDArray[np.int_]
    cycles: NDArray[np.float64]
    latency: float
    byte_hops: float


class Transfers:
    """The traffic between the layers of a mapping that is placed on a mesh.

    Args:
        work: the layers.
        mapping: a mapping with splits.
        setup: how the batch runs.
        noc: the mesh, or None where bytes between cores take no time.

    Attributes:
        links: the links that bytes travel, by number.
    """

    def __init__(
        self, work: tuple[LayerWork, ...], mapping: CoreMapping, setup: Setup, noc: NocParameters | None
    ) -> None:
        self.work, self.mapping, self.setup, self.noc = work, mapping, setup, noc
        self.nodes = place(work, mapping, noc.rows, noc.columns) if noc else ()
        self.links: dict[Link, int] = {}
        self._loads: dict[tuple[int, int, int, bool], Load | None] = {}

    def spikes(self, source: int, target: int, micro_batch: int) -> Load | None:
        """One tile of the spikes of layer `source` for layer `target`, in the replicas that have the micro-batch."""
        return self._between(source, target, micro_batch, forward=True)

    def gradients(self, source: int, target: int, micro_batch: int) -> Load | None:
        """One tile of the gradient of those spikes, on its way back.

        Layers that `target` adds up have one gradient: where they are on the same cores, only the last of them, whose
        BP is the first, waits for it.
        """
        cores = grid(self.mapping, source, micro_batch)
        if any(
            other > source and grid(self.mapping, other, micro_batch) == cores for other in self.work[target].inputs
        ):
            return None
        return self._between(source, target, micro_batch, forward=False)

    def weight_gradients(self, layer: int) -> Load | None:
        """The sum of a layer's weight gradients over the cores that have the same channels."""
        if self.noc is None:
            return None
        index, within = locate(self.mapping)[layer]
        stage, first, total = self.mapping.stages[index], first_cores(self.mapping)[index], Traffic()
        split = stage.splits[within]
        for part in range(split.channels):
            members = [
                self.nodes[first + replica * stage.cores + part * split.rows + row]
                for replica in range(stage.replicas)
                for row in range(split.rows)
            ]
            size = self.work[layer].exchanged.weight_gradients / split.channels
            total += all_reduce(self.noc, tuple(members), size)
        return self._load(self.noc, total)

    def _between(self, source: int, target: int, micro_batch: int, *, forward: bool) -> Load | None:
        if self.noc is None:
            return None
        key = source, target, micro_batch % replica_pairs(self.mapping, source, target), forward
        if key not in self._loads:
            exchanged, total = self.work[source].exchanged, Traffic()
            for flow in flows(self.work, self.mapping, source, target, micro_batch):
                at, readers = self.nodes[flow.producer], [self.nodes[core] for core in flow.consumers]
                if forward:
                    total += multicast(self.noc, at, readers, exchanged.spikes * flow.fraction / self.setup.tiles)
                else:
                    total += reduction(self.noc, readers, at, exchanged.gradients * flow.fraction / self.setup.tiles)
            self._loads[key] = self._load(self.noc, total)
        return self._loads[key]

    def _load(self, noc: NocParameters, traffic: Traffic) -> Load | None:
        if not traffic.flits:
            return None
        numbers = [self.links.setdefault(link, len(self.links)) for link in traffic.flits]
        cycles = np.array(list(traffic.flits.values())) / noc.flits_per_cycle
        return Load(np.array(numbers), cycles, traffic.hops * noc.hop_cycles, traffic.byte_hops)
