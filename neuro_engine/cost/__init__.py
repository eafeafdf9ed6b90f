"""What a trace costs on a chip: cycles, joules and DRAM bytes.

A pure function of integers and a chip, without torch: `cost(trace, chip)`. How each part is computed is written in
`dataflow`, `arrays`, `cycles`, `energy` and `dram`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from neuro_engine.chip import Chip
from neuro_engine.cost.arrays import IDLE, array_work
from neuro_engine.cost.cycles import latency_cycles, neuron_cycles
from neuro_engine.cost.dram import Traffic, fp_runs, traffic
from neuro_engine.cost.energy import Component, Efficiencies, Prices, is_mac, peak_dense_tflops_per_w
from neuro_engine.trace import Engine, TensorClass, Trace

__all__ = ["Component", "Cost", "Efficiencies", "LayerCost", "cost", "peak_dense_tflops_per_w"]

_Key = TypeVar("_Key")
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """The bill of one engine for one layer, for a row of a table; bills of the same layer and engine add up.

    Attributes:
        cycles: cycles for which the engine would keep one core busy.
        balanced_cycles: the same if the lanes of its array did not wait for each other.
        ideal_cycles: the same if, besides, every lane were at work in every cycle: the roofline.
        dense_ops: synaptic operations if nothing were skipped; in UPDATE, weights.
        executed_ops: synaptic operations with two non-zero operands and, in BP, a needed result; in UPDATE, weights.
        multiplies: whether an operation is a multiplication and an addition.
        energy_pj: energy by component, in pJ.
        dram_reads: bytes read from DRAM by tensor class.
        dram_writes: bytes written to DRAM by tensor class.
    """

    cycles: int = 0
    balanced_cycles: int = 0
    ideal_cycles: int = 0
    dense_ops: int = 0
    executed_ops: int = 0
    multiplies: bool = False
    energy_pj: Mapping[Component, float] = field(default_factory=dict)
    dram_reads: Mapping[TensorClass, int] = field(default_factory=dict)
    dram_writes: Mapping[TensorClass, int] = field(default_factory=dict)

    def __add__(self, other: LayerCost) -> LayerCost:
        return LayerCost(
            self.cycles + other.cycles,
            self.balanced_cycles + other.balanced_cycles,
            self.ideal_cycles + other.ideal_cycles,
            self.dense_ops + other.dense_ops,
            self.executed_ops + other.executed_ops,
            self.multiplies or other.multiplies,
            _sum(self.energy_pj, other.energy_pj),
            _sum(self.dram_reads, other.dram_reads),
            _sum(self.dram_writes, other.dram_writes),
        )

    @property
    def utilisation(self) -> float:
        """Fraction of the lanes' cycles in which an operation that counts was done; 1.0 for no work."""
        return self.ideal_cycles / self.cycles if self.cycles else 1.0

    @property
    def imbalance(self) -> float:
        """How many times longer it takes because lanes wait for each other; 1.0 where none waits."""
        return self.cycles / self.balanced_cycles if self.balanced_cycles else 1.0

    @property
    def energy_j(self) -> float:
        """Energy in joules, DRAM included."""
        return sum(self.energy_pj.values()) * 1e-12

    @property
    def dram_bytes(self) -> int:
        """Bytes moved to and from DRAM."""
        return sum(self.dram_reads.values()) + sum(self.dram_writes.values())


@dataclass(frozen=True, slots=True)
class Cost:
    """The bill for a trace on a chip; bills for one chip add up, as work done one after the other.

    Attributes:
        cycles: latency on the whole chip, in cycles.
        engine_cycles: busy core-cycles by engine.
        energy_pj: energy by engine and component, in pJ.
        dram_reads: bytes read from DRAM by tensor class.
        dram_writes: bytes written to DRAM by tensor class.
        layers: the part of each layer and engine.
    """

    cycles: int = 0
    engine_cycles: Mapping[Engine, int] = field(default_factory=dict)
    energy_pj: Mapping[tuple[Engine, Component], float] = field(default_factory=dict)
    dram_reads: Mapping[TensorClass, int] = field(default_factory=dict)
    dram_writes: Mapping[TensorClass, int] = field(default_factory=dict)
    layers: Mapping[tuple[str, Engine], LayerCost] = field(default_factory=dict)

    def __add__(self, other: Cost) -> Cost:
        none = LayerCost()
        return Cost(
            self.cycles + other.cycles,
            _sum(self.engine_cycles, other.engine_cycles),
            _sum(self.energy_pj, other.energy_pj),
            _sum(self.dram_reads, other.dram_reads),
            _sum(self.dram_writes, other.dram_writes),
            {key: self.layers.get(key, none) + other.layers.get(key, none) for key in {**self.layers, **other.layers}},
        )

    @property
    def energy_j(self) -> float:
        """Energy in joules, DRAM included."""
        return sum(self.energy_pj.values()) * 1e-12

    @property
    def core_energy_j(self) -> float:
        """Energy of the chip in joules, DRAM left out."""
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

    def efficiencies(self, chip: Chip) -> Efficiencies:
        """The four efficiencies of this bill on `chip`; 0.0 where no energy was spent."""
        synaptic = [layer for (_, engine), layer in self.layers.items() if engine is not Engine.UPDATE]
        dense = sum(2 * layer.dense_ops for layer in synaptic)
        executed = sum((2 if layer.multiplies else 1) * layer.executed_ops for layer in synaptic)
        core, system = self.core_energy_j, self.energy_j
        return Efficiencies(
            peak_dense_tflops_per_w(chip),
            dense / core * 1e-12 if core else 0.0,
            executed / core * 1e-12 if core else 0.0,
            dense / system * 1e-12 if system else 0.0,
        )


