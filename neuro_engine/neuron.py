"""Dynamics of the leaky integrate-and-fire neuron, forward and backward, as pure functions over time.

For t = 1..T with v[0] = 0 and synaptic current I:

    h[t] = leak * v[t-1] + gain * I[t]          membrane before the reset
    s[t] = 1 if h[t] >= threshold else 0        spike
    v[t] = h (1 - s)        reset "hard"
           h - threshold s  reset "soft"
           h                reset "none"

SpikingJelly's LIF with time constant tau is leak = 1 - 1/tau with gain = 1/tau (`decay_input`) or 1; snnTorch's Leaky
is leak = beta, gain = 1; an integrate-and-fire neuron is leak = 1. With leak = 0 the neuron has no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from neuro_engine.surrogate import Surrogate

Reset = Literal["hard", "soft", "none"]


@dataclass(frozen=True, slots=True)
class LIF:
    """Parameters of a leaky integrate-and-fire neuron.

    Attributes:
        leak: factor on the membrane from one time step to the next, 0..1.
        gain: factor on the synaptic current.
        threshold: membrane at which the neuron fires.
        reset: what a spike does to the membrane.
        detach_reset: True where the gradient does not flow through the reset.
    """

    leak: float = 0.5
    gain: float = 1.0
    threshold: float = 1.0
    reset: Reset = "hard"
    detach_reset: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.leak <= 1.0:
            raise ValueError(f"expected a leak of 0..1, got {self.leak!r}")
        if self.reset not in ("hard", "soft", "none"):
            raise ValueError(f"expected a reset of 'hard', 'soft' or 'none', got {self.reset!r}")


def integrate(current: Tensor, leak: float, gain: float) -> Tensor:
    """Membrane of a neuron that never fires: h[t] = leak h[t-1] + gain I[t].

    Args:
        current: synaptic current (T, ...).
        leak: factor on the membrane from step to step.
        gain: factor on the current.

    Returns:
        The membrane (T, ...).
    """
    membrane = gain * current
    for t in range(1, len(membrane)):
        membrane[t].add_(membrane[t - 1], alpha=leak)
    return membrane


def integrate_backward(grad_membrane: Tensor, leak: float, gain: float) -> Tensor:
    """Gradient of the current of `integrate`, given that of the membrane; shapes (T, ...)."""
    grad = grad_membrane.clone(memory_format=torch.contiguous_format)
    for t in reversed(range(len(grad) - 1)):
        grad[t].add_(grad[t + 1], alpha=leak)
    return grad.mul_(gain)


def fire(current: Tensor, neuron: LIF) -> tuple[Tensor, Tensor]:
    """Run the neuron over time.

    Args:
        current: synaptic current (T, ...).
        neuron: its parameters.

    Returns:
        Spikes (T, ...) as 0.0 or 1.0, and the membrane before the reset h (T, ...), which BP needs.
    """
    membrane = torch.empty_like(current)
    spikes = torch.empty_like(current)
    for t in range(len(current)):
        h, s = membrane[t], spikes[t]
        torch.mul(current[t], neuron.gain, out=h)
        if t:
            h.add_(_reset(membrane[t - 1], spikes[t - 1], neuron), alpha=neuron.leak)
        torch.ge(h, neuron.threshold, out=s)
    return spikes, membrane


def _reset(h: Tensor, s: Tensor, neuron: LIF) -> Tensor:
    """Membrane after the reset."""
    if neuron.reset == "hard":
        return h * (1 - s)
    if neuron.reset == "soft":
        return torch.sub(h, s, alpha=neuron.threshold)
    return h


def fire_backward(grad_spikes: Tensor, membrane: Tensor, neuron: LIF, surrogate: Surrogate) -> Tensor:
    """Back-propagate through `fire`, for t = T..1 with dv[T] = 0.

    With eps = dL/ds, phi the surrogate at h - threshold:

        dh = eps phi + dv (1 - s) [- dv h phi]          reset "hard"
        dh = eps phi + dv [- dv threshold phi]          reset "soft"
        dh = eps phi + dv                               reset "none"
        dI = gain dh;  dv <- leak dh

    The terms in brackets are there unless `detach_reset`. A neuron with phi = 0 still passes dv on, so phi alone does
    not tell what may be skipped.

    Args:
        grad_spikes: dL/ds (T, ...).
        membrane: h as `fire` returned it (T, ...).
        neuron: the neuron's parameters.
        surrogate: the derivative to use for the spike.

    Returns:
        dL/dI (T, ...).
    """
    grad_current = torch.empty_like(membrane)
    grad_v: Tensor | None = None
    for t in reversed(range(len(membrane))):
        h = membrane[t]
        phi = surrogate.derivative(h - neuron.threshold)
        grad_h = torch.mul(grad_spikes[t], phi, out=grad_current[t])
        if grad_v is not None:
            grad_h.add_(_reset_backward(grad_v, h, phi, neuron))
        grad_v = neuron.leak * grad_h
    return grad_current.mul_(neuron.gain)


def _reset_backward(grad_v: Tensor, h: Tensor, phi: Tensor, neuron: LIF) -> Tensor:
    """Gradient of h through v, given that of v."""
    through = grad_v
    if neuron.reset == "hard":
        through = grad_v * (h < neuron.threshold)
    if neuron.detach_reset or neuron.reset == "none":
        return through
    jump = h if neuron.reset == "hard" else neuron.threshold
    return through - grad_v * jump * phi
