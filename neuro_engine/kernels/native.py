"""The kernels of `csrc`, with their arguments checked: a ValueError names what was wanted and got.

Maps are torch tensors whose channels are next to each other in memory: (N, C, H, W) in torch's channels-last format, or
(N, C). N is time times batch, time first. Values are float32 or float16.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuro_engine.kernels import buffers, build
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

_BITS, _FLOATS, _HALVES = range(3)
_UNIT, _BLOCK, _PATCH, _ROWS, _NEURONS, _ROUNDED = 16, 64, 16, 1024, 2048, 1 << 14  # as in csrc
_RESETS = {"hard": 0, "soft": 1, "none": 2}
_SURROGATES = {"rectangle": 0, "triangle": 1, "atan": 2, "fast_sigmoid": 3}
_MOST_OFFSETS = 2**32
_MOST_PIXELS = 2**31
_WIDEST_POOL = 15
_PARTIALS = 8
"""Into how many parts WG cuts its sum at least where the layer is too small to give that many threads something to do.
What the cut depends on is the shape alone: the order of a sum must not depend on the threads."""
_LONGEST_SUM, _MOST_PARTIAL_BYTES = 8192, 1 << 22
"""A part has at most so many pixels, to keep the error of its sum small, while the parts take few bytes."""
_SHORTEST_RUN, _LONGEST_RUN, _RUNS = 16, 512, 8
"""Neighbouring pixels share events, so a task of FP and BP is a long run of them, if that leaves enough tasks."""
_LEAST_PIXELS = 1024
"""A part of WG's sum has at least so many pixels."""


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


class _Neuron(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_float) for name in ("leak", "gain", "threshold", "drop", "scale")),
        *((name, ctypes.c_int32) for name in ("reset", "detach", "surrogate")),
    )


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


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where there are none for this machine (`missing` says why)."""
    path, _ = build.find()
    try:
        return ctypes.CDLL(str(path)) if path else None
    except OSError:  # damaged, or linked with what this machine lacks: torch still runs
        return None


def missing() -> str:
    """Why there are no kernels."""
    path, why = build.find()
    return f"cannot load {path}" if path else why


def _kernel(name: str) -> ctypes._NamedFuncPointer:
    loaded = library()
    if loaded is None:
        raise RuntimeError(f"no kernels: {missing()}")
    function = loaded[name]
    function.__name__ = name
    return function


def _run(kernel: Callable[..., int], *arguments: Any, tasks: int) -> None:
    """Run a kernel on torch's number of threads, or as many as there are tasks; ctypes lets go of the GIL meanwhile."""
    if kernel(*arguments, max(1, min(torch.get_num_threads(), tasks))):
        raise MemoryError(f"{kernel.__name__}: not enough memory for scratch space")


def supports(neuron: LIF, surrogate: Surrogate | None) -> bool:
    """True if the neuron kernels know this neuron and its surrogate."""
    plain = not (neuron.synapse_leak or neuron.adaptation or neuron.learn_leak)
    return plain and surrogate is not None and surrogate.name in _SURROGATES


def _check(name: str, x: Tensor, dims: Sequence[int], dtypes: Sequence[torch.dtype]) -> Tensor:
    """The tensor with its channels next to each other."""
    if x.dim() not in dims or x.dtype not in dtypes or x.device.type != "cpu":
        raise ValueError(
            f"{name}: expected a CPU tensor of {' or '.join(map(str, dims))} dimensions and "
            f"{' or '.join(map(str, dtypes))}, got {tuple(x.shape)} {x.dtype} on {x.device}"
        )
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()


_VALUES = (torch.float32, torch.float16)


def _pointer(x: Tensor | None) -> ctypes.c_void_p | None:
    return None if x is None else ctypes.c_void_p(x.data_ptr())


def _i64(x: int) -> ctypes.c_int64:
    return ctypes.c_int64(x)


def pixels(shape: Sequence[int]) -> int:
    """Pixels of a map: N H W."""
    return int(torch.Size((shape[0], *shape[2:])).numel())


