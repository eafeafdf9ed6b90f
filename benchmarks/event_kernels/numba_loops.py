"""The kernels' algorithm in numba's Python.

Functions of a module, compiled on demand by `jitted`, so that numba can cache them. Its Python has no registers: four
events are added at a time, in order, to save trips to memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BLOCK = 64
_TILE = 64
_ONE, _SEQUENCE, _SHIFT = np.uint64(1), np.uint64(0x03F79D71B4CB0A89), np.uint64(58)
_LOWEST_BIT = np.zeros(64, np.int64)
for _bit in range(64):
    _LOWEST_BIT[(int(_SEQUENCE) << _bit) % 2**64 >> 58] = _bit


def _list_bits(bits: Array, offset: Array, begin: Array) -> None:
    """Channels that are set in bits [pixels][words], and where the list of each pixel begins."""
    k = 0
    for p in range(bits.shape[0]):
        begin[p] = k
        for w in range(bits.shape[1]):
            m = bits[p, w]
            while m:
                low = m & (~m + _ONE)
                offset[k] = w * 64 + _LOWEST_BIT[(low * _SEQUENCE) >> _SHIFT]
                k += 1
                m ^= low
    begin[-1] = k


def _list_values(values: Array, offset: Array, value: Array, begin: Array) -> None:
    """The same of values [pixels][c] that are not 0."""
    k = 0
    for p in range(values.shape[0]):
        begin[p] = k
        x = values[p]
        for i in range(x.shape[0]):
            offset[k], value[k] = i, x[i]
            k += x[i] != 0
    begin[-1] = k


def _gather(offset: Array, value: Array, begin: Array, rows: Array, out: Array, side: int, sign: int) -> None:
    """Lists of events, `value` empty for spikes; rows [blocks][9][c][64], out [images][pixels][blocks 64].

    `sign` is 1 for FP and -1 for BP.
    """
    area, valued = side * side, value.shape[0] > 0
    tiles = -(-area // _TILE)
    acc = np.empty((_TILE, BLOCK), np.float32)
    for task in range(out.shape[0] * tiles):
        image, first = task // tiles, task % tiles * _TILE
        last = min(first + _TILE, area)
        for block in range(rows.shape[0]):
            acc[:] = 0
            for tap in range(9):
                weight = rows[block, tap]
                dy, dx = sign * (tap // 3 - 1), sign * (tap % 3 - 1)
                for p in range(first, last):
                    y, x = p // side + dy, p % side + dx
                    if y < 0 or y >= side or x < 0 or x >= side:
                        continue
                    at = image * area + y * side + x
                    k, end, a = begin[at], begin[at + 1], acc[p - first]
                    while k + 4 <= end:
                        r0, r1 = weight[offset[k]], weight[offset[k + 1]]
                        r2, r3 = weight[offset[k + 2]], weight[offset[k + 3]]
                        if valued:
                            x0, x1, x2, x3 = value[k], value[k + 1], value[k + 2], value[k + 3]
                            for v in range(BLOCK):
                                a[v] = (((a[v] + x0 * r0[v]) + x1 * r1[v]) + x2 * r2[v]) + x3 * r3[v]
                        else:
                            for v in range(BLOCK):
                                a[v] = (((a[v] + r0[v]) + r1[v]) + r2[v]) + r3[v]
                        k += 4
                    while k < end:
                        r0 = weight[offset[k]]
                        x0 = value[k] if valued else np.float32(1)
                        for v in range(BLOCK):
                            a[v] += x0 * r0[v]
                        k += 1
            out[image, first:last, block * BLOCK : (block + 1) * BLOCK] = acc[: last - first]


def _scatter(offset: Array, begin: Array, grad: Array, acc: Array, side: int) -> None:
    """Lists of spikes; grad [images][pixels][blocks 64], acc [blocks][9][c][64]."""
    area = side * side
    acc[:] = 0
    for image in range(grad.shape[0]):
        for block in range(acc.shape[0]):
            for first in range(0, area, _TILE):
                for tap in range(9):
                    sums = acc[block, tap]
                    dy, dx = tap // 3 - 1, tap % 3 - 1
                    for p in range(first, min(first + _TILE, area)):
                        y, x = p // side + dy, p % side + dx
                        if y < 0 or y >= side or x < 0 or x >= side:
                            continue
                        at = image * area + y * side + x
                        g = grad[image, p, block * BLOCK : (block + 1) * BLOCK]
                        for e in range(begin[at], begin[at + 1]):
                            row = sums[offset[e]]
                            for v in range(BLOCK):
                                row[v] += g[v]


def _fire(current: Array, spikes: Array, membrane: Array, fired: Array, neuron: Array) -> None:
    """Hard reset; maps [steps][pixels][c], fired[steps], neuron (leak, gain, threshold)."""
    steps, pixels, c = current.shape
    leak, gain, threshold = neuron[0], neuron[1], neuron[2]
    many = max(1, 2048 // c)
    state = np.empty((many, c), np.float32)
    for first in range(0, pixels, many):
        state[:] = 0
        for t in range(steps):
            count = 0
            for p in range(first, min(first + many, pixels)):
                x, s, h, v = current[t, p], spikes[t, p], membrane[t, p], state[p - first]
                for i in range(c):
                    u = gain * x[i] + leak * v[i]
                    h[i] = u
                    s[i] = np.float32(1) if u >= threshold else np.float32(0)
                    v[i] = np.float32(0) if u >= threshold else u
                    count += u >= threshold
            fired[t] += count


def _fire_backward(grad: Array, membrane: Array, out: Array, sums: Array, nonzeros: Array, neuron: Array) -> None:
    """Hard reset, detached, triangle of width 1; sums[c], nonzeros[steps][pixels]."""
    steps, pixels, c = grad.shape
    leak, gain, threshold = neuron[0], neuron[1], neuron[2]
    many = max(1, 2048 // c)
    state = np.empty((many, c), np.float32)
    for first in range(0, pixels, many):
        state[:] = 0
        for t in range(steps - 1, -1, -1):
            for p in range(first, min(first + many, pixels)):
                g, m, o, v = grad[t, p], membrane[t, p], out[t, p], state[p - first]
                count = 0
                for i in range(c):
                    phi = max(np.float32(1) - abs(m[i] - threshold), np.float32(0))
                    dh = g[i] * phi + (np.float32(0) if m[i] >= threshold else v[i])
                    v[i] = leak * dh
                    o[i] = gain * dh
                    sums[i] += gain * dh
                    count += gain * dh != 0
                nonzeros[t, p] = count


def jitted() -> dict[str, Callable[..., None]]:
    """The kernels above compiled; `contract` (fused multiply-add) is all of fastmath that keeps the order of sums."""
    numba = importlib.import_module("numba")
    compiler = numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
    kernels = (_list_bits, _list_values, _gather, _scatter, _fire, _fire_backward)
    return {f.__name__.strip("_"): compiler(f) for f in kernels}
