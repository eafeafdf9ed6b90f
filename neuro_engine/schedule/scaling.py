"""How much faster a batch is on more cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neuro_engine.cost.noc import NocParameters
from neuro_engine.mapping import CoreMapping, LayerWork, Setup, search
from neuro_engine.schedule.simulate import schedule


@dataclass(frozen=True, slots=True)
class Scaling:
    """A batch on a number of cores.

    Attributes:
        cores: cores of the chip.
        cycles: of the simulated schedule.
        speedup: cycles on one core over `cycles`.
        bubble: fraction of the cycles in which the busiest engine has no work: fill, waiting, reduction and update.
        balance: work of the cores' busiest engines, mean over that of the busiest core.
        mapping: where the layers are.
    """

    cores: int
    cycles: float
    speedup: float
    bubble: float
    balance: float
    mapping: CoreMapping


def scaling(
    work: tuple[LayerWork, ...],
    setup: Setup,
    noc: NocParameters | None = None,
    cores: Sequence[int] = (1, 2, 5, 10, 20),
) -> tuple[Scaling, ...]:
    """One batch on several numbers of cores, each with the mapping that `search` finds for it.

    Args:
        work: the layers.
        setup: how the batch runs; its number of cores is not used, and with a mesh its links are not.
        noc: the mesh, of as many nodes as the most cores, or None where bytes between cores take no time.
        cores: numbers of cores.
    """
    links = noc.bytes_per_cycle if noc else setup.link_bytes_per_cycle
    rows: dict[int, Scaling] = {}
    for count in (1, *cores):
        if count in rows:
            continue
        chip = replace(setup, cores=count, link_bytes_per_cycle=links)
        mapping = search(work, chip)
        run = schedule(work, mapping, chip, noc)
        alone = rows[1].cycles if rows else run.cycles
        speedup = alone / run.cycles if run.cycles else 1.0
        rows[count] = Scaling(count, run.cycles, speedup, run.bubble, run.balance, mapping)
    return tuple(rows[count] for count in cores)
