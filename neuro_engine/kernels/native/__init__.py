"""The kernels of `csrc`, with their arguments checked: a ValueError names what was wanted and got.

Maps are torch tensors whose channels are next to each other in memory: (N, C, H, W) in torch's channels-last format, or
(N, C). N is time times batch, time first. Values are float32 or float16.
"""

from neuro_engine.kernels.native.binding import library, missing
from neuro_engine.kernels.native.checks import pixels
from neuro_engine.kernels.native.events import Geometry, Spikes, count_pairs, pack, unpack
from neuro_engine.kernels.native.maps import pool_backward, pool_forward, round_half
from neuro_engine.kernels.native.neuron import neuron_backward, neuron_forward, supports
from neuro_engine.kernels.native.norm import channel_sums, norm_backward_
from neuro_engine.kernels.native.synapse import gather, layer_forward, scatter
from neuro_engine.kernels.native.weights import standardise, standardise_backward, to_half

__all__ = [
    "Geometry",
    "Spikes",
    "channel_sums",
    "count_pairs",
    "gather",
    "layer_forward",
    "library",
    "missing",
    "neuron_backward",
    "neuron_forward",
    "norm_backward_",
    "pack",
    "pixels",
    "pool_backward",
    "pool_forward",
    "round_half",
    "scatter",
    "standardise",
    "standardise_backward",
    "supports",
    "to_half",
    "unpack",
]
