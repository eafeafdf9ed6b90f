"""Energy of a layer's work on a chip, by component, and the efficiencies that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Energy
from neuro_engine.cost.arrays import ArrayWork, Reads, oriented
from neuro_engine.cost.dataflow import full_tile
from neuro_engine.trace import Engine

Parts = dict["Component", float]

_KB = 1024


class Component(StrEnum):
    """Where energy goes."""

    MULTIPLY = "multiply"
    """Multipliers of the arrays and of the optimizer."""
    ADD = "add"
    """Adders of the arrays and of the optimizer."""
    REGISTER = "register"
    """Operand and accumulator registers of the arrays."""
    SRAM = "sram"
    """Operands and partial sums of the arrays, to and from the buffers."""
    NEURON = "neuron"
    """Neuron dynamics: arithmetic and state."""
    CONTROL = "control"
    """Clock and control of the core."""
    LEAKAGE = "leakage"
    """Leakage of the core."""
    NOC = "noc"
    """Routers and links between the cores."""
    DRAM = "dram"
    """Traffic to and from DRAM."""


def sram_pj_per_bit(energy: Energy, size_bytes: float) -> float:
    """Energy of a bit read from or written to an SRAM array of `size_bytes`, in pJ.

    Word and bit lines are as long as the square root of the size: linear in it between the sizes that the chip gives
    (Horowitz, ISSCC 2014, has 8 KB, 32 KB and 1 MB), proportional to it above, and that of 8 KB below.
    """
    sizes = [math.sqrt(size * _KB) for size in (8, 32, 1024)]
    prices = [energy.sram_8kb_pj_per_bit, energy.sram_32kb_pj_per_bit, energy.sram_1mb_pj_per_bit]
    root = math.sqrt(size_bytes)
    if root <= sizes[0]:
        return prices[0]
    if root >= sizes[2]:
        return prices[2] * root / sizes[2]
    at = 0 if root < sizes[1] else 1
    share = (root - sizes[at]) / (sizes[at + 1] - sizes[at])
    return (1 - share) * prices[at] + share * prices[at + 1]


def is_mac(engine: Engine, multiplies: bool) -> bool:
    """Whether a synaptic operation multiplies: always in BP, and where the input is analog."""
    return engine is Engine.BP or multiplies


class Prices:
    """What a chip's operations and words cost, worked out once for a whole trace."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip
        memory = chip.memory
        self._weights, self._weight_gradients, self._spikes, self._state = (
            sram_pj_per_bit(chip.energy, min(buffer, memory.bank_bytes))
            for buffer in (
                memory.weight_buffer_bytes,
                memory.weight_gradient_buffer_bytes,
                memory.spike_in_buffer_bytes,
                memory.state_buffer_bytes,
            )
        )

    def array_pj(self, engine: Engine, multiplies: bool, work: ArrayWork) -> Parts:
        """Dynamic energy of an array, in pJ.

        A spike selects a word for FP32 accumulation; only a MAC multiplies, FP16 by FP16 to an exact product.

        Args:
            engine: FP, BP or WG.
            multiplies: whether the input of FP or WG is analog rather than spikes.
            work: what the array does.
        """
        energy, memory = self._chip.energy, self._chip.memory
        mac = is_mac(engine, multiplies)
        operand = memory.word_bits if mac else 1
        register_bits = memory.accumulator_bits + memory.word_bits + operand
        return {
            Component.MULTIPLY: work.operations * energy.fp16_multiply_pj if mac else 0.0,
            Component.ADD: work.operations * energy.fp32_add_pj,
            Component.REGISTER: work.operations * register_bits * energy.register_pj_per_bit,
            Component.SRAM: self._sram_pj(engine, operand, work.reads),
        }

    def _sram_pj(self, engine: Engine, operand: int, reads: Reads) -> float:
        """Operands of FP: inputs and weights; of BP: gradients and weights; of WG: gradients and inputs."""
        word, sum_bits = self._chip.memory.word_bits, self._chip.memory.accumulator_bits
        (first_bits, first), (second_bits, second), partial = {
            Engine.FP: ((operand, self._spikes), (word, self._weights), self._state),
            Engine.BP: ((word, self._state), (word, self._weights), self._state),
            Engine.WG: ((word, self._state), (operand, self._spikes), self._weight_gradients),
        }[engine]
        return (
            (reads.first * first_bits + reads.bitmap) * first
            + reads.second * second_bits * second
            + reads.partial * sum_bits * partial
        )

    def operation_pj(self, engine: Engine, multiplies: bool) -> Parts:
        """Dynamic energy of one synaptic operation where all lanes are at work, in pJ."""
        parts = full_tile(self._chip.dataflow.of(engine), *oriented(engine, self._chip))
        return self.array_pj(engine, multiplies, ArrayWork(1, 1, 1, 1.0, Reads(*parts)))

    def neuron_pj(self, engine: Engine) -> float:
        """Dynamic energy of one neuron in one time step, in pJ: FP16 arithmetic, state through SRAM; 0.0 in WG."""
        energy, work = self._chip.energy, self._chip.neuron
        multiplies, adds, bits = {
            Engine.FP: (work.fp_multiplies, work.fp_adds, work.fp_state_bits),
            Engine.BP: (work.bp_multiplies, work.bp_adds, work.bp_state_bits),
        }.get(engine, (0, 0, 0))
        return multiplies * energy.fp16_multiply_pj + adds * energy.fp16_add_pj + bits * self._state

    def update_pj(self, weights: int) -> Parts:
        """Dynamic energy of the FP32 arithmetic of an optimizer step on `weights` weights, in pJ."""
        energy, update = self._chip.energy, self._chip.update
        return {
            Component.MULTIPLY: weights * update.multiplies * energy.fp32_multiply_pj,
            Component.ADD: weights * update.adds * energy.fp32_add_pj,
        }

    def bill_pj(self, dynamic: Mapping[Component, float], dram_bytes: int, byte_hops: float) -> Parts:
        """All energy, in pJ, given the dynamic energy of the core; what takes none is left out.

        Control is a fraction of the dynamic energy of the core, leakage a fraction of both together; network and
        DRAM have neither.
        """
        overhead, energy = self._chip.overhead, self._chip.energy
        core = sum(dynamic.values())
        control = core * overhead.control_fraction
        parts = {
            **dynamic,
            Component.CONTROL: control,
            Component.LEAKAGE: (core + control) * overhead.leakage_fraction,
            Component.NOC: 8 * byte_hops * energy.noc_pj_per_bit_hop,
            Component.DRAM: 8 * dram_bytes * energy.dram_pj_per_bit,
        }
        return {component: picojoules for component, picojoules in parts.items() if picojoules}


