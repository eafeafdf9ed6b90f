"""Passes over weights: as they are stored, standardised, arranged for the synapses, and their gradients collected."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neuro_engine.kernels import buffers
from neuro_engine.kernels.native.binding import call, int64, kernel, pointer
from neuro_engine.kernels.native.checks import by_channel

UNIT = 16
"""Rows of weights are padded to a multiple of this, as in csrc."""
_PATCH, _STRIP = 16, 1 << 14  # as in csrc


def to_half(x: Tensor) -> tuple[Tensor, bool]:
    """Weights rounded to binary16, to nearest even.

    Args:
        x: float32, contiguous, any shape.

    Returns:
        A tensor of the same shape, and whether all of it is finite.
    """
    x = _floats("weights", x)
    out = torch.empty(x.shape, dtype=torch.float16)
    overflow = ctypes.c_int32(0)
    call(
        kernel("to_half"), pointer(x), int64(x.numel()), pointer(out), ctypes.byref(overflow),
        tasks=-(-x.numel() // _STRIP),
    )  # fmt: skip
    return out, not overflow.value


def standardise(rows: Tensor, gain: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with mean 0 and unit norm, times `gain`.

    Args:
        rows: (O, fan-in) float32.
        gain: (O,) float32.
        epsilon: added to the squared norm.

    Returns:
        The rows, and of each the mean and the inverse norm (O,).
    """
    rows = _rows(rows)
    outputs, fan_in = rows.shape
    factor = by_channel("gain", gain, outputs)
    out, mean, inverse = buffers.empty(rows.shape, torch.float32), torch.empty(outputs), torch.empty(outputs)
    call(
        kernel("standardise"), pointer(rows), pointer(factor), int64(outputs),
        int64(fan_in), ctypes.c_float(epsilon), pointer(out), pointer(mean), pointer(inverse), tasks=outputs,
    )  # fmt: skip
    return out, mean, inverse


def standardise_backward(
    grad: Tensor, rows: Tensor, gain: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `standardise`'s rows (O, fan-in) and gain (O,), from that of its result."""
    grad, rows = _floats("gradient", grad), _rows(rows)
    if grad.shape != rows.shape:
        raise ValueError(f"gradient: expected the rows' {tuple(rows.shape)}, got {tuple(grad.shape)}")
    outputs, fan_in = rows.shape
    factors = [by_channel(name, x, outputs) for name, x in (("gain", gain), ("mean", mean), ("inverse", inverse))]
    rows_grad, gain_grad = buffers.empty(rows.shape, torch.float32), torch.empty(outputs)
    call(
        kernel("standardise_backward"), pointer(grad), pointer(rows), *map(pointer, factors), int64(outputs),
        int64(fan_in), pointer(rows_grad), pointer(gain_grad), tasks=outputs,
    )  # fmt: skip
    return rows_grad, gain_grad


def arranged(weight: Tensor, *, transposed: bool) -> tuple[Tensor, int]:
    """Weights (O, I, ...) as the synapses read them: a row of outputs for each tap and input; transposed, of inputs.

    Returns:
        The rows in float32, and how long each is.
    """
    weight = weight.detach().contiguous()
    a, b, taps = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    listed, length = (a, b) if transposed else (b, a)
    row = -(-length // UNIT) * UNIT
    out = buffers.empty((taps * listed, row), torch.float32)
    call(
        kernel("arrange"), pointer(weight), weight.dtype == torch.float16, int64(a), int64(b), int64(taps), transposed,
        int64(row), pointer(out), tasks=-(-listed // _PATCH),
    )  # fmt: skip
    return out, row


def collected(partial: Tensor, weight_shape: Sequence[int]) -> Tensor:
    """The sum of WG's parts (chunks, taps, I, row) as a gradient of weights (O, I, ...) float32."""
    chunks, taps, inputs, row = partial.shape
    outputs = weight_shape[0]
    out = buffers.empty((outputs, inputs * taps), torch.float32)
    call(
        kernel("collect"), pointer(partial), int64(chunks), int64(outputs), int64(inputs), int64(taps), int64(row),
        pointer(out), tasks=-(-inputs // _PATCH),
    )  # fmt: skip
    return out.view(tuple(weight_shape))


def _floats(name: str, x: Tensor) -> Tensor:
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ValueError(f"{name}: expected a float32 CPU tensor, got {tuple(x.shape)} {x.dtype} on {x.device}")
    return x.detach().contiguous()


def _rows(rows: Tensor) -> Tensor:
    if rows.dim() != 2 or not rows.shape[1]:
        raise ValueError(f"weights: expected rows (outputs, fan-in), got {tuple(rows.shape)}")
    return _floats("weights", rows)
