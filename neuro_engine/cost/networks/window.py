"""How a kernel's taps meet the positions of a map, padding left out.

Along one axis of a convolution, output o meets input o stride + tap - padding. Of outputs x kernel such pairs, those
whose input lies outside the map are padding: no engine executes them, though the dense count has them. Both axes
multiply. A transposed convolution is the same with input and output exchanged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from neuro_engine.geometry import Geometry


class Window(NamedTuple):
    """Step of the kernel, and zeros added at each border; of a transposed convolution, those of its mirror image."""

    stride: int = 1
    padding: int = 0

    @classmethod
    def of(cls, geometry: Geometry) -> Window:
        """The window that turns a layer's input map into its output map.

        A geometry does not say it, and sizes alone leave several on small maps (4 to 2 positions by a kernel of 3:
        stride 2 with padding, or stride 1 without). Of those that fit, this takes the padding of half a kernel, then
        the least padding, below the kernel's size; then the least stride.

        Raises:
            ValueError: no window fits.
        """
        axes = _axes(geometry)
        kernel = max(geometry.kernel)
        for padding in ((kernel - 1) // 2, *range(kernel)):
            for stride in range(1, max(map(max, axes)) + kernel + 1):
                if all((i + 2 * padding - k) // stride + 1 == o and i + 2 * padding >= k for i, o, k in axes):
                    return cls(stride, padding)
        raise ValueError(
            f"geometry: expected sizes that a stride and a padding connect, got {geometry.in_size} to "
            f"{geometry.out_size} by a kernel of {geometry.kernel}"
        )


def inside_synapses(geometry: Geometry, window: Window | None = None) -> int:
    """Synaptic operations of one sample in one step whose input and output both exist."""
    stride, padding = window or Window.of(geometry)
    rows, columns = (_pairs(i, o, k, stride, padding) for i, o, k in _axes(geometry))
    return rows * columns * (geometry.weights // geometry.taps)


def _axes(geometry: Geometry) -> tuple[tuple[int, int, int], ...]:
    """Rows, then columns: inputs, outputs and taps of the convolution, or of the one that is transposed."""
    wide, narrow = geometry.in_size, geometry.out_size
    if geometry.transposed:
        wide, narrow = narrow, wide
    return tuple(zip(wide, narrow, geometry.kernel, strict=True))


@lru_cache(maxsize=1024)
def _pairs(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> int:
    return sum(0 <= o * stride + tap - padding < inputs for o in range(outputs) for tap in range(kernel))