def peak_dense_tflops_per_w(chip: Chip) -> float:
    """Peak efficiency of the BP array, in TFLOPS/W at FP16; see `Efficiencies.DEFINITIONS`.

    For `core20_28nm` it is about 1.06, which is consistent with the 1.05 TFLOPS/W that arXiv:2412.05302 states without
    a definition; it is no reproduction, as the control fraction is fitted to that figure.
    """
    mac = sum(Prices(chip).operation_pj(Engine.BP, multiplies=True).values())
    return 2 / (mac * (1 + chip.overhead.control_fraction))  # FLOP/pJ is TFLOP/J


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """Four efficiencies in TFLOPS/W, which are shown together: they differ by what counts as a FLOP and as energy.

    Attributes:
        peak_dense: of the chip alone.
        dense_equivalent: of the work, as if nothing had been skipped.
        executed: of the work that was done.
        system: as `dense_equivalent`, with the energy of DRAM.
    """

    DEFINITIONS: ClassVar[Mapping[str, str]] = {
        "peak_dense": "2 FLOP a MAC over its energy in a full BP array without zeros: multiplier, adder, registers, "
        "operand reads and control; no neurons, leakage, network or DRAM",
        "dense_equivalent": "2 FLOP for every synaptic operation of the dense network, skipped ones included, over all "
        "energy on the chip: neurons, update, network, control and leakage included; no DRAM",
        "executed": "2 FLOP for every MAC and 1 for every addition whose operands are both non-zero, over all energy "
        "on the chip as in dense_equivalent",
        "system": "FLOP as in dense_equivalent over all energy, DRAM included",
    }

    peak_dense: float
    dense_equivalent: float
    executed: float
    system: float
