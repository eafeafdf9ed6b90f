"""Energy of a trace on a chip, by engine and component."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum

from neuro_engine.chip import Chip
from neuro_engine.cost.dram import moved_bytes
from neuro_engine.trace import Engine, EngineCount, Trace


class Component(StrEnum):
    """Where energy goes."""

    MULTIPLY = "multiply"
    """Multipliers of the arrays and of the optimizer."""
    ADD = "add"
    """Adders of the arrays and of the optimizer."""
    REGISTER = "register"
    """Operand and accumulator registers of the arrays."""
    SRAM = "sram"
    """Operands of the arrays, read from the buffers."""
    NEURON = "neuron"
    """Neuron dynamics: arithmetic and state."""
    CONTROL = "control"
    """Clock and control of the core."""
    LEAKAGE = "leakage"
    """Leakage of the core."""
    DRAM = "dram"
    """Traffic to and from DRAM."""


def is_mac(engine: Engine, multiplies: bool) -> bool:
    """Whether a synaptic operation multiplies: always in BP, and where the input is analog."""
    return engine is Engine.BP or multiplies


def operation_pj(chip: Chip, engine: Engine, multiplies: bool) -> dict[Component, float]:
    """Dynamic energy of one synaptic operation, in pJ.

    A spike selects a word for FP32 accumulation; only a MAC multiplies, FP16 by FP16 to an exact product. An operand
    read from SRAM serves a whole row or column of the array: rows x columns operations take one word for each row
    and, for each column, a word (MAC) or a bit (spike).

    Args:
        chip: the chip.
        engine: FP, BP or WG.
        multiplies: whether the operand of FP or WG is analog rather than a spike.

    Raises:
        KeyError: for UPDATE, which has no synaptic operations.
    """
    energy, word = chip.energy, chip.memory.word_bits
    rows, columns = chip.lanes.array(engine)
    mac = is_mac(engine, multiplies)
    operand = word if mac else 1
    register_bits = chip.memory.accumulator_bits + word + operand
    sram_bits = (rows * word + columns * operand) / (rows * columns)
    return {
        Component.MULTIPLY: energy.fp16_multiply_pj if mac else 0.0,
        Component.ADD: energy.fp32_add_pj,
        Component.REGISTER: register_bits * energy.register_pj_per_bit,
        Component.SRAM: sram_bits * energy.sram_pj_per_bit,
    }


def neuron_pj(chip: Chip, engine: Engine) -> float:
    """Dynamic energy of one neuron in one time step, in pJ: FP16 arithmetic and state through SRAM; 0.0 in WG."""
    energy, work = chip.energy, chip.neuron
    multiplies, adds, bits = {
        Engine.FP: (work.fp_multiplies, work.fp_adds, work.fp_state_bits),
        Engine.BP: (work.bp_multiplies, work.bp_adds, work.bp_state_bits),
    }.get(engine, (0, 0, 0))
    return multiplies * energy.fp16_multiply_pj + adds * energy.fp16_add_pj + bits * energy.sram_pj_per_bit


def update_pj(chip: Chip) -> dict[Component, float]:
    """Dynamic energy of the FP32 arithmetic for one weight in one optimizer step, in pJ."""
    return {
        Component.MULTIPLY: chip.update.multiplies * chip.energy.fp32_multiply_pj,
        Component.ADD: chip.update.adds * chip.energy.fp32_add_pj,
    }


def trace_pj(trace: Trace, chip: Chip) -> dict[tuple[Engine, Component], float]:
    """Energy of a trace by engine and component, in pJ; what takes none is left out.

    Control is a fraction of the dynamic energy of the core, leakage a fraction of both together; DRAM has neither
    and goes to the engine that reads or writes.
    """
    bill: defaultdict[tuple[Engine, Component], float] = defaultdict(float)
    for _, engine, count in trace:
        parts = _dynamic_pj(engine, count, chip)
        dynamic = sum(parts.values())
        parts[Component.CONTROL] = dynamic * chip.overhead.control_fraction
        parts[Component.LEAKAGE] = (dynamic + parts[Component.CONTROL]) * chip.overhead.leakage_fraction
        parts[Component.DRAM] = 8 * moved_bytes(count) * chip.energy.dram_pj_per_bit
        for component, picojoules in parts.items():
            bill[engine, component] += picojoules
    return {key: picojoules for key, picojoules in bill.items() if picojoules}


def _dynamic_pj(engine: Engine, count: EngineCount, chip: Chip) -> dict[Component, float]:
    if engine is Engine.UPDATE:
        return _times(count.dense_ops, update_pj(chip))
    parts = _times(count.executed_ops, operation_pj(chip, engine, count.multiplies))
    return {**parts, Component.NEURON: count.neuron_updates * neuron_pj(chip, engine)}


def _times(number: int, parts: Mapping[Component, float]) -> dict[Component, float]:
    return {component: number * picojoules for component, picojoules in parts.items()}


def peak_dense_tflops_per_w(chip: Chip) -> float:
    """Peak efficiency of the BP array, in TFLOPS/W at FP16.

    The definition: a MAC is two FLOPs; every lane of the BP array is busy with non-zero operands; the energy is that
    of the multiplier, adder, registers, operand reads and control, without neurons, leakage and DRAM. For
    `core20_28nm` it is about 1.06, which is consistent with the 1.05 TFLOPS/W that arXiv:2412.05302 states without
    a definition; it is no reproduction, as the control fraction is fitted to that figure.
    """
    mac = sum(operation_pj(chip, Engine.BP, multiplies=True).values())
    return 2 / (mac * (1 + chip.overhead.control_fraction))  # FLOP/pJ is TFLOP/J
