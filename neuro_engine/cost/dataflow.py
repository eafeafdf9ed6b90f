"""A matrix product (m x k) by (k x n) on an array of R x C lanes: tiles, cycles and reads, in closed form.

What stays in the lanes and what streams past is the dataflow. A tile is as large as the array:

    output stationary   ceil(m/R) ceil(n/C) tiles of k cycles, each R + C - 2 to fill and drain
    weight stationary   ceil(k/R) ceil(n/C) tiles of m cycles, each 2R + C - 2 to load, fill and drain
    input stationary    ceil(k/R) ceil(m/C) tiles of n cycles, each 2R + C - 2

That is SCALE-Sim's systolic array (Samajdar et al., ISPASS 2020). An array that broadcasts has nothing to fill or
drain; what stays takes R cycles to load.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from neuro_engine.chip_schema import Dataflow, Feed


class Product(NamedTuple):
    """The sizes of a product; an average over batches need not be whole."""

    m: float
    k: float
    n: float


@dataclass(frozen=True, slots=True)
class Tiling:
    """A product as `tiles` tiles of `fill + stream` cycles.

    Attributes:
        tiles: how many there are.
        fill: cycles in which a tile loads, fills and drains.
        stream: operands that stream past a tile, one a cycle.
        group: lanes that share what streams past and see zeros of their own in it.
        first: elements of the m x k operand that come from their buffer, for the whole product.
        second: elements of the k x n operand.
        partial: partial sums that go to a buffer or come from it.
    """

    tiles: int
    fill: int
    stream: float
    group: int
    first: float
    second: float
    partial: float


def tiling(dataflow: Dataflow, product: Product, rows: int, columns: int, feed: Feed = Feed.SYSTOLIC) -> Tiling:
    """How a product is cut for an array of `rows` x `columns` lanes."""
    m, k, n = product
    drain = rows + columns - 2 if feed is Feed.SYSTOLIC else 0
    along_m, along_k, along_n = pieces(m, rows), pieces(k, rows), pieces(n, columns)
    if dataflow is Dataflow.OUTPUT_STATIONARY:
        return Tiling(along_m * along_n, drain, k, even(m, rows), m * k * along_n, k * n * along_m, 0.0)
    partial = 2 * (along_k - 1) * m * n
    if dataflow is Dataflow.WEIGHT_STATIONARY:
        return Tiling(along_k * along_n, rows + drain, m, even(k, rows), m * k * along_n, k * n, partial)
    along_m = pieces(m, columns)
    return Tiling(along_k * along_m, rows + drain, n, even(m, columns), m * k, k * n * along_m, partial)


def systolic_cycles(dataflow: Dataflow, product: Product, rows: int, columns: int) -> int:
    """Cycles of one dense product on a systolic array.

    SCALE-Sim 3.0.0 reports one less: the number of its last cycle, counted from 0 (its issue 125).
    """
    tiled = tiling(dataflow, product, rows, columns)
    return round(tiled.tiles * (tiled.fill + tiled.stream))


def full_tile(dataflow: Dataflow, rows: int, columns: int) -> tuple[float, float, float]:
    """`first`, `second` and `partial` for one operation, where all lanes work and what stays is loaded."""
    if dataflow is Dataflow.OUTPUT_STATIONARY:
        return 1 / columns, 1 / rows, 0.0
    if dataflow is Dataflow.WEIGHT_STATIONARY:
        return 1 / columns, 0.0, 2 / rows
    return 0.0, 1 / columns, 2 / rows


def even(extent: float, lanes: int) -> int:
    """Lanes that a tile takes where `extent` is dealt out evenly to as few tiles as possible."""
    return pieces(extent, pieces(extent, lanes))


def pieces(extent: float, size: float) -> int:
    """How many pieces of at most `size` cover `extent`, at least one; the slack is for rounding."""
    return max(1, math.ceil(extent / size - 1e-9))
