"""Encoders: values to inputs over time, time-major (T, B, ...).

`direct` gives analog inputs, the others spikes as 0.0 or 1.0. Input and output have the same type and device, and the
result depends on nothing but the arguments; `rate` draws from a generator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def direct(x: Tensor, steps: int) -> Tensor:
    """The values themselves at each step (Rueckauer et al. 2017): the first layer does the encoding.

    Args:
        x: values (B, ...).
        steps: T.

    Returns:
        A view (T, B, ...) that takes no memory; writing to it is not allowed.

    Raises:
        ValueError: if `x` has no batch or there are no steps.
    """
    _check(x, steps)
    return x.expand(steps, *x.shape)


def rate(x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
    """Spikes drawn at each step with the value as probability, independent of each other (a Bernoulli process).

    Args:
        x: probabilities of a spike, 0..1 (B, ...).
        steps: T.
        generator: where the randomness comes from; None takes torch's global one.

    Returns:
        Spikes (T, B, ...).

    Raises:
        ValueError: if `x` has no batch, integers or values beyond 0..1, or there are no steps.
    """
    _check(x, steps)
    _check_unit(x)
    return torch.bernoulli(x.expand(steps, *x.shape), generator=generator)


def latency(x: Tensor, steps: int, threshold: float = 0.01, tau: float | None = None) -> Tensor:
    """One spike for each value above the threshold, the earlier the larger the value.

    Linear, as SpikingJelly's LatencyEncoder: at step (T - 1) (1 - x), counted from 0. With `tau`, as snnTorch's
    `spikegen.latency`: at step tau ln(x / (x - threshold)), when an RC membrane that the value charges,
    u(t) = x (1 - exp(-t / tau)), reaches the threshold. Both are rounded to whole steps.

    Args:
        x: values 0..1 (B, ...).
        steps: T.
        threshold: the largest value that never fires, 0..1; with `tau` above 0.
        tau: time constant of the membrane in steps; None is linear. What would fire after the last step never does.

    Returns:
        Spikes (T, B, ...).

    Raises:
        ValueError: if `x` has no batch, integers or values beyond 0..1, there are no steps, or threshold or tau is
            out of range.
    """
    _check(x, steps)
    _check_unit(x)
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"expected a threshold of 0..1, 1 excluded, got {threshold!r}")
    if tau is not None and not (tau > 0.0 and threshold > 0.0):
        raise ValueError(f"expected tau and threshold above 0 for an RC membrane, got {tau!r} and {threshold!r}")
    values = x.to(torch.promote_types(x.dtype, torch.float32))
    time = (steps - 1) * (1 - values) if tau is None else -tau * torch.log1p(-threshold / values)
    time = time.round_()
    fires = (values > threshold) & (time < steps)
    time = time.where(fires, 0.0).to(torch.int64)
    return x.new_zeros(steps, *x.shape).scatter_(0, time.unsqueeze(0), fires.unsqueeze(0).to(x.dtype))


def delta(frames: Tensor, threshold: float) -> Tensor:
    """Events of change: ON where a value rose by the threshold since the frame before, OFF where it fell by it.

    As snnTorch's `spikegen.delta`. Unlike an event camera (Lichtsteiner et al. 2008) it does not compare with the
    value of the last event, so slow drifts leave no events. The first frame has none.

    Args:
        frames: values (T, B, C, ...).
        threshold: smallest change that is an event, above 0, in the unit of the values.

    Returns:
        Spikes (T, B, 2C, ...): the ON channels, then the OFF channels.

    Raises:
        ValueError: if the frames have no channels or there are none, they are integers, or the threshold is not
            above 0.
    """
    _check_floating(frames)
    if frames.dim() < 3 or len(frames) == 0:
        raise ValueError(f"expected frames (T, B, C, ...) with T of at least 1, got {tuple(frames.shape)}")
    if not threshold > 0.0:
        raise ValueError(f"expected a threshold above 0, got {threshold!r}")
    channels = frames.shape[2]
    events = frames.new_zeros(*frames.shape[:2], 2 * channels, *frames.shape[3:])
    change = frames[1:] - frames[:-1]
    torch.ge(change, threshold, out=events[1:, :, :channels])
    torch.le(change, -threshold, out=events[1:, :, channels:])
    return events


def _check(x: Tensor, steps: int) -> None:
    if x.dim() == 0:
        raise ValueError("expected values (B, ...), got a single number")
    if steps < 1:
        raise ValueError(f"expected at least 1 time step, got {steps}")


def _check_floating(x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"expected floating-point values, got {x.dtype}")


def _check_unit(x: Tensor) -> None:
    _check_floating(x)
    if not bool(((x >= 0) & (x <= 1)).all()):  # NaN fails either
        raise ValueError(f"expected values of 0..1, got {x.min().item():.4g}..{x.max().item():.4g}")
