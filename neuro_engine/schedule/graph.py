"""The tasks of a batch and what each needs: a graph without cycles, whatever the sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from neuro_engine.cost.noc import NocParameters
from neuro_engine.mapping import CoreMapping, LayerWork, Setup, Stage, busiest_share, core_shares, refetch_fraction
from neuro_engine.mapping.placement import locate
from neuro_engine.schedule.transfers import Load, Transfers
from neuro_engine.trace import Engine

_ARRAYS = (Engine.FP, Engine.BP, Engine.WG)
_PLACE = {engine: place for place, engine in enumerate(Engine)}


class Need(NamedTuple):
    """A task that must end first, and its result's way over the network."""

    task: int
    load: Load | None = None


class LaneKey(NamedTuple):
    """An engine of a replica of a stage; UPDATE is shared by the replicas and has replica 0."""

    stage: int
    replica: int
    engine: Engine


@dataclass(slots=True)
class Task:
    """One engine, layer, micro-batch and tile.

    Attributes:
        lane: place of its engine among the lanes.
        layer: place of its layer.
        micro_batch: its micro-batch.
        tile: its part of the time steps.
        cycles: how long it takes on the busiest core.
        previous: the task before it on its engine, or on the array that the engines share; -1 for the first.
        needs: the tasks whose results it reads.
        frees: the tasks after which there is room for it.
        gathered: traffic that starts when all it needs has ended, or None.
        dram_bytes: bytes that it moves to and from DRAM.
    """

    lane: int
    layer: int
    micro_batch: int
    tile: int
    cycles: float
    previous: int
    needs: list[Need] = field(default_factory=list)
    frees: list[int] = field(default_factory=list)
    gathered: Load | None = None
    dram_bytes: float = 0.0

    @property
    def before(self) -> list[int]:
        """All tasks that end before it starts."""
        own = [self.previous] if self.previous >= 0 else []
        return own + [need.task for need in self.needs] + self.frees


