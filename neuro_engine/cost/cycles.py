"""Cycles of a trace on a chip, in closed form."""

from __future__ import annotations

import math
from collections.abc import Mapping

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Engines
from neuro_engine.mapping import map_layers
from neuro_engine.trace import Engine, EngineCount, Trace


def neuron_cycles(engine: Engine, count: EngineCount, chip: Chip) -> int:
    """Cycles of the neuron unit, which works beside an array; in UPDATE, of the optimizer."""
    if engine is Engine.UPDATE:
        return _ceil_div(count.dense_ops, chip.lanes.update)
    return _ceil_div(count.neuron_updates, chip.lanes.neuron)


def latency_cycles(busy: Mapping[tuple[str, Engine], int], trace: Trace, chip: Chip, dram_bytes: int) -> int:
    """Cycles from the first batch's start to the last update, on all cores.

    The layers form a pipeline of S stages over the M samples of a batch (`neuro_engine.mapping`). FP, BP and WG of a
    core run at the same time, so a layer takes as long as the slowest of them, or as all three where they share an
    array; layers that share a core take turns. A batch then takes M + S - 1 times the slowest stage, of which the
    fraction (S - 1) / (M + S - 1) is the bubble of the fill (Huang et al., GPipe, NeurIPS 2019). The update follows
    the batch, its weights spread over all cores. DRAM transfers overlap with everything: the latency is that of the
    slower of compute and DRAM. `neuro_engine.schedule` follows every event instead.

    Args:
        busy: core-cycles of each layer and engine.
        trace: one or more batches, which are taken to be alike.
        chip: the chip.
        dram_bytes: bytes moved to and from DRAM.

    Raises:
        ValueError: the trace holds work but no steps or fewer samples than steps.
    """
    update = 0
    loads: dict[str, int] = {}
    shared = chip.cores.engines is Engines.SHARED
    for (layer, engine), cycles in busy.items():
        if engine is Engine.UPDATE:
            update += cycles
        elif cycles:  # a layer without work is no stage
            before = loads.get(layer, 0)
            loads[layer] = before + cycles if shared else max(before, cycles)
    compute = _pipeline(loads, trace, chip.cores.count) + _ceil_div(update, chip.cores.count)
    bytes_per_s = chip.dram.bandwidth_bytes_per_s * chip.dram.efficiency
    return max(compute, math.ceil(dram_bytes * chip.clock.frequency_hz / bytes_per_s))


def _pipeline(loads: dict[str, int], trace: Trace, cores: int) -> int:
    if not loads:
        return 0
    if not 0 < trace.steps <= trace.samples:
        raise ValueError(
            f"expected a trace of at least one step and one sample a step, "
            f"got steps={trace.steps}, samples={trace.samples}"
        )
    mapping = map_layers(loads, cores)
    fill = trace.steps * (len(mapping.stages) - 1)
    # The bottleneck is that of all samples; each fill of the pipeline adds one sample's share per further stage.
    return _ceil_div(math.ceil(mapping.bottleneck) * (trace.samples + fill), trace.samples)


def _ceil_div(number: int, by: int) -> int:
    return -(-number // by)
