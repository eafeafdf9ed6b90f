"""How busy each core of the emulated chip was, by the closed form that gives the latency."""

from __future__ import annotations

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import Engines
from neuro_engine.cost import Cost
from neuro_engine.mapping import map_layers
from neuro_engine.trace import Engine


def core_busy(bill: Cost, chip: Chip) -> list[float]:
    """Fraction of the bill's cycles in which each core had work, from 0 to 1; modelled.

    Layers are on cores as in `neuro_engine.cost.cycles`: FP, BP and WG of a core work at the same time unless they
    share an array, and the update is spread over all cores.

    Args:
        bill: what some training cost on the chip.
        chip: the chip.

    Returns:
        One number for each core of the chip.
    """
    loads: dict[str, float] = {}
    update = 0
    for (layer, engine), part in bill.layers.items():
        if engine is Engine.UPDATE:
            update += part.cycles
        elif part.cycles:
            before = loads.get(layer, 0.0)
            loads[layer] = before + part.cycles if chip.cores.engines is Engines.SHARED else max(before, part.cycles)
    cores = chip.cores.count
    stages = map_layers(loads, cores).stages
    busy = [stage.time for stage in stages for _ in range(stage.cores * stage.replicas)]
    busy += [0.0] * (cores - len(busy))
    return [min(1.0, (cycles + update / cores) / bill.cycles) if bill.cycles else 0.0 for cycles in busy]