class Graph:
    """The tasks of one batch.

    FP of a layer follows FP of the layers that it reads, tile by tile; BP follows BP of the layers that read it, from
    the last tile to the first, or in the last layers FP of all tiles; WG follows BP, whose gradient it shares; UPDATE
    follows WG of all micro-batches and the sum over replicas. Each engine has a fixed order: micro-batches, layers,
    tiles. A replica starts FP of a micro-batch when an earlier one has left (1F1B).

    Args:
        work: the layers.
        mapping: a mapping with splits, of `search` or `greedy`.
        setup: the chip and how the batch runs.
        noc: the mesh, or None where bytes between cores take no time.
        in_flight: the most micro-batches that a replica of a stage may hold, or None for as many as it can use.

    Attributes:
        lanes: the engines in use.
        tasks: the tasks. Their order means nothing.
        transfers: what they send.
    """

    def __init__(
        self,
        work: tuple[LayerWork, ...],
        mapping: CoreMapping,
        setup: Setup,
        noc: NocParameters | None = None,
        in_flight: int | None = None,
    ) -> None:
        self.work, self.mapping, self.setup, self.in_flight = work, mapping, setup, in_flight
        self.transfers = Transfers(work, mapping, setup, noc)
        self.lanes: list[LaneKey] = []
        tasks = 3 * len(work) * setup.micro_batches * setup.tiles + len(work)
        self.tasks = [Task(-1, 0, 0, 0, 0.0, -1) for _ in range(tasks)]
        for index, stage in enumerate(mapping.stages):
            for replica in range(stage.replicas):
                self._replica(index, stage, replica)
            self._updates(index, stage)

    def number(self, engine: Engine, layer: int, micro_batch: int = 0, tile: int = 0) -> int:
        """The place of a task."""
        batch, tiles, layers = self.setup.micro_batches, self.setup.tiles, len(self.work)
        if engine is Engine.UPDATE:
            return 3 * layers * batch * tiles + layer
        return ((_PLACE[engine] * layers + layer) * batch + micro_batch) * tiles + tile

    def layers(self, index: int) -> range:
        """The places of a stage's layers."""
        first = sum(len(stage.layers) for stage in self.mapping.stages[:index])
        return range(first, first + len(self.mapping.stages[index].layers))

    def core_cycles(self, key: LaneKey, layer: int) -> tuple[float, ...]:
        """Cycles of a layer's task, all tiles, on each core of a lane."""
        stage, of = self.mapping.stages[key.stage], self.work[layer]
        if key.engine is Engine.UPDATE:
            return (of.cycles.update / (stage.cores * stage.replicas),) * (stage.cores * stage.replicas)
        split = stage.splits[locate(self.mapping)[layer][1]]
        return tuple(of.cycles[_PLACE[key.engine]] * share for share in core_shares(of.geometry, split, of.grain))

    @cached_property
    def limits(self) -> list[int]:
        """Micro-batches that a replica of each stage holds at most.

        A micro-batch stays in a stage from its FP until BP has come back through all later stages and WG is done. By
        Little's law, that time over the time between two micro-batches of a replica is the number that keeps all
        engines busy; one more covers transfers. For one array in place of three that is 1F1B's count, stages - stage.
        """
        stages, times = self.mapping.stages, [self._times(index) for index in range(len(self.mapping.stages))]
        join = sum if self.setup.shared_engines else max
        pace = max((join(own) / stage.replicas for own, stage in zip(times, stages, strict=True)), default=0.0)
        limits: list[int] = []
        for index, stage in enumerate(stages):
            trip = sum(fp + bp for fp, bp, _ in times[index:]) + times[index][2]
            if self.setup.shared_engines:
                trip += sum(wg for _, _, wg in times[index + 1 :])
            limit = math.ceil(trip / pace / stage.replicas - 1e-9) + 1 if pace else self.setup.micro_batches
            limit = min(limit, self.in_flight or limit)
            if self.setup.shared_engines:
                # BP must not wait behind FP of a micro-batch that an earlier stage holds back until that BP is done.
                before = zip(limits, stages, strict=False)
                limit = min([limit, *(math.ceil(held * of.replicas / stage.replicas) for held, of in before)])
            limits.append(limit)
        return limits

    def _times(self, index: int) -> tuple[float, float, float]:
        """Cycles of FP, BP and WG of a stage for one micro-batch."""
        fp, bp, wg = (sum(self._cycles(layer, engine) for layer in self.layers(index)) for engine in _ARRAYS)
        return fp, bp, wg

    def _cycles(self, layer: int, engine: Engine) -> float:
        index, within = locate(self.mapping)[layer]
        of, split = self.work[layer], self.mapping.stages[index].splits[within]
        return of.cycles[_PLACE[engine]] * busiest_share(of.geometry, split, of.grain)

    def _replica(self, index: int, stage: Stage, replica: int) -> None:
        """FP, BP and WG of one replica, in the order of each array."""
        layers, tiles = self.layers(index), range(self.setup.tiles)
        batches = range(replica, self.setup.micro_batches, stage.replicas)
        lanes = {engine: len(self.lanes) + place for place, engine in enumerate(_ARRAYS)}
        self.lanes += [LaneKey(index, replica, engine) for engine in _ARRAYS]
        each = [(engine, layer) for engine in _ARRAYS for layer in layers]
        cycles = {key: self._cycles(key[1], key[0]) / self.setup.tiles for key in each}
        dram = {key: self._dram_bytes(stage, layers, key[1], _PLACE[key[0]]) for key in each}
        for turns in self._turns(batches, self.limits[index]):
            previous = -1
            for engines, micro_batch in turns:
                forward = Engine.FP in engines
                for layer in layers if forward else layers[::-1]:
                    for engine in engines:
                        for tile in tiles if forward else tiles[::-1]:
                            key = engine, layer
                            task = Task(lanes[engine], layer, micro_batch, tile, cycles[key], previous)
                            task.dram_bytes = dram[key]
                            task.needs = self._needs(engine, layer, micro_batch, tile)
                            previous = self.number(engine, layer, micro_batch, tile)
                            self.tasks[previous] = task
        for gone, entering in zip(batches, batches[self.limits[index] :], strict=False):
            self.tasks[self.number(Engine.FP, layers[0], entering)].frees = [
                self.number(engine, layers[0], gone) for engine in (Engine.BP, Engine.WG)
            ]

    def _turns(self, batches: Sequence[int], limit: int) -> list[list[tuple[tuple[Engine, ...], int]]]:
        """What each array does, micro-batch by micro-batch: one engine, or all of them in 1F1B's order."""
        if not self.setup.shared_engines:
            return [[((engine,), batch) for batch in batches] for engine in _ARRAYS]
        turns: list[tuple[tuple[Engine, ...], int]] = [((Engine.FP,), batch) for batch in batches[:limit]]
        for place, batch in enumerate(batches):
            turns.append(((Engine.BP, Engine.WG), batch))
            turns += [((Engine.FP,), entering) for entering in batches[limit + place : limit + place + 1]]
        return [turns]

    def _updates(self, index: int, stage: Stage) -> None:
        """UPDATE of a stage's layers, the last first, on the cores of all replicas."""
        last = self.setup.micro_batches - 1
        lane, previous = len(self.lanes), -1
        self.lanes.append(LaneKey(index, 0, Engine.UPDATE))
        for layer in self.layers(index)[::-1]:
            of = self.work[layer]
            cycles = of.cycles.update / (stage.cores * stage.replicas)
            task = Task(lane, layer, last, 0, cycles, previous, dram_bytes=of.dram_bytes.update)
            working = range(max(0, last + 1 - stage.replicas), last + 1)
            task.needs = [Need(self.number(Engine.WG, layer, micro_batch)) for micro_batch in working]
            task.gathered = self.transfers.weight_gradients(layer)
            previous = self.number(Engine.UPDATE, layer)
            self.tasks[previous] = task

    def _needs(self, engine: Engine, layer: int, micro_batch: int, tile: int) -> list[Need]:
        if engine is Engine.WG:
            return [Need(self.number(Engine.BP, layer, micro_batch, tile))]
        if engine is Engine.FP:
            return [
                Need(self.number(engine, source, micro_batch, tile), self.transfers.spikes(source, layer, micro_batch))
                for source in self.work[layer].inputs
                if source != layer
            ]
        readers = self._readers[layer]
        if not readers:  # the loss reads the outputs of all time steps
            return [Need(self.number(Engine.FP, layer, micro_batch, self.setup.tiles - 1))]
        return [
            Need(self.number(engine, reader, micro_batch, tile), self.transfers.gradients(layer, reader, micro_batch))
            for reader in readers
        ]

    @cached_property
    def _readers(self) -> list[list[int]]:
        layers = range(len(self.work))
        return [[r for r in layers if layer in self.work[r].inputs and r != layer] for layer in layers]

    def _dram_bytes(self, stage: Stage, layers: range, layer: int, engine: int) -> float:
        """Bytes of a tile, with the weights that the stage's buffers have no room for."""
        pairs = zip(layers, stage.splits, strict=True)
        resident = sum(self.work[of].resident.bytes / split.channels for of, split in pairs)
        rows = stage.splits[layer - layers[0]].rows  # cores that share weights have a copy each
        refetched = refetch_fraction(resident, self.setup) * self.work[layer].resident.refetched[engine] * rows
        return (self.work[layer].dram_bytes[engine] + refetched) / self.setup.tiles
