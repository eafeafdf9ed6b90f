"""A schedule: what each engine of each core does when, and what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from neuro_engine.cost.noc import Link
from neuro_engine.trace import Engine


class Stall(StrEnum):
    """What an engine waits for between two tasks, or before its first."""

    DEPENDENCY = "dependency"
    """Another engine, which has not computed the operands yet."""
    NOC = "noc"
    """Operands that are computed but on their way."""
    BUFFER = "buffer"
    """Room for another micro-batch in flight."""
    DRAM = "dram"
    """Bytes from or to DRAM."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One engine of the cores that work on the same tasks.

    Attributes:
        stage: number of the stage.
        replica: number of the replica; 0 for UPDATE, which all replicas share.
        engine: the engine.
        cores: the cores, by their place in the mapping.
        busy: cycles for which the busiest core works.
        core_busy: cycles for which each core works.
        stalls: cycles of waiting by cause. With `busy` they add up to `end`.
        end: when the last task ends, in cycles.
    """

    stage: int
    replica: int
    engine: Engine
    cores: tuple[int, ...]
    busy: float
    core_busy: tuple[float, ...]
    stalls: Mapping[Stall, float]
    end: float


@dataclass(frozen=True, slots=True)
class Event:
    """One task.

    Attributes:
        lane: place of its lane in the schedule.
        layer: the layer.
        micro_batch: the micro-batch; of an update, the last.
        tile: the part of the time steps; of an update, 0.
        start: cycle in which it starts.
        end: cycle in which it ends, on the busiest core.
    """

    lane: int
    layer: str
    micro_batch: int
    tile: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """A batch on a chip.

    Attributes:
        cycles: from the start to the end of the last update.
        lanes: the engines.
        events: the tasks, each after those that it needs.
        in_flight: for each stage, the most micro-batches that a replica holds at once: FP begun, BP or WG not done.
        dram_bytes: bytes moved to and from DRAM.
        dram_busy: cycles for which the DRAM is busy.
        link_busy: cycles for which each link of the mesh is busy.
        byte_hops: bytes times links passed, by the layer and engine whose results they are.
    """

    cycles: float
    lanes: tuple[Lane, ...] = ()
    events: tuple[Event, ...] = ()
    in_flight: tuple[int, ...] = ()
    dram_bytes: float = 0.0
    dram_busy: float = 0.0
    link_busy: Mapping[Link, float] = field(default_factory=dict)
    byte_hops: Mapping[tuple[str, Engine], float] = field(default_factory=dict)

    @property
    def utilisation(self) -> dict[int, dict[Engine, float]]:
        """For each core, the fraction of the batch's cycles in which each engine works."""
        cores: dict[int, dict[Engine, float]] = {}
        for lane in self.lanes:
            for core, busy in zip(lane.cores, lane.core_busy, strict=True):
                cores.setdefault(core, {})[lane.engine] = busy / self.cycles if self.cycles else 0.0
        return cores

    @property
    def stalls(self) -> dict[Stall, float]:
        """Engine-cycles of waiting by cause, over the cores of all lanes that have work."""
        total: Counter[Stall] = Counter()
        for lane in (lane for lane in self.lanes if lane.busy):
            total.update({cause: cycles * len(lane.cores) for cause, cycles in lane.stalls.items()})
        return {cause: total[cause] for cause in Stall}

    @property
    def bubble(self) -> float:
        """Fraction of the batch's cycles in which the busiest engine does not work; 0.0 for an empty schedule."""
        return 1 - max(self._core_busy().values(), default=0.0) if self.cycles else 0.0

    @property
    def balance(self) -> float:
        """Work of the cores' busiest engines, mean over that of the busiest core; 1.0 for an empty schedule."""
        busy = self._core_busy().values()
        return sum(busy) / (len(busy) * max(busy)) if busy and max(busy) else 1.0

    def _core_busy(self) -> dict[int, float]:
        return {core: max(engines.values()) for core, engines in self.utilisation.items()}
