"""Mapping of layers to the cores of a chip.

`map_layers` is the greedy baseline on one load a layer. `search` finds the best pipeline of stages, each a run of
layers on replicas of split cores, for the closed form of `estimate`. Where the loads come from is the caller's affair.
"""

from neuro_engine.mapping.closed_form import Estimate, Setup, best_split, estimate, refetch_fraction
from neuro_engine.mapping.greedy import CoreMapping, Stage, map_layers
from neuro_engine.mapping.optimum import greedy, search
from neuro_engine.mapping.split import Split, busiest_share, core_shares
from neuro_engine.mapping.work import Exchanged, LayerWork, PerEngine, Resident, layer_work

__all__ = [
    "CoreMapping",
    "Estimate",
    "Exchanged",
    "LayerWork",
    "PerEngine",
    "Resident",
    "Setup",
    "Split",
    "Stage",
    "best_split",
    "busiest_share",
    "core_shares",
    "estimate",
    "greedy",
    "layer_work",
    "map_layers",
    "refetch_fraction",
    "search",
]
