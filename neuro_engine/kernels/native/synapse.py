"""Synapses at events: FP and BP gather rows of weights, WG scatters gradients into them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from neuro_engine.kernels import buffers
from neuro_engine.kernels.native.binding import call, int64, kernel, pointer
from neuro_engine.kernels.native.checks import VALUES, check, check_shape, pixels
from neuro_engine.kernels.native.events import Geometry, Spikes, source_of
from neuro_engine.kernels.native.neuron import parameters, step_blocks
from neuro_engine.kernels.native.weights import UNIT, arranged, collected
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

_BLOCK = 64  # as in csrc
_MOST_OFFSETS = 2**32
_PARTIALS = 8
"""Into how many parts WG cuts its sum at least where the layer is too small to give that many threads something to do.
What the cut depends on is the shape alone: the order of a sum must not depend on the threads."""
_LONGEST_SUM, _MOST_PARTIAL_BYTES = 8192, 1 << 22
"""A part has at most so many pixels, to keep the error of its sum small, while the parts take few bytes."""
_SHORTEST_RUN, _LONGEST_RUN, _RUNS = 16, 512, 8
"""Neighbouring pixels share events, so a task of FP and BP is a long run of them, if that leaves enough tasks."""
_LEAST_PIXELS = 1024
"""A part of WG's sum has at least so many pixels."""


def _weights(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, *, transposed: bool
) -> tuple[Tensor, int, Tensor | None]:
    """Checked weights as the kernels read them, the length of a row, and the bias."""
    g = geometry
    wanted = (g.oc, g.c) if not transposed else (g.c, g.oc)
    taps = math.prod(weight.shape[2:])
    if weight.dtype not in VALUES or tuple(weight.shape[:2]) != wanted or taps != g.kh * g.kw:
        got = f"{weight.dtype} {tuple(weight.shape)}"
        raise ValueError(f"weights: expected float32 or float16 {wanted} x {g.kh} x {g.kw}, got {got}")
    if g.c * (g.oc + UNIT) >= _MOST_OFFSETS:
        raise ValueError(f"weights: expected inputs x outputs below 2^32, got {g.c} x {g.oc}")
    if bias is not None and (tuple(bias.shape) != (g.oc,) or bias.dtype != torch.float32):
        raise ValueError(f"bias: expected float32 ({g.oc},), got {bias.dtype} {tuple(bias.shape)}")
    rows, row = arranged(weight, transposed=transposed)
    return rows, row, None if bias is None else bias.detach().contiguous()


def _run_length(count: int) -> int:
    return max(_SHORTEST_RUN, min(_LONGEST_RUN, count // _RUNS))


def gather(
    x: Tensor | Spikes,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    shape: Sequence[int],
    dtype: torch.dtype,
    *,
    transposed: bool = False,
) -> Tensor:
    """Sum of the weights' rows at the events, by target pixel: FP's current, or BP's error.

    Args:
        x: the map whose events are followed.
        weight: (O, I, ...) float32 or float16.
        bias: (outputs,) float32, added to each target pixel.
        geometry: how targets meet sources.
        shape: of the result, (N, C, H, W) or (N, C).
        dtype: of the result.
        transposed: True to follow the rows of inputs, as BP does.

    Returns:
        The map of `shape`.
    """
    kind, source = source_of(x, geometry)
    check_shape("result", shape, geometry.n, geometry.oc, geometry.oh, geometry.ow)
    rows, row, bias = _weights(weight, bias, geometry, transposed=transposed)
    out, run = buffers.empty(shape, dtype), _run_length(pixels(shape))
    call(
        kernel("synapse_gather"), ctypes.byref(geometry), kind, pointer(source), pointer(rows), int64(row),
        pointer(bias), pointer(out), dtype == torch.float16, int64(run), tasks=-(-pixels(shape) // run),
    )  # fmt: skip
    return out


def layer_forward(
    x: Tensor | Spikes,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    shape: Sequence[int],
    steps: int,
    neuron: LIF,
    surrogate: Surrogate,
    dtype: torch.dtype,
    *,
    transposed: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """`gather` and `neuron_forward` in one: the current stays in the accumulators.

    Args:
        x: the map whose events are followed, (steps N, ...).
        weight: as of `gather`.
        bias: as of `gather`.
        geometry: how neurons meet sources.
        shape: of the result, (steps N, C, H, W) or (steps N, C).
        steps: time steps.
        neuron: parameters that `supports` accepts.
        surrogate: not used forward; its family must be known.
        dtype: what membrane and spikes are stored as.
        transposed: as of `gather`.

    Returns:
        Spikes, membrane before the reset, and how many fired at each step (steps,) int64.
    """
    kind, source = source_of(x, geometry)
    check_shape("result", shape, geometry.n, geometry.oc, geometry.oh, geometry.ow)
    rows, row, bias = _weights(weight, bias, geometry, transposed=transposed)
    count, _, _ = step_blocks(shape, steps)
    run = _run_length(count)
    spikes, membrane = buffers.empty(shape, dtype), buffers.empty(shape, dtype)
    fired = torch.zeros(-(-count // run), steps, dtype=torch.int64)
    call(
        kernel("layer_forward"), ctypes.byref(geometry), kind, pointer(source), pointer(rows), int64(row),
        pointer(bias), ctypes.byref(parameters(neuron, surrogate)), int64(steps), pointer(spikes), pointer(membrane),
        dtype == torch.float16, pointer(fired), int64(run), tasks=len(fired),
    )  # fmt: skip
    return spikes, membrane, fired.sum(0)


def scatter(x: Tensor | Spikes, grad: Tensor, geometry: Geometry, weight_shape: Sequence[int]) -> Tensor:
    """Sum over pixels of gradient times event: WG's gradient of the weights.

    Args:
        x: the layer's input.
        grad: gradient of the current, (N, O, H', W') or (N, O).
        geometry: as FP's.
        weight_shape: (O, I, ...).

    Returns:
        (O, I, ...) float32.
    """
    kind, source = source_of(x, geometry)
    grad = check("gradient", grad, (2, 4), VALUES)
    check_shape("gradient", grad.shape, geometry.n, geometry.oc, geometry.oh, geometry.ow)
    if math.prod(weight_shape) != geometry.oc * geometry.c * geometry.kh * geometry.kw:
        raise ValueError(f"weights: expected the shape of {geometry.oc} x {geometry.c}, got {tuple(weight_shape)}")
    taps, row = geometry.kh * geometry.kw, -(-geometry.oc // UNIT) * UNIT
    blocks = -(-geometry.oc // _BLOCK)
    chunks = _chunks(pixels(grad.shape), blocks, taps * geometry.c * row * torch.float32.itemsize)
    partial = buffers.empty((chunks * taps * geometry.c, row), torch.float32).view(chunks, taps, geometry.c, row)
    call(
        kernel("synapse_scatter"), ctypes.byref(geometry), kind, pointer(source), pointer(grad),
        grad.dtype == torch.float16, pointer(partial), int64(row), int64(chunks), tasks=chunks * blocks,
    )  # fmt: skip
    return collected(partial, weight_shape)


def _chunks(count: int, blocks: int, partial_bytes: int) -> int:
    """Into how many parts WG cuts its sum over `count` pixels, a part taking so many bytes."""
    for_threads = min(_PARTIALS // max(1, blocks), count // _LEAST_PIXELS)
    for_precision = min(count // _LONGEST_SUM, _MOST_PARTIAL_BYTES // max(1, partial_bytes))
    return max(1, for_threads, for_precision)
