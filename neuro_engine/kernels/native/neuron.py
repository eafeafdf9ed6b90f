"""Spiking neurons over all time steps, forward and backward."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from neuro_engine.kernels import buffers
from neuro_engine.kernels.native.binding import call, int64, kernel, pointer
from neuro_engine.kernels.native.checks import VALUES, by_channel, check, pixels
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

_NEURONS = 2048  # as in csrc
_RESETS = {"hard": 0, "soft": 1, "none": 2}
_SURROGATES = {"rectangle": 0, "triangle": 1, "atan": 2, "fast_sigmoid": 3}


class Parameters(ctypes.Structure):
    """A neuron and its surrogate: see `neuron` in csrc/neuron.h."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("leak", "gain", "threshold", "drop", "scale")),
        *((name, ctypes.c_int32) for name in ("reset", "detach", "surrogate")),
    )


def supports(neuron: LIF, surrogate: Surrogate | None) -> bool:
    """True if the neuron kernels know this neuron and its surrogate."""
    plain = not (neuron.synapse_leak or neuron.adaptation or neuron.learn_leak)
    return plain and surrogate is not None and surrogate.name in _SURROGATES


def parameters(neuron: LIF, surrogate: Surrogate) -> Parameters:
    """What the kernels know of a neuron that `supports` accepts."""
    return Parameters(
        neuron.leak, neuron.gain, neuron.threshold, neuron.drop, surrogate.scale,
        _RESETS[neuron.reset], neuron.detach_reset, _SURROGATES[surrogate.name],
    )  # fmt: skip


def step_blocks(shape: Sequence[int], steps: int) -> tuple[int, int, int]:
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
    current = check("current", current, (2, 4), VALUES)
    shape = (current.shape[0] * steps, *current.shape[1:]) if constant else tuple(current.shape)
    count, c, blocks = step_blocks(shape, steps)
    scale, shift = (by_channel(name, x, c) for name, x in (("scale", scale), ("shift", shift)))
    spikes, membrane = buffers.empty(shape, dtype), buffers.empty(shape, dtype)
    fired = torch.zeros(blocks, steps, dtype=torch.int64)
    call(
        kernel("neuron_forward"), ctypes.byref(parameters(neuron, surrogate)), pointer(current),
        current.dtype == torch.float16, constant, pointer(scale), pointer(shift), pointer(spikes),
        pointer(membrane), dtype == torch.float16, pointer(fired), int64(steps), int64(count), int64(c), tasks=blocks,
    )  # fmt: skip
    return spikes, membrane, fired.sum(0)


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
    membrane, grad = check("membrane", membrane, (2, 4), VALUES), check("gradient", grad, (2, 4), VALUES)
    if grad.shape != membrane.shape or grad.dtype != membrane.dtype:
        raise ValueError(
            f"gradient: expected {tuple(membrane.shape)} {membrane.dtype}, got {tuple(grad.shape)} {grad.dtype}"
        )
    count, c, blocks = step_blocks(membrane.shape, steps)
    images = membrane.shape[0] // steps if constant else membrane.shape[0]
    out = buffers.empty((images, *membrane.shape[1:]), membrane.dtype)
    if current is not None:
        current = check("current", current, (2, 4), (membrane.dtype,))
        if current.shape != out.shape:
            raise ValueError(f"current: expected {tuple(out.shape)}, got {tuple(current.shape)}")
    sums = torch.empty(blocks, 2, c)
    nonzeros = torch.empty((images, *membrane.shape[2:]), dtype=torch.int32)
    call(
        kernel("neuron_backward"), ctypes.byref(parameters(neuron, surrogate)), pointer(grad), pointer(membrane),
        pointer(out), membrane.dtype == torch.float16, constant, pointer(current), pointer(sums),
        pointer(nonzeros), int64(steps), int64(count), int64(c), tasks=blocks,
    )  # fmt: skip
    return out, sums.sum(0, dtype=torch.float64), nonzeros
