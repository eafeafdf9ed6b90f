"""Where event-driven kernels stop paying: measured once on each machine, and cached.

Below the crossover density a kernel follows events, above it oneDNN multiplies everything. The choice changes the order
of sums and with it the last bit of a result, so it must not change between the runs of one machine: one process
measures while the others wait, and all read the same file. $NEUROFED_CROSSOVER sets one density for everything, for
results that are the same on all machines with the same oneDNN path.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from neuro_engine.kernels import build, native

GATHER, VALUED, SCATTER = "gather", "gather-valued", "scatter"
"""FP of spikes; FP and BP of values; WG."""
WIDTHS = (8, 16, 64, 256)
"""Channels that are measured; a layer takes the nearest."""
_SPARSE, _DENSE = 0.05, 0.25
_LOWEST, _HIGHEST = 0.0, 0.9
_REPEATS = 3
_VALUES_PER_MAP = 1 << 20


def crossover(kernel: str, channels: int) -> float:
    """The density below which `kernel` is faster than oneDNN, for a layer of about so many channels in and out."""
    fixed = os.environ.get("NEUROFED_CROSSOVER")
    if fixed is not None:
        return float(fixed)
    width = min(WIDTHS, key=lambda w: max(w, channels) / max(1, min(w, channels)))
    return _measured()[f"{kernel}/{width}"]


@functools.cache
def _measured() -> dict[str, float]:
    """The crossovers of this machine, by kernel and width."""
    path = build.cache_folder() / f"crossover-{_machine()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return {str(k): float(v) for k, v in json.loads(path.read_text()).items()}
        except (OSError, ValueError):
            found = measure()
            scratch = path.with_suffix(".new")
            scratch.write_text(json.dumps(found, indent=1))
            scratch.replace(path)
            return found


def _machine() -> str:
    """What the crossovers depend on, fit for a file name."""
    library, _ = build.find()
    return f"{Path(library).stem if library else 'none'}-torch{torch.__version__}".replace("+", "_")


def measure() -> dict[str, float]:
    """Measure the crossovers now; takes about a second."""
    found = {}
    for width in WIDTHS:
        dense, sparse = (_Bench(width, density) for density in (_DENSE, _SPARSE))
        for kernel in (GATHER, VALUED, SCATTER):
            slope = (dense.event_s(kernel) - sparse.event_s(kernel)) / (_DENSE - _SPARSE)
            base = sparse.event_s(kernel) - slope * _SPARSE
            density = (dense.dense_s(kernel) - base) / slope if slope > 0 else _HIGHEST
            found[f"{kernel}/{width}"] = round(min(max(density, _LOWEST), _HIGHEST), 2)
    return found


class _Bench:
    """A 3x3 convolution of `width` channels at one density."""

    def __init__(self, width: int, density: float) -> None:
        side, generator = 16, torch.Generator().manual_seed(0)
        shape = (max(1, _VALUES_PER_MAP // (width * side**2)), width, side, side)
        layout = torch.channels_last
        mask = (torch.rand(shape, generator=generator) < density).to(torch.float32).contiguous(memory_format=layout)
        self.values = (mask * torch.rand(shape, generator=generator)).to(torch.float16)
        self.mask, self.grad = mask, torch.rand(shape, generator=generator).contiguous(memory_format=layout)
        self.weight = torch.rand((width, width, 3, 3), generator=generator)
        self.spikes = native.pack(mask) or mask
        self.geometry = native.Geometry(shape[0], side, side, width, side, side, width, 3, 3, 1, 1, 0)

    def event_s(self, kernel: str) -> float:
        """CPU time of the event-driven kernel, spikes packed already, as the engines have them."""
        if kernel == SCATTER:
            return _time(lambda: native.scatter(self.spikes, self.grad, self.geometry, self.weight.shape))
        source = self.values if kernel == VALUED else self.spikes
        return _time(lambda: native.gather(source, self.weight, None, self.geometry, self.mask.shape, torch.float32))

    def dense_s(self, kernel: str) -> float:
        """CPU time of oneDNN's."""
        if kernel == SCATTER:
            return _time(lambda: conv2d_weight(self.mask, self.weight.shape, self.grad, 1, 1))
        return _time(lambda: F.conv2d(self.mask, self.weight, None, 1, 1))


def _time(call: Callable[[], Tensor]) -> float:
    call()
    times = []
    for _ in range(_REPEATS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)