def pack(x: Tensor) -> tuple[Spikes | None, Tensor]:
    """Spikes as bits, and how many values are not zero.

    Args:
        x: a map.

    Returns:
        The spikes, or None where a value is neither 0 nor 1, and the non-zeros at each pixel, (N, H, W) or (N,) int32.

    Raises:
        ValueError: if `x` is no map of float32 or float16.
    """
    x = _check("spikes", x, (2, 4), _VALUES)
    count, c = pixels(x.shape), x.shape[1]
    bits = torch.empty(count, -(-c // 64), dtype=torch.int64)
    counts = torch.empty((x.shape[0], *x.shape[2:]), dtype=torch.int32)
    graded = ctypes.c_int32(0)
    _run(
        _kernel("pack"), _pointer(x), x.dtype == torch.float16, _i64(count), _i64(c), _pointer(bits),
        _pointer(counts), ctypes.byref(graded), tasks=-(-count // _ROWS),
    )  # fmt: skip
    return None if graded.value else Spikes(bits, counts, x.shape), counts


def unpack(spikes: Spikes, dtype: torch.dtype) -> Tensor:
    """Spikes as a map of 0.0 and 1.0."""
    x = buffers.empty(spikes.shape, dtype)
    count = pixels(spikes.shape)
    _run(
        _kernel("unpack"), _pointer(spikes.bits), _i64(count), _i64(spikes.shape[1]), _pointer(x),
        dtype == torch.float16, tasks=-(-count // _ROWS),
    )  # fmt: skip
    return x


def _check_shape(name: str, shape: Sequence[int], n: int, c: int, h: int, w: int) -> None:
    """Raise ValueError unless `shape` is (n, c, h, w), or (n, c) where h = w = 1."""
    if tuple(shape) != (n, c, h, w) and (tuple(shape), h, w) != ((n, c), 1, 1):
        raise ValueError(f"{name}: expected a map of {(n, c, h, w)}, got {tuple(shape)}")
    if pixels(shape) >= _MOST_PIXELS:
        raise ValueError(f"{name}: expected fewer than {_MOST_PIXELS} pixels, got a map of {tuple(shape)}")


def _source(x: Tensor | Spikes, geometry: Geometry) -> tuple[int, Tensor]:
    g = geometry
    if min(g.n, g.c, g.h, g.w, g.oc, g.oh, g.ow, g.padding) < 0 or min(g.kh, g.kw, g.stride) < 1:
        sizes = {field[0]: getattr(g, field[0]) for field in Geometry._fields_}
        raise ValueError(f"geometry: expected sizes from 0, kernel and stride from 1, got {sizes}")
    _check_shape("events", x.shape, g.n, g.c, g.h, g.w)
    if isinstance(x, Spikes):
        return _BITS, x.bits
    x = _check("events", x, (2, 4), _VALUES)
    return (_HALVES if x.dtype == torch.float16 else _FLOATS), x


def _rows(weight: Tensor, *, transposed: bool) -> tuple[Tensor, int]:
    """Weights (O, I, ...) as the kernels read them: a row of outputs for each tap and input; transposed, of inputs."""
    weight = weight.detach().contiguous()
    a, b, taps = weight.shape[0], weight.shape[1], math.prod(weight.shape[2:])
    listed, length = (a, b) if transposed else (b, a)
    row = -(-length // _UNIT) * _UNIT
    out = torch.empty(taps, listed, row)
    _run(
        _kernel("arrange"), _pointer(weight), _i64(a), _i64(b), _i64(taps), transposed, _i64(row), _pointer(out),
        tasks=-(-listed // _PATCH),
    )  # fmt: skip
    return out, row


def _weights(
    weight: Tensor, bias: Tensor | None, geometry: Geometry, *, transposed: bool
) -> tuple[Tensor, int, Tensor | None]:
    """Checked weights as the kernels read them, the length of a row, and the bias."""
    g = geometry
    wanted = (g.oc, g.c) if not transposed else (g.c, g.oc)
    taps = math.prod(weight.shape[2:])
    if weight.dtype != torch.float32 or tuple(weight.shape[:2]) != wanted or taps != g.kh * g.kw:
        got = f"{weight.dtype} {tuple(weight.shape)}"
        raise ValueError(f"weights: expected float32 {wanted} x {g.kh} x {g.kw}, got {got}")
    if g.c * (g.oc + _UNIT) >= _MOST_OFFSETS:
        raise ValueError(f"weights: expected inputs x outputs below 2^32, got {g.c} x {g.oc}")
    if bias is not None and (tuple(bias.shape) != (g.oc,) or bias.dtype != torch.float32):
        raise ValueError(f"bias: expected float32 ({g.oc},), got {bias.dtype} {tuple(bias.shape)}")
    rows, row = _rows(weight, transposed=transposed)
    return rows, row, None if bias is None else bias.detach().contiguous()


def _run_length(pixels: int) -> int:
    return max(_SHORTEST_RUN, min(_LONGEST_RUN, pixels // _RUNS))


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
        weight: (O, I, ...) float32.
        bias: (outputs,) float32, added to each target pixel.
        geometry: how targets meet sources.
        shape: of the result, (N, C, H, W) or (N, C).
        dtype: of the result.
        transposed: True to follow the rows of inputs, as BP does.

    Returns:
        The map of `shape`.
    """
    kind, source = _source(x, geometry)
    _check_shape("result", shape, geometry.n, geometry.oc, geometry.oh, geometry.ow)
    rows, row, bias = _weights(weight, bias, geometry, transposed=transposed)
    out, run = buffers.empty(shape, dtype), _run_length(pixels(shape))
    _run(
        _kernel("synapse_gather"), ctypes.byref(geometry), kind, _pointer(source), _pointer(rows), _i64(row),
        _pointer(bias), _pointer(out), dtype == torch.float16, _i64(run), tasks=-(-pixels(shape) // run),
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
    kind, source = _source(x, geometry)
    _check_shape("result", shape, geometry.n, geometry.oc, geometry.oh, geometry.ow)
    rows, row, bias = _weights(weight, bias, geometry, transposed=transposed)
    count, _, _ = _blocks(shape, steps)
    run = _run_length(count)
    spikes, membrane = buffers.empty(shape, dtype), buffers.empty(shape, dtype)
    fired = torch.zeros(-(-count // run), steps, dtype=torch.int64)
    _run(
        _kernel("layer_forward"), ctypes.byref(geometry), kind, _pointer(source), _pointer(rows), _i64(row),
        _pointer(bias), ctypes.byref(_neuron(neuron, surrogate)), _i64(steps), _pointer(spikes), _pointer(membrane),
        dtype == torch.float16, _pointer(fired), _i64(run), tasks=len(fired),
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
    kind, source = _source(x, geometry)
    grad = _check("gradient", grad, (2, 4), _VALUES)
    _check_shape("gradient", grad.shape, geometry.n, geometry.oc, geometry.oh, geometry.ow)
    if math.prod(weight_shape) != geometry.oc * geometry.c * geometry.kh * geometry.kw:
        raise ValueError(f"weights: expected the shape of {geometry.oc} x {geometry.c}, got {tuple(weight_shape)}")
    taps, row = geometry.kh * geometry.kw, -(-geometry.oc // _UNIT) * _UNIT
    blocks = -(-geometry.oc // _BLOCK)
    chunks = _chunks(pixels(grad.shape), blocks, taps * geometry.c * row * torch.float32.itemsize)
    partial = torch.empty(chunks, taps, geometry.c, row)
    _run(
        _kernel("synapse_scatter"), ctypes.byref(geometry), kind, _pointer(source), _pointer(grad),
        grad.dtype == torch.float16, _pointer(partial), _i64(row), _i64(chunks), tasks=chunks * blocks,
    )  # fmt: skip
    out = torch.empty(tuple(weight_shape))
    _run(
        _kernel("collect"), _pointer(partial), _i64(chunks), _i64(geometry.oc), _i64(geometry.c), _i64(taps),
        _i64(row), _pointer(out), tasks=-(-geometry.c // _PATCH),
    )  # fmt: skip
    return out


def _chunks(count: int, blocks: int, partial_bytes: int) -> int:
    """Into how many parts WG cuts its sum over `count` pixels, a part taking so many bytes."""
    for_threads = min(_PARTIALS // max(1, blocks), count // _LEAST_PIXELS)
    for_precision = min(count // _LONGEST_SUM, _MOST_PARTIAL_BYTES // max(1, partial_bytes))
    return max(1, for_threads, for_precision)


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
    _run(
        _kernel("count_pairs"), ctypes.byref(geometry), _pointer(counts), _pointer(grad_counts), _pointer(ops),
        tasks=geometry.n,
    )  # fmt: skip
    return ops


def _neuron(neuron: LIF, surrogate: Surrogate) -> _Neuron:
    return _Neuron(
        neuron.leak, neuron.gain, neuron.threshold, neuron.drop, surrogate.scale,
        _RESETS[neuron.reset], neuron.detach_reset, _SURROGATES[surrogate.name],
    )  # fmt: skip


def _blocks(shape: Sequence[int], steps: int) -> tuple[int, int, int]:
    """Pixels of a time step, channels and blocks of a map (steps N, C, ...)."""
    if steps < 1 or shape[0] % steps:
        raise ValueError(f"neurons: expected whole time steps, got {steps} steps for a map of {tuple(shape)}")
    count, c = pixels(shape) // steps, shape[1]
    return count, c, -(-count // (1 if c >= _NEURONS else max(1, _NEURONS // max(1, c))))


def neuron_forward(
    current: Tensor,
    steps: int,
    neuron: LIF,
    surrogate: Surrogate,
    dtype: torch.dtype,
    *,
    constant: bool = False,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """All time steps of spiking neurons.

    Args:
        current: synaptic current (steps N, C, ...), or (N, C, ...) if `constant`.
        steps: time steps.
        neuron: parameters that `supports` accepts.
        surrogate: not used forward; its family must be known.
        dtype: what membrane and spikes are stored as.
        constant: True where the current is the same at each step.
        scale: what each channel of the current is multiplied by (C,), or None.
        shift: what is then added to it (C,); given with `scale`.

    Returns:
        Spikes, membrane before the reset (both (steps N, C, ...)), and how many fired at each step (steps,) int64.
    """
    current = _check("current", current, (2, 4), _VALUES)
    shape = (current.shape[0] * steps, *current.shape[1:]) if constant else tuple(current.shape)
    count, c, blocks = _blocks(shape, steps)
    scale, shift = (_channels(name, x, c) for name, x in (("scale", scale), ("shift", shift)))
    spikes, membrane = buffers.empty(shape, dtype), buffers.empty(shape, dtype)
    fired = torch.zeros(blocks, steps, dtype=torch.int64)
    _run(
        _kernel("neuron_forward"), ctypes.byref(_neuron(neuron, surrogate)), _pointer(current),
        current.dtype == torch.float16, constant, _pointer(scale), _pointer(shift), _pointer(spikes),
        _pointer(membrane), dtype == torch.float16, _pointer(fired), _i64(steps), _i64(count), _i64(c), tasks=blocks,
    )  # fmt: skip
    return spikes, membrane, fired.sum(0)


def _channels(name: str, x: Tensor | None, c: int) -> Tensor | None:
    if x is not None and (tuple(x.shape) != (c,) or x.dtype != torch.float32):
        raise ValueError(f"{name}: expected float32 ({c},), got {x.dtype} {tuple(x.shape)}")
    return None if x is None else x.detach().contiguous()


def neuron_backward(
    grad: Tensor,
    membrane: Tensor,
    steps: int,
    neuron: LIF,
    surrogate: Surrogate,
    *,
    constant: bool = False,
    current: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Back-propagates through `neuron_forward`, as far as the normalised current.

    Args:
        grad: gradient of the spikes (steps N, C, ...), of the membrane's type.
        membrane: as `neuron_forward` gave it.
        steps: time steps.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        constant: True where the current is the same at each step; its gradient is then the sum over the steps.
        current: the current before it was normalised, of the membrane's type, where its products are wanted.

    Returns:
        Gradient of the (normalised) current; by channel its sum and the sum of its products with `current` (0 without)
        (2, C) float64; and its non-zeros by pixel (N, H, W) or (N,) int32.
    """
    membrane, grad = _check("membrane", membrane, (2, 4), _VALUES), _check("gradient", grad, (2, 4), _VALUES)
    if grad.shape != membrane.shape or grad.dtype != membrane.dtype:
        raise ValueError(
            f"gradient: expected {tuple(membrane.shape)} {membrane.dtype}, got {tuple(grad.shape)} {grad.dtype}"
        )
    count, c, blocks = _blocks(membrane.shape, steps)
    images = membrane.shape[0] // steps if constant else membrane.shape[0]
    out = buffers.empty((images, *membrane.shape[1:]), membrane.dtype)
    if current is not None:
        current = _check("current", current, (2, 4), (membrane.dtype,))
        if current.shape != out.shape:
            raise ValueError(f"current: expected {tuple(out.shape)}, got {tuple(current.shape)}")
    sums = torch.empty(blocks, 2, c)
    nonzeros = torch.empty((images, *membrane.shape[2:]), dtype=torch.int32)
    _run(
        _kernel("neuron_backward"), ctypes.byref(_neuron(neuron, surrogate)), _pointer(grad), _pointer(membrane),
        _pointer(out), membrane.dtype == torch.float16, constant, _pointer(current), _pointer(sums),
        _pointer(nonzeros), _i64(steps), _i64(count), _i64(c), tasks=blocks,
    )  # fmt: skip
    return out, sums.sum(0, dtype=torch.float64), nonzeros


def channel_sums(y: Tensor) -> Tensor:
    """Sums of a map and of its squares over all pixels, by channel: (2, C) float64."""
    y = _check("map", y, (2, 4), _VALUES)
    count, c = pixels(y.shape), y.shape[1]
    tasks = -(-count // _ROWS)
    sums = torch.empty(tasks, 2, c)
    _run(
        _kernel("channel_sums"), _pointer(y), y.dtype == torch.float16, _i64(count), _i64(c), _pointer(sums),
        tasks=tasks,
    )  # fmt: skip
    return sums.sum(0, dtype=torch.float64)


def norm_backward_(grad: Tensor, y: Tensor, a: Tensor, b: Tensor, d: Tensor) -> Tensor:
    """Replace `grad` by a grad + b y + d, with factors by channel, in place.

    Args:
        grad: a map, channels next to each other.
        y: a map of the same shape and type.
        a: (C,) float32.
        b: (C,) float32.
        d: (C,) float32.

    Returns:
        Non-zeros of the result by pixel, (N, H, W) or (N,) int32.
    """
    y, kept = _check("map", y, (2, 4), _VALUES), _check("gradient", grad, (2, 4), _VALUES)
    if kept.data_ptr() != grad.data_ptr() or y.shape != grad.shape or y.dtype != grad.dtype:
        raise ValueError(
            f"gradient: expected channels-last {tuple(y.shape)} {y.dtype}, got {tuple(grad.shape)} {grad.dtype}"
        )
    count, c = pixels(y.shape), y.shape[1]
    factors = [_channels(name, x, c) for name, x in (("a", a), ("b", b), ("d", d))]
    nonzeros = torch.empty((y.shape[0], *y.shape[2:]), dtype=torch.int32)
    _run(
        _kernel("norm_backward"), _pointer(grad), _pointer(y), y.dtype == torch.float16, *map(_pointer, factors),
        _i64(count), _i64(c), _pointer(nonzeros), tasks=-(-count // _ROWS),
    )  # fmt: skip
    return nonzeros


def pool_forward(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Max-pooling over k x k windows: the maxima, and which of its window each was, uint8."""
    x = _check("pool", x, (4,), _VALUES)
    n, c, h, w = x.shape
    if not 1 <= k <= _WIDEST_POOL or h < k or w < k:
        raise ValueError(f"pool: expected a window of 1..{_WIDEST_POOL} within the map, got {k} for {tuple(x.shape)}")
    out, winner = buffers.empty((n, c, h // k, w // k), x.dtype), buffers.empty((n, c, h // k, w // k), torch.uint8)
    _run(
        _kernel("pool_forward"), _pointer(x), x.dtype == torch.float16, _i64(n), _i64(h), _i64(w), _i64(c), _i64(k),
        _pointer(out), _pointer(winner), tasks=n * (h // k),
    )  # fmt: skip
    return out, winner


def pool_backward(grad: Tensor, winner: Tensor, shape: Sequence[int], k: int) -> Tensor:
    """The gradient of `pool_forward`'s input, of `shape`."""
    grad = _check("gradient", grad, (4,), _VALUES)
    if not 1 <= k <= _WIDEST_POOL or len(shape) != 4 or winner.dtype != torch.uint8:
        raise ValueError(f"pool: expected a window of 1..{_WIDEST_POOL} and a map of 4 dimensions, got {k} for {shape}")
    winner = winner.contiguous(memory_format=torch.channels_last)
    if grad.shape != winner.shape or tuple(grad.shape) != (*shape[:2], shape[2] // k, shape[3] // k):
        raise ValueError(f"gradient: expected {tuple(winner.shape)}, got {tuple(grad.shape)} for a map of {shape}")
    n, c, h, w = shape
    out = buffers.empty(shape, grad.dtype)
    _run(
        _kernel("pool_backward"), _pointer(grad), _pointer(winner), grad.dtype == torch.float16, _i64(n), _i64(h),
        _i64(w), _i64(c), _i64(k), _pointer(out), tasks=n * h,
    )  # fmt: skip
    return out


def round_half(x: Tensor, seed: int = 0) -> Tensor:
    """Float32 values rounded to binary16, as float32.

    Args:
        x: any shape.
        seed: 0 rounds to nearest even; another number up or down, with the probability of the remainder.

    Raises:
        ValueError: if `x` is not float32 on the CPU, or the seed no 32-bit number.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu" or not 0 <= seed < _MOST_OFFSETS:
        raise ValueError(f"expected float32 on the CPU and a seed below 2^32, got {x.dtype} on {x.device} and {seed}")
    out = torch.empty_like(x)  # of the same strides, where they leave no gaps
    if x.stride() != out.stride():
        x = x.contiguous()
        out = torch.empty_like(x)
    _run(
        _kernel("round_half"), _pointer(x), _i64(x.numel()), ctypes.c_uint32(seed), _pointer(out),
        tasks=-(-x.numel() // _ROUNDED),
    )  # fmt: skip
    return out
