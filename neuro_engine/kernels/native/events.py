"""Events of a map: spikes as bits, and how the events of one map meet the pixels of another."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from neuro_engine.kernels import buffers
from neuro_engine.kernels.native.binding import call, int64, kernel, pointer
from neuro_engine.kernels.native.checks import VALUES, check, check_shape, pixels

_BITS, _FLOATS, _HALVES = range(3)
_ROWS = 1024  # as in csrc


class Geometry(ctypes.Structure):
    """How two maps meet: see `geometry` in csrc/events.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("n", "h", "w", "c", "oh", "ow", "oc", "kh", "kw", "stride", "padding", "transposed")
    )
    n: int
    h: int
    w: int
    c: int
    oh: int
    ow: int
    oc: int
    kh: int
    kw: int
    stride: int
    padding: int
    transposed: int


@dataclass(frozen=True, slots=True)
class Spikes:
    """Spikes as bits.

    Attributes:
        bits: (pixels, words) int64; a pixel's channels begin at a new word.
        counts: (N, H, W) or (N,) int32, the spikes at each pixel.
        shape: of the map, (N, C, H, W) or (N, C).
    """

    bits: Tensor
    counts: Tensor
    shape: torch.Size

    @property
    def density(self) -> float:
        """Fraction of the map that is not zero; 0.0 for an empty map."""
        return int(self.counts.sum()) / self.shape.numel() if self.shape.numel() else 0.0


def pack(x: Tensor) -> tuple[Spikes | None, Tensor]:
    """Spikes as bits, and how many values are not zero.

    Args:
        x: a map.

    Returns:
        The spikes, or None where a value is neither 0 nor 1, and the non-zeros at each pixel, (N, H, W) or (N,) int32.

    Raises:
        ValueError: if `x` is no map of float32 or float16.
    """
    x = check("spikes", x, (2, 4), VALUES)
    count, c = pixels(x.shape), x.shape[1]
    bits = torch.empty(count, -(-c // 64), dtype=torch.int64)
    counts = torch.empty((x.shape[0], *x.shape[2:]), dtype=torch.int32)
    graded = ctypes.c_int32(0)
    call(
        kernel("pack"), pointer(x), x.dtype == torch.float16, int64(count), int64(c), pointer(bits),
        pointer(counts), ctypes.byref(graded), tasks=-(-count // _ROWS),
    )  # fmt: skip
    return None if graded.value else Spikes(bits, counts, x.shape), counts


def unpack(spikes: Spikes, dtype: torch.dtype) -> Tensor:
    """Spikes as a map of 0.0 and 1.0."""
    x = buffers.empty(spikes.shape, dtype)
    count = pixels(spikes.shape)
    call(
        kernel("unpack"), pointer(spikes.bits), int64(count), int64(spikes.shape[1]), pointer(x),
        dtype == torch.float16, tasks=-(-count // _ROWS),
    )  # fmt: skip
    return x


def source_of(x: Tensor | Spikes, geometry: Geometry) -> tuple[int, Tensor]:
    """A map whose events are followed: in which of the forms that `csrc` knows, and its values or bits."""
    g = geometry
    if min(g.n, g.c, g.h, g.w, g.oc, g.oh, g.ow, g.padding) < 0 or min(g.kh, g.kw, g.stride) < 1:
        sizes = {field[0]: getattr(g, field[0]) for field in Geometry._fields_}
        raise ValueError(f"geometry: expected sizes from 0, kernel and stride from 1, got {sizes}")
    check_shape("events", x.shape, g.n, g.c, g.h, g.w)
    if isinstance(x, Spikes):
        return _BITS, x.bits
    x = check("events", x, (2, 4), VALUES)
    return (_HALVES if x.dtype == torch.float16 else _FLOATS), x


def count_pairs(geometry: Geometry, counts: Tensor, grad_counts: Tensor) -> Tensor:
    """By image, the sum over target pixels of `grad_counts` times the `counts` that they meet, int64 (N,)."""
    if min(geometry.n, geometry.h, geometry.w, geometry.oh, geometry.ow) < 0 or geometry.stride < 1:
        raise ValueError(f"geometry: expected sizes from 0 and a stride from 1, got {geometry.n} images")
    ops = torch.empty(geometry.n, dtype=torch.int64)
    for name, maps, wanted in (
        ("counts", counts, geometry.n * geometry.h * geometry.w),
        ("gradient counts", grad_counts, geometry.n * geometry.oh * geometry.ow),
    ):
        if maps.numel() != wanted or maps.dtype != torch.int32 or not maps.is_contiguous():
            raise ValueError(f"{name}: expected {wanted} contiguous int32, got {tuple(maps.shape)} {maps.dtype}")
    call(
        kernel("count_pairs"), ctypes.byref(geometry), pointer(counts), pointer(grad_counts), pointer(ops),
        tasks=geometry.n,
    )  # fmt: skip
    return ops
