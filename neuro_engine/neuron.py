"""Dynamics of the leaky integrate-and-fire family, forward and backward, as pure functions over time.

For t = 1..T, with all state 0 before, and the synapse's current I:

    i[t] = synapse_leak i[t-1] + I[t]                  synaptic trace; i = I where synapse_leak is 0
    h[t] = leak v[t-1] + gain i[t]                     membrane before the reset
    a[t] = adaptation_leak a[t-1] + s[t-1]             adaptation
    s[t] = 1 if h[t] >= threshold + adaptation a[t] else 0
    v[t] = h (1 - s)        reset "hard"
           h - reset_by s   reset "soft"
           h                reset "none"

With leak 1 the neuron is IF; with `synapse_leak` it is the current-based LIF; with `adaptation` it is ALIF (Bellec et
al. 2020); with `learn_leak` it is PLIF (Fang et al. 2021). With leak 0 it has no memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from neuro_engine.lif import LIF, Reset, alif, if_node, leaky, lif_node, parametric_lif_node, synaptic
from neuro_engine.surrogate import Surrogate

__all__ = [
    "LIF",
    "Reset",
    "after_reset",
    "alif",
    "fire",
    "fire_backward",
    "if_node",
    "integrate",
    "integrate_backward",
    "leaky",
    "lif_node",
    "parametric_lif_node",
    "synaptic",
]


def _compute_type(storage: torch.dtype) -> torch.dtype:
    """At least float32: what is stored in fewer bits is computed in more."""
    return torch.promote_types(storage, torch.float32)


def _factors(neuron: LIF, leak: Tensor | None, dtype: torch.dtype) -> tuple[float | Tensor, float | Tensor]:
    """The factors on membrane and current."""
    factor = neuron.leak if leak is None else leak.detach().to(dtype)
    return factor, neuron.gain * (1 - factor) if neuron.decay_input else neuron.gain


def _add(x: Tensor, y: Tensor, factor: float | Tensor) -> Tensor:
    """Add `factor` times `y`, in place."""
    return x.addcmul_(y, factor) if isinstance(factor, Tensor) else x.add_(y, alpha=factor)


def _leaky_sum(x: Tensor, leak: float | Tensor, *, backward: bool = False) -> Tensor:
    """In place, x[t] += leak x[t-1] for t = 2..T; `backward`, which transposes it, x[t] += leak x[t+1]."""
    steps = x.unbind()
    for before, step in pairwise(steps[::-1] if backward else steps):
        _add(step, before, leak)
    return x


def integrate(current: Tensor, neuron: LIF, leak: Tensor | None = None) -> Tensor:
    """Membrane of a neuron that never fires: h[t] = leak h[t-1] + gain i[t].

    Args:
        current: synaptic current (T, B, ...).
        neuron: its parameters; threshold, reset and adaptation play no part.
        leak: a learned leak in place of the neuron's: one number, or a shape that broadcasts to one time step.

    Returns:
        The membrane (T, B, ...), float32 or float64.
    """
    dtype = _compute_type(current.dtype)
    factor, gain = _factors(neuron, leak, dtype)
    membrane = current.to(dtype) * gain
    if neuron.synapse_leak:
        _leaky_sum(membrane, neuron.synapse_leak)
    return _leaky_sum(membrane, factor)


def integrate_backward(
    grad_membrane: Tensor, membrane: Tensor, neuron: LIF, leak: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Back-propagate through `integrate`.

    Args:
        grad_membrane: dL/dh (T, B, ...).
        membrane: h as `integrate` returned it.
        neuron: the neuron's parameters.
        leak: the learned leak that was used, or None.

    Returns:
        dL/dI (T, B, ...) in float32 or float64, and dL/d leak where it is learned.
    """
    dtype = _compute_type(membrane.dtype)
    factor, gain = _factors(neuron, leak, dtype)
    grad_h = torch.empty_like(membrane, dtype=dtype).copy_(grad_membrane)
    _leaky_sum(grad_h, factor, backward=True)
    grad_leak = None if leak is None else _leak_gradient(grad_h, membrane, membrane, neuron, leak)
    return _current_gradient(grad_h, gain, neuron), grad_leak


