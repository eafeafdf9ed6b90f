"""Where event-driven kernels stop paying: measured once on each machine, and cached.

Below the crossover density a kernel follows events, above it oneDNN multiplies everything. The choice changes the order
of sums and with it the last bit of a result, so it must not change between the runs of one machine: one process
measures while the others wait, and all read the same file. $NEUROFED_CROSSOVER sets one density for everything, for
results that are the same on all machines with the same oneDNN path.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from neuro_engine.kernels import build, native
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import triangle
from neuro_engine.synapse import ConvSynapse

GATHER, VALUED, SCATTER = "gather", "gather-valued", "scatter"
"""FP whole, of spikes; FP's current of values, and BP; WG."""
INPUTS, OUTPUTS = (2, 16, 64, 256), (16, 64, 256)
"""Channels of the maps that are measured; a layer takes the nearest."""
_SPARSE, _DENSE = 0.05, 0.25
_LOWEST, _HIGHEST = 0.0, 0.9
_REPEATS = 5
_SIDE, _STEPS, _MOST_IMAGES = 16, 4, 512
_NEURON, _SURROGATE = LIF(), triangle()
_PRODUCTS = 1 << 25
"""Pixels x inputs x outputs of a measurement."""


def crossover(kernel: str, inputs: int, outputs: int) -> float:
    """The density below which `kernel` is faster than oneDNN.

    Args:
        kernel: one of the three.
        inputs: channels of the map whose events are followed.
        outputs: channels of the other map.
    """
    fixed = os.environ.get("NEUROFED_CROSSOVER")
    if fixed is not None:
        return float(fixed)
    return _measured()[_key(kernel, _nearest(INPUTS, inputs), _nearest(OUTPUTS, outputs))]


def _nearest(widths: tuple[int, ...], channels: int) -> int:
    return min(widths, key=lambda w: max(w, channels) / max(1, min(w, channels)))


def _key(kernel: str, inputs: int, outputs: int) -> str:
    return f"{kernel}/{inputs}-{outputs}"


@functools.cache
def _measured() -> dict[str, float]:
    """The crossovers of this machine, by kernel and channels."""
    path = build.cache_folder() / f"crossover-{_machine()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _kept(path) or _keep(path, measure())
    except OSError:  # nowhere to keep them: measured for this process alone, which is why $NEUROFED_CROSSOVER is there
        return measure()


def _kept(path: Path) -> dict[str, float] | None:
    try:
        found = json.loads(path.read_text())
        return {key: float(found[key]) for key in _keys()}
    except (OSError, ValueError, TypeError, KeyError):  # none yet, damaged, or of another version
        return None


def _keep(path: Path, found: dict[str, float]) -> dict[str, float]:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(found, indent=1))
    scratch.replace(path)
    return found


def _machine() -> str:
    """What the crossovers depend on, fit for a file name."""
    library, _ = build.find()
    return f"{Path(library).stem if library else 'none'}-torch{torch.__version__}".replace("+", "_")


def _keys() -> list[str]:
    return [_key(*names) for names in itertools.product((GATHER, VALUED, SCATTER), INPUTS, OUTPUTS)]


def measure() -> dict[str, float]:
    """Measure the crossovers now; takes some seconds."""
    found = {}
    for inputs, outputs in itertools.product(INPUTS, OUTPUTS):
        dense, sparse = (_Bench(inputs, outputs, density) for density in (_DENSE, _SPARSE))
        for kernel in (GATHER, VALUED, SCATTER):
            low, high = sparse.event_s(kernel), dense.event_s(kernel)
            slope = (high - low) / (_DENSE - _SPARSE)
            density = _SPARSE + (dense.dense_s(kernel) - low) / slope if slope > 0 else _HIGHEST
            found[_key(kernel, inputs, outputs)] = round(min(max(density, _LOWEST), _HIGHEST), 2)
    return found


class _Bench:
    """A 3x3 convolution at one density, with what the engines do around it: fire, convert from and to storage."""

    def __init__(self, inputs: int, outputs: int, density: float) -> None:
        generator, layout = torch.Generator().manual_seed(0), torch.channels_last
        images = _STEPS * max(1, min(_MOST_IMAGES, _PRODUCTS // (inputs * outputs * _SIDE**2)) // _STEPS)
        shape, self._shape = (images, inputs, _SIDE, _SIDE), (images, outputs, _SIDE, _SIDE)
        mask = (torch.rand(shape, generator=generator) < density).to(torch.float16).contiguous(memory_format=layout)
        self._values = mask * torch.rand(shape, generator=generator).to(torch.float16)
        self._grad = torch.rand(self._shape, generator=generator).to(torch.float16).contiguous(memory_format=layout)
        self._weight = torch.rand((outputs, inputs, 3, 3), generator=generator)
        spikes, _ = native.pack(mask)
        assert spikes is not None
        self._spikes = spikes
        self._geometry = native.Geometry(images, _SIDE, _SIDE, inputs, _SIDE, _SIDE, outputs, 3, 3, 1, 1, 0)

    def event_s(self, kernel: str) -> float:
        """CPU time of the event-driven kernel, spikes packed already, as the engines have them."""
        weight, geometry, half = self._weight, self._geometry, torch.float16
        if kernel == SCATTER:
            return _time(lambda: native.scatter(self._spikes, self._grad, geometry, weight.shape))
        if kernel == VALUED:
            return _time(lambda: native.gather(self._values, weight, None, geometry, self._shape, half))
        return _time(
            lambda: native.layer_forward(
                self._spikes, weight, None, geometry, self._shape, _STEPS, _NEURON, _SURROGATE, half
            )
        )

    def dense_s(self, kernel: str) -> float:
        """CPU time of oneDNN's."""
        synapse, wide, half = ConvSynapse(stride=1, padding=1), torch.float32, torch.float16
        if kernel == SCATTER:
            x = native.unpack(self._spikes, wide)
            return _time(lambda: synapse.weight_gradient(self._grad.to(wide), x, self._weight.shape))
        if kernel == VALUED:
            return _time(lambda: synapse.current(self._values.to(wide), self._weight, None).to(half))
        x = native.unpack(self._spikes, wide)
        return _time(
            lambda: native.neuron_forward(synapse.current(x, self._weight, None), _STEPS, _NEURON, _SURROGATE, half)
        )


def _time(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(_REPEATS):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)
