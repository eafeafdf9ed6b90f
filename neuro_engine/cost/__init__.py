"""What a trace costs on a chip: cycles, joules and DRAM bytes.

A pure function of integers and a chip, without torch: `cost(trace, chip)`. How each part is computed is written in
`cycles`, `energy` and `dram`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from neuro_engine.chip import Chip
from neuro_engine.cost.cycles import engine_cycles, latency_cycles
from neuro_engine.cost.dram import traffic
from neuro_engine.cost.energy import Component, peak_dense_tflops_per_w, trace_pj
from neuro_engine.trace import Engine, TensorClass, Trace

__all__ = ["Component", "Cost", "cost", "peak_dense_tflops_per_w"]

_Key = TypeVar("_Key")
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Cost:
    """The bill for a trace on a chip; bills for one chip add up, as work done one after the other.

    Attributes:
        cycles: latency on the whole chip, in cycles.
        engine_cycles: busy core-cycles by engine.
        energy_pj: energy by engine and component, in pJ.
        dram_reads: bytes read from DRAM by tensor class.
        dram_writes: bytes written to DRAM by tensor class.
    """

    cycles: int = 0
    engine_cycles: Mapping[Engine, int] = field(default_factory=dict)
    energy_pj: Mapping[tuple[Engine, Component], float] = field(default_factory=dict)
    dram_reads: Mapping[TensorClass, int] = field(default_factory=dict)
    dram_writes: Mapping[TensorClass, int] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.cycles + other.cycles,
            _sum(self.engine_cycles, other.engine_cycles),
            _sum(self.energy_pj, other.energy_pj),
            _sum(self.dram_reads, other.dram_reads),
            _sum(self.dram_writes, other.dram_writes),
        )

    @property
    def energy_j(self) -> float:
        """Energy in joules, DRAM included."""
        return sum(self.energy_pj.values()) * 1e-12

    @property
    def core_energy_j(self) -> float:
        """Energy of the cores in joules, DRAM left out."""
        return sum(pj for (_, part), pj in self.energy_pj.items() if part is not Component.DRAM) * 1e-12

    @property
    def energy_by_engine_j(self) -> dict[Engine, float]:
        """Energy in joules by engine."""
        return {engine: sum(pj for (of, _), pj in self.energy_pj.items() if of is engine) * 1e-12 for engine in Engine}

    @property
    def energy_by_component_j(self) -> dict[Component, float]:
        """Energy in joules by component."""
        return {part: sum(pj for (_, of), pj in self.energy_pj.items() if of is part) * 1e-12 for part in Component}

    @property
    def dram_bytes(self) -> dict[TensorClass, int]:
        """Bytes moved to and from DRAM by tensor class."""
        return _sum(self.dram_reads, self.dram_writes)

    @property
    def dram_total_bytes(self) -> int:
        """Bytes moved to and from DRAM."""
        return sum(self.dram_reads.values()) + sum(self.dram_writes.values())

    def seconds(self, chip: Chip) -> float:
        """Latency in seconds at the clock of `chip`."""
        return self.cycles / chip.clock.frequency_hz


def cost(trace: Trace, chip: Chip) -> Cost:
    """What the work in `trace` costs on `chip`.

    Energy and bytes of summed traces are the sums of their energies and bytes. Cycles need not be: batches that are
    not alike are averaged in a summed trace.

    Args:
        trace: what the engines did.
        chip: the chip.

    Raises:
        ValueError: the trace holds work but no steps or fewer samples than steps.
    """
    reads, writes = traffic(trace)
    moved = sum(reads.values()) + sum(writes.values())
    return Cost(latency_cycles(trace, chip, moved), engine_cycles(trace, chip), trace_pj(trace, chip), reads, writes)


def _sum(a: Mapping[_Key, _Number], b: Mapping[_Key, _Number]) -> dict[_Key, _Number]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}
