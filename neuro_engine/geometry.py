"""The shape of a layer's synapses, from which the cost model knows what an array of lanes has to do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple


class Gemm(NamedTuple):
    """A matrix product (m x k) by (k x n)."""

    m: int
    k: int
    n: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """One layer for one sample and one time step. A linear layer is a convolution of one pixel.

    Attributes:
        in_channels: channels of the input.
        out_channels: channels of the output.
        in_size: rows and columns of the input's map.
        out_size: rows and columns of the output's map.
        kernel: rows and columns of the kernel.
        groups: groups of channels that are not connected with each other.
        steps: time steps of a sample.
        transposed: a transposed convolution: each pixel of the input meets every tap, not each pixel of the output.
        static: the input is the same in every time step, so its synaptic current is computed once.
        sources: layers whose spikes it reads; empty for the layer before it, and for the network's own input.

    Raises:
        ValueError: a size below one, or channels that the groups do not divide.
    """

    in_channels: int
    out_channels: int
    in_size: tuple[int, int] = (1, 1)
    out_size: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (1, 1)
    groups: int = 1
    steps: int = 1
    transposed: bool = False
    static: bool = False
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            sizes = value if isinstance(value, tuple) else (value,)
            if entry.name not in ("transposed", "static", "sources") and min(sizes) < 1:
                raise ValueError(f"geometry: expected {entry.name} of at least 1, got {value}")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"geometry: expected channels that {self.groups} groups divide, "
                f"got {self.in_channels} in, {self.out_channels} out"
            )

    @property
    def weights(self) -> int:
        """Weights, biases left out."""
        return self.in_channels // self.groups * self.out_channels * self.taps

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def in_pixels(self) -> int:
        """Pixels of the input's map."""
        return self.in_size[0] * self.in_size[1]

    @property
    def out_pixels(self) -> int:
        """Pixels of the output's map."""
        return self.out_size[0] * self.out_size[1]

    @property
    def inputs(self) -> int:
        """Inputs of one sample in one time step."""
        return self.in_channels * self.in_pixels

    @property
    def neurons(self) -> int:
        """Outputs of one sample in one time step."""
        return self.out_channels * self.out_pixels

    @property
    def synapses(self) -> int:
        """Synaptic operations of one sample in one time step if nothing is skipped, padding included."""
        return self._walked * self.weights

    @property
    def forward(self) -> Gemm:
        """FP of one group: output pixels x (inputs x taps that a pixel meets on average) x output channels."""
        k = _ceil_div(self.in_channels // self.groups * self.taps * self._walked, self.out_pixels)
        return Gemm(self.out_pixels, k, self.out_channels // self.groups)

    @property
    def backward(self) -> Gemm:
        """BP of one group: input pixels x (outputs x taps that a pixel meets on average) x input channels."""
        k = _ceil_div(self.out_channels // self.groups * self.taps * self._walked, self.in_pixels)
        return Gemm(self.in_pixels, k, self.in_channels // self.groups)

    @property
    def weight_gradient(self) -> Gemm:
        """WG of one group: output channels x pixels that meet every tap x (inputs x taps)."""
        return Gemm(self.out_channels // self.groups, self._walked, self.in_channels // self.groups * self.taps)

    @property
    def _walked(self) -> int:
        """Pixels each of which meets every tap, padding included: of the output, or of a transposed one's input."""
        return self.in_pixels if self.transposed else self.out_pixels


def _ceil_div(number: int, by: int) -> int:
    return -(-number // by)
