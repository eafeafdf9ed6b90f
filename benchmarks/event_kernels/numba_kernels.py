"""Numba's kernels on torch's maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.event_kernels.case import NEURON, STEPS, Case
from benchmarks.event_kernels.numba_loops import BLOCK, Array, jitted
from neuro_engine.kernels import buffers
from neuro_engine.kernels.native import Spikes


def _maps(x: Tensor, lead: int) -> Array:
    """A channels-last map (N, C, H, W) as [lead][...][C], without a copy."""
    array: Array = x.permute(0, 2, 3, 1).numpy()
    return array.reshape(lead, -1, x.shape[1])


def _blocks(weight: Tensor) -> Array:
    """Weights (O, I, 3, 3) as [O / 64][9][I][64]."""
    o, i = weight.shape[:2]
    array: Array = weight.view(o // BLOCK, BLOCK, i, 9).permute(0, 3, 2, 1).contiguous().numpy()
    return array


class Numba:
    """Contestants of numba, with the signatures of `native` cut down to what is measured."""

    def __init__(self) -> None:
        self._kernels = jitted()
        self._neuron = np.array([NEURON.leak, NEURON.gain, NEURON.threshold], np.float32)

    def kernel(self, case: Case, operation: str) -> Callable[[], Any]:
        """The call of an operation on a case."""
        calls: Mapping[str, Callable[[], Any]] = {
            "FP": lambda: self.gather(case.spikes, case.weight),
            "BP": lambda: self.gather_valued(case.grad, case.weight),
            "WG": lambda: self.scatter(case.spikes, case.grad),
            "neuron forward": lambda: self.fire(case.current),
            "neuron backward": lambda: self.fire_backward(case.grad, case.membrane),
        }
        return calls[operation]

    def gather(self, spikes: Spikes, weight: Tensor) -> Tensor:
        """FP of spikes."""
        offset, begin = self._list(spikes)
        return self._gather(offset, np.empty(0, np.float32), begin, weight, spikes.shape, 1)

    def gather_valued(self, grad: Tensor, weight: Tensor) -> Tensor:
        """BP."""
        values = _maps(grad, 1)[0]
        offset, value = np.empty(values.size + 1, np.uint32), np.empty(values.size + 1, np.float32)
        begin = np.empty(len(values) + 1, np.int32)
        self._kernels["list_values"](values, offset, value, begin)
        return self._gather(offset, value, begin, weight.transpose(0, 1).contiguous(), grad.shape, -1)

    def scatter(self, spikes: Spikes, grad: Tensor) -> Tensor:
        """WG."""
        n, o, side, _ = grad.shape
        c = spikes.shape[1]
        acc = np.empty((o // BLOCK, 9, c, BLOCK), np.float32)
        self._kernels["scatter"](*self._list(spikes), _maps(grad, n), acc, side)
        return torch.from_numpy(acc).permute(0, 3, 2, 1).reshape(o, c, 3, 3)

    def _list(self, spikes: Spikes) -> tuple[Array, Array]:
        bits = spikes.bits.numpy().view(np.uint64)
        offset, begin = np.empty(spikes.shape.numel(), np.uint32), np.empty(len(bits) + 1, np.int32)
        self._kernels["list_bits"](bits, offset, begin)
        return offset, begin

    def _gather(
        self, offset: Array, value: Array, begin: Array, weight: Tensor, shape: torch.Size, sign: int
    ) -> Tensor:
        out = buffers.empty((shape[0], weight.shape[0], *shape[2:]), torch.float32)
        self._kernels["gather"](offset, value, begin, _blocks(weight), _maps(out, shape[0]), shape[2], sign)
        return out

    def fire(self, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All steps of a neuron."""
        spikes, membrane = torch.empty_like(current), torch.empty_like(current)
        fired = torch.zeros(STEPS, dtype=torch.int64)
        maps = (_maps(x, STEPS) for x in (current, spikes, membrane))
        self._kernels["fire"](*maps, fired.numpy(), self._neuron)
        return spikes, membrane, fired

    def fire_backward(self, grad: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Back through them."""
        out, sums = torch.empty_like(grad), torch.zeros(grad.shape[1])
        nonzeros = torch.empty((grad.shape[0], *grad.shape[2:]), dtype=torch.int32)
        maps = (_maps(x, STEPS) for x in (grad, membrane, out))
        self._kernels["fire_backward"](*maps, sums.numpy(), nonzeros.numpy().reshape(STEPS, -1), self._neuron)
        return out, sums, nonzeros