def cost(
    trace: Trace,
    chip: Chip,
    *,
    byte_hops: Mapping[tuple[str, Engine], float] | None = None,
    needed: Mapping[str, float] | None = None,
) -> Cost:
    """What the work in `trace` costs on `chip`.

    Energy and bytes of summed traces are the sums of their energies and bytes, as long as they are traces of the same
    network and batch size. Cycles need not be: batches that are not alike are averaged in a summed trace.

    Args:
        trace: what the engines did.
        chip: the chip.
        byte_hops: bytes times links that they pass in the network on chip, by layer and engine
            (`neuro_engine.cost.noc`); without them the network takes no energy.
        needed: fraction of BP's operations whose result is needed, by layer; all are where nothing is given.

    Raises:
        ValueError: the trace holds work but no steps or fewer samples than steps, or a fraction is none.
    """
    prices, moved = Prices(chip), traffic(trace, chip)
    layers: dict[tuple[str, Engine], LayerCost] = {}
    for layer, engine, _ in trace:
        hops, part = (byte_hops or {}).get((layer, engine), 0.0), (needed or {}).get(layer, 1.0)
        bill = _layer_cost(layer, engine, trace, chip, prices, moved[layer, engine], hops, part)
        if bill.cycles or bill.energy_pj:
            layers[layer, engine] = bill
    engine_cycles: dict[Engine, int] = {}
    energy_pj: dict[tuple[Engine, Component], float] = {}
    reads: dict[TensorClass, int] = {}
    writes: dict[TensorClass, int] = {}
    for (_, engine), bill in layers.items():
        _add(engine_cycles, {engine: bill.cycles} if bill.cycles else {})
        _add(energy_pj, {(engine, component): pj for component, pj in bill.energy_pj.items()})
        _add(reads, bill.dram_reads)
        _add(writes, bill.dram_writes)
    busy = {key: bill.cycles for key, bill in layers.items()}
    cycles = latency_cycles(busy, trace, chip, sum(reads.values()) + sum(writes.values()))
    return Cost(cycles, engine_cycles, energy_pj, reads, writes, layers)


def _layer_cost(
    layer: str,
    engine: Engine,
    trace: Trace,
    chip: Chip,
    prices: Prices,
    moved: Traffic,
    byte_hops: float,
    needed: float,
) -> LayerCost:
    count = trace.count(layer, engine)
    beside = neuron_cycles(engine, count, chip)
    if engine is Engine.UPDATE:
        work, multiplies, runs = IDLE, True, 1
        dynamic = prices.update_pj(count.dense_ops)
    else:
        density = trace.gradient_density(layer) if engine is Engine.WG else 1.0
        shape = trace.geometry.get(layer)
        work = array_work(engine, count, shape, trace.steps, chip, gradient_density=density, needed=needed)
        multiplies, runs = is_mac(engine, count.multiplies), fp_runs(trace, layer, chip) if engine is Engine.FP else 1
        dynamic = prices.array_pj(engine, multiplies, work)
        dynamic[Component.NEURON] = count.neuron_updates * prices.neuron_pj(engine)
    return LayerCost(
        runs * max(work.cycles, beside),
        runs * max(work.balanced, beside),
        runs * max(work.ideal, beside),
        count.dense_ops,
        round(count.executed_ops * (needed if engine is Engine.BP else 1.0)),
        multiplies,
        prices.bill_pj({part: runs * pj for part, pj in dynamic.items()}, moved.bytes, byte_hops),
        moved.reads,
        moved.writes,
    )


def _add(total: dict[_Key, _Number], part: Mapping[_Key, _Number]) -> None:
    for key, value in part.items():
        total[key] = total.get(key, 0) + value


def _sum(a: Mapping[_Key, _Number], b: Mapping[_Key, _Number]) -> dict[_Key, _Number]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in {**a, **b}}
