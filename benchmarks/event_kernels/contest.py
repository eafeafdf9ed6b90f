"""Who takes part, their times, and what the kernels promise."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import must
from benchmarks.event_kernels.case import NEURAL, SYNAPTIC, Call, Case
from benchmarks.event_kernels.numba_kernels import Numba
from benchmarks.event_kernels.timing import longest_wait, race, threads, within

SHAPES = ((8, 64, 32), (8, 128, 16))
"""Images, channels in and out, and side of the map of a 3x3 convolution; the images are 4 steps of a batch of 2."""
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
ROUNDS = {True: 3, False: 15}


@dataclass(frozen=True)
class Contest:
    """Who takes part.

    Attributes:
        level: of the native kernels on this machine.
        lower: the next lower level and its library, or None.
        numba: numba's kernels, or None.
    """

    level: str
    lower: tuple[str, ctypes.CDLL] | None
    numba: Numba | None

    def rows(self, *, quick: bool) -> Iterator[dict[str, Any]]:
        """A row for each operation, shape and density."""
        rounds = ROUNDS[quick]
        for images, channels, side in SHAPES[:1] if quick else SHAPES:
            where = {"channels": channels, "side": side}
            for density in DENSITIES[1:4:2] if quick else DENSITIES:
                case = Case(images, channels, side, density)
                for operation in SYNAPTIC:
                    timed = race(case.dense(operation), self._contestants(case, operation), rounds)
                    yield {"operation": operation, "storage": "fp32", **where, "density": density, **timed}
            case = Case(images, channels, side, DENSITIES[2])
            for operation in NEURAL:
                timed = race(case.dense(operation), self._contestants(case, operation), rounds)
                yield {"operation": operation, "storage": "fp32", **where, "density": None, **timed}
                half = torch.float16
                timed = race(case.dense(operation, half), self._native(case, operation, half), rounds)
                yield {"operation": operation, "storage": "fp16", **where, "density": None, **timed}

    def _native(self, case: Case, operation: str, dtype: torch.dtype = torch.float32) -> dict[str, Call]:
        call = case.kernel(operation, dtype)
        found: dict[str, Call] = {f"c {self.level}": call}
        if self.lower:
            found[f"c {self.lower[0]}"] = within(self.lower[1], call)
        return found

    def _contestants(self, case: Case, operation: str) -> dict[str, Call]:
        found = self._native(case, operation)
        if self.numba:
            found["numba"] = self.numba.kernel(case, operation)
        return found

    def musts(self, *, quick: bool) -> list[dict[str, Any]]:
        """What the kernels promise."""
        worst = dict.fromkeys(("native", "numba"), 0.0)
        fixed_threads = fixed_levels = True
        for images, channels, side in SHAPES[:1] if quick else SHAPES:
            case = Case(images, channels, side, 0.2)
            for operation in (*SYNAPTIC, *NEURAL):
                wanted = _tensors(case.wanted(operation))
                call = case.kernel(operation)
                one = _tensors(call())
                worst["native"] = max(worst["native"], _error(one, wanted))
                if self.numba:
                    found = _tensors(self.numba.kernel(case, operation)())
                    worst["numba"] = max(worst["numba"], _error(found, wanted))
                with threads(2):
                    fixed_threads &= _same(_tensors(call()), one)
                if self.lower:
                    fixed_levels &= _same(_tensors(within(self.lower[1], call)()), one)
        musts = [
            must("largest error by largest value, native kernels", worst["native"], "<=", 1e-5),
            must("same bits on 1 and 2 threads", float(fixed_threads), "==", 1.0),
        ]
        if self.lower:
            musts.append(must(f"same bits at {self.lower[0]}", float(fixed_levels), "==", 1.0))
        if self.numba:
            musts.append(must("largest error by largest value, numba", worst["numba"], "<=", 1e-5))
        musts.append(must("longest wait of another Python thread, by the kernel's time", longest_wait(), "<=", 0.5))
        return musts


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _error(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    return max(
        float((a.double() - b.double()).abs().max() / b.double().abs().max())
        for a, b in zip(found, wanted, strict=True)
    )