def fire(
    current: Tensor, neuron: LIF, leak: Tensor | None = None, storage: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Run the neuron over time.

    Args:
        current: synaptic current (T, B, ...).
        neuron: its parameters.
        leak: a learned leak in place of the neuron's: one number, or a shape that broadcasts to one time step.
        storage: type of spikes and membrane; None takes that of the current. The membrane is rounded to it at each
            step, before the neuron compares it with the threshold.

    Returns:
        Spikes (T, B, ...) as 0.0 or 1.0, and the membrane before the reset h (T, B, ...), all that BP needs.
    """
    storage = storage or current.dtype
    dtype = _compute_type(storage)
    factor, gain = _factors(neuron, leak, dtype)
    spikes, membrane = (torch.empty_like(current, dtype=storage) for _ in range(2))
    i: Tensor | None = None
    a: float | Tensor = 0.0
    for t in range(len(current)):
        x = current[t].to(dtype)
        i = x if i is None or not neuron.synapse_leak else torch.add(x, i, alpha=neuron.synapse_leak)
        h = membrane[t] if storage == dtype else torch.empty_like(x)
        torch.mul(i, gain, out=h)
        if t:
            s = spikes[t - 1].to(dtype)
            _add(h, after_reset(membrane[t - 1].to(dtype), s, neuron), factor)
            a = _adapt(a, s, neuron)
        if storage != dtype:
            h.copy_(membrane[t].copy_(h))
        torch.ge(h, neuron.threshold + neuron.adaptation * a, out=spikes[t])
    return spikes, membrane


def after_reset(h: Tensor, s: Tensor, neuron: LIF) -> Tensor:
    """Membrane after the reset."""
    if neuron.reset == "hard":
        return h * (1 - s)
    if neuron.reset == "soft":
        return torch.sub(h, s, alpha=neuron.drop)
    return h


def _adapt(a: float | Tensor, s: Tensor, neuron: LIF) -> float | Tensor:
    """Adaptation of the next step."""
    return neuron.adaptation_leak * a + s if neuron.adaptation else a


def _thresholds(membrane: Tensor, neuron: LIF) -> list[float | Tensor]:
    """The threshold at each step, as `fire` had it."""
    if not neuron.adaptation:
        return [neuron.threshold] * len(membrane)
    a: float | Tensor = 0.0
    thresholds: list[float | Tensor] = []
    for h in membrane:
        thresholds.append(neuron.threshold + neuron.adaptation * a)
        a = _adapt(a, _spikes(h, thresholds[-1]), neuron)
    return thresholds


def _spikes(h: Tensor, threshold: float | Tensor) -> Tensor:
    """The spikes of a membrane as stored, which is compared in the type of `fire`."""
    h = h.to(_compute_type(h.dtype))
    return (h >= threshold).to(h.dtype)


def fire_backward(
    grad_spikes: Tensor, membrane: Tensor, neuron: LIF, surrogate: Surrogate, leak: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Back-propagate through `fire`, for t = T..1 with dv[T] = da[T+1] = di[T+1] = 0.

    The derivatives of the equations above, phi being the surrogate at h minus the threshold of the step:

        ds = dL/ds [+ da[t+1] - dv h]                reset "hard"
             dL/ds [+ da[t+1] - dv reset_by]         reset "soft"
             dL/ds [+ da[t+1]]                       reset "none"
        dh = ds phi + dv (1 - s)                     reset "hard"; else ds phi + dv
        da = adaptation_leak da[t+1] - adaptation ds phi
        dI = di = gain dh + synapse_leak di[t+1]
        dv <- leak dh;  dleak = sum over t of dh[t+1] v[t]

    The terms in brackets are there unless `detach_reset`. A neuron with phi = 0 still passes dv on, so phi alone does
    not tell what may be skipped.

    Args:
        grad_spikes: dL/ds (T, B, ...).
        membrane: h as `fire` returned it (T, B, ...).
        neuron: the neuron's parameters.
        surrogate: the derivative to use for the spike.
        leak: the learned leak that was used, or None.

    Returns:
        dL/dI (T, B, ...) in float32 or float64, and dL/d leak where it is learned.
    """
    dtype = _compute_type(membrane.dtype)
    factor, gain = _factors(neuron, leak, dtype)
    thresholds = _thresholds(membrane, neuron)
    grad_membrane = torch.empty_like(membrane, dtype=dtype)
    grad_v: Tensor | None = None
    grad_a: Tensor | None = None
    for t in reversed(range(len(membrane))):
        h = membrane[t].to(dtype)
        grad_s = _spike_gradient(grad_spikes[t].to(dtype), grad_v, grad_a, h, neuron)
        grad_h = torch.mul(grad_s, surrogate.derivative(h - thresholds[t]), out=grad_membrane[t])
        if neuron.adaptation and not neuron.detach_reset:
            grad_a = grad_h * -neuron.adaptation + (0.0 if grad_a is None else neuron.adaptation_leak * grad_a)
        if grad_v is not None:
            grad_h.add_(grad_v * (h < thresholds[t]) if neuron.reset == "hard" else grad_v)
        grad_v = grad_h * factor
    grad_leak = None
    if leak is not None:
        pairs = zip(membrane, thresholds, strict=True)
        states = (after_reset(h.to(dtype), _spikes(h, threshold), neuron) for h, threshold in pairs)
        grad_leak = _leak_gradient(grad_membrane, membrane, states, neuron, leak)
    return _current_gradient(grad_membrane, gain, neuron), grad_leak


def _spike_gradient(grad_s: Tensor, grad_v: Tensor | None, grad_a: Tensor | None, h: Tensor, neuron: LIF) -> Tensor:
    """dL/ds, with what flows through reset and adaptation."""
    if grad_a is not None:
        grad_s = grad_s + grad_a
    if grad_v is None or neuron.detach_reset or neuron.reset == "none":
        return grad_s
    return grad_s - grad_v * (h if neuron.reset == "hard" else neuron.drop)


def _leak_gradient(grad_h: Tensor, membrane: Tensor, states: Iterable[Tensor], neuron: LIF, leak: Tensor) -> Tensor:
    """dL/d leak, given dL/dh, h, and the membrane after the reset v at each step.

    Where the gain is 1 - leak, dh[t]/dleak = v[t-1] - gain i[t] = (v[t-1] - h[t]) / (1 - leak).
    """
    total = torch.zeros_like(leak, dtype=grad_h.dtype)
    for later, v in zip(grad_h[1:], states, strict=False):
        total += (later * v).sum_to_size(leak.shape)
    if neuron.decay_input:
        for grad, h in zip(grad_h, membrane, strict=True):
            total -= (grad * h).sum_to_size(leak.shape)
        total /= (1 - leak.detach()).clamp_min(torch.finfo(leak.dtype).eps)  # at leak 1, h tells nothing of i
    return total.to(leak.dtype)


def _current_gradient(grad_h: Tensor, gain: float | Tensor, neuron: LIF) -> Tensor:
    """dL/dI in the place of dL/dh."""
    grad_h.mul_(gain)
    return _leaky_sum(grad_h, neuron.synapse_leak, backward=True) if neuron.synapse_leak else grad_h
