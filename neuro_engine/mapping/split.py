"""Splits of one layer over the cores of a stage, in whole output channels and whole output rows."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

from neuro_engine.geometry import Geometry


class Split(NamedTuple):
    """A layer on a grid of cores: core `i * rows + j` has part i of the output channels and part j of the rows."""

    channels: int
    rows: int

    @property
    def cores(self) -> int:
        """Cores of the grid."""
        return self.channels * self.rows


def parts(count: int, ways: int) -> tuple[int, ...]:
    """`count` units dealt out to `ways` cores as evenly as whole units allow, the larger parts first."""
    return tuple(count // ways + (part < count % ways) for part in range(ways))


def row_spans(geometry: Geometry, split: Split) -> tuple[tuple[float, float], ...]:
    """The rows of each part of the rows as fractions of the map, from 0 to 1."""
    rows = geometry.out_size[0]
    return tuple((start / rows, end / rows) for start, end in pairwise(accumulate(parts(rows, split.rows), initial=0)))


def core_shares(geometry: Geometry, split: Split, grain: int = 1) -> tuple[float, ...]:
    """The fraction of the layer's work that each core of the grid has; they add up to 1.

    Args:
        geometry: the layer.
        split: its grid.
        grain: output channels that a core computes side by side: channels are dealt out by the grain.
    """
    units, rows = -(-geometry.out_channels // grain), geometry.out_size[0]
    return tuple(
        part * height / (units * rows) for part in parts(units, split.channels) for height in parts(rows, split.rows)
    )


def busiest_share(geometry: Geometry, split: Split, grain: int = 1) -> float:
    """The largest of `core_shares`: ceil(channels / k) / channels, times the same for the rows."""
    units, rows = -(-geometry.out_channels // grain), geometry.out_size[0]
    return -(-units // split.channels) * -(-rows // split.rows) / (units * rows)


def input_fraction(geometry: Geometry, split: Split) -> float:
    """The fraction of its input that a core reads: all channels of its rows and, split by rows, a kernel's margin."""
    if split.rows == 1:
        return 1.0
    rows = geometry.out_size[0]
    return min(1.0, -(-rows // split.rows) / rows + margin(geometry))


def margin(geometry: Geometry) -> float:
    """The rows of input beyond a core's own that its kernel reaches, both sides together, as a fraction of the map."""
    return (geometry.kernel[0] - 1) / geometry.in_size[0]
