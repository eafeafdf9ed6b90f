"""The neurons and surrogates of snnTorch and SpikingJelly, known by the names of their classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neuro_engine.neuron import LIF, if_node, leaky, lif_node, parametric_lif_node, synaptic
from neuro_engine.surrogate import Surrogate, atan, fast_sigmoid, rectangle, sigmoid, triangle


@dataclass(frozen=True, slots=True)
class Neurons:
    """The neurons of a layer.

    Attributes:
        neuron: their parameters.
        surrogate: derivative of their spike.
        leak_logit: logit of a learned leak where the neuron's own number is not the last word.
    """

    neuron: LIF
    surrogate: Surrogate
    leak_logit: Tensor | None = None


def need(name: str, module: nn.Module, **wanted: Any) -> None:
    """Refuse a module whose attributes are not those wanted; one that it does not have is as wanted."""
    for attribute, value in wanted.items():
        got = getattr(module, attribute, value)
        if got != value:
            raise ValueError(f"{name}: expected {type(module).__name__} with {attribute}={value!r}, got {got!r}")


def _number(name: str, module: nn.Module, attribute: str) -> float:
    value = torch.as_tensor(getattr(module, attribute)).detach()
    if value.numel() != 1:
        raise ValueError(f"{name}: expected one {attribute} for all neurons, got a tensor {tuple(value.shape)}")
    return float(value.item())


def _learned(module: nn.Module, attribute: str) -> bool:
    value = getattr(module, attribute, None)
    return isinstance(value, nn.Parameter) and value.requires_grad


def snntorch_neurons(name: str, module: Any, surrogate: Surrogate | None) -> Neurons | None:
    """The neurons of snnTorch; None for what is no neuron that is known."""
    kind = type(module).__name__
    if kind not in ("Leaky", "Synaptic"):
        return None
    need(name, module, reset_delay=True, inhibition=False, state_quant=False, surrogate_disable=False)
    for fixed in ("threshold", "alpha", "graded_spikes_factor"):
        if _learned(module, fixed):
            raise ValueError(
                f"{name}: expected a fixed {fixed}, got a learned one: fix it by {fixed}.requires_grad_(False)"
            )
    if _number(name, module, "graded_spikes_factor") != 1.0:
        raise ValueError(f"{name}: expected spikes of 1, got graded ones of {module.graded_spikes_factor.item()}")
    reset, learned = module.reset_mechanism, _learned(module, "beta")
    beta = min(max(_number(name, module, "beta"), 0.0), 1.0)
    threshold = _number(name, module, "threshold")
    if learned and reset == "subtract":
        raise ValueError(
            f"{name}: expected a fixed beta where the reset subtracts, got a learned one: fix it by "
            f"beta.requires_grad_(False), or choose the reset 'zero'"
        )
    if kind == "Leaky":
        neuron = leaky(beta, threshold, reset)
    elif reset == "zero":
        raise ValueError(
            f"{name}: expected Synaptic with the reset 'subtract' or 'none', got 'zero', which drops input too"
        )
    else:
        neuron = synaptic(min(max(_number(name, module, "alpha"), 0.0), 1.0), beta, threshold, reset)
    chosen = surrogate or _closure_surrogate(name, module.spike_grad)
    return Neurons(replace(neuron, learn_leak=learned), chosen)


def _closure_surrogate(name: str, spike_grad: Any) -> Surrogate:
    """The surrogate that one of the functions of `snntorch.surrogate` returned."""
    builders: dict[str, Callable[[float], Surrogate]] = {"atan": atan, "fast_sigmoid": fast_sigmoid, "sigmoid": sigmoid}
    made_by = getattr(spike_grad, "__qualname__", type(spike_grad).__name__).split(".")[0]
    if made_by not in builders or not getattr(spike_grad, "__module__", "").startswith("snntorch."):
        raise ValueError(
            f"{name}: expected a surrogate of {sorted(builders)}, got {made_by}: pass surrogate=... instead"
        )
    (scale,) = inspect.getclosurevars(spike_grad).nonlocals.values()
    return builders[made_by](float(scale))


def spikingjelly_neurons(name: str, module: Any, surrogate: Surrogate | None) -> Neurons | None:
    """The neurons of SpikingJelly; None for what is no neuron that is known."""
    kind = type(module).__name__
    if kind not in ("IFNode", "LIFNode", "ParametricLIFNode"):
        return None
    chosen = surrogate or _module_surrogate(name, module.surrogate_function)
    shared = (module.v_threshold, module.v_reset, module.detach_reset)
    try:
        if kind == "IFNode":
            return Neurons(if_node(*shared), chosen)
        if kind == "LIFNode":
            return Neurons(lif_node(float(module.tau), module.decay_input, *shared), chosen)
        logit = -module.w.detach()
        tau = 1.0 / torch.sigmoid(-logit.double()).item()
        return Neurons(parametric_lif_node(tau, module.decay_input, *shared), chosen, logit)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _module_surrogate(name: str, function: Any) -> Surrogate:
    """The surrogate that a module of `spikingjelly.activation_based.surrogate` is."""
    builders: dict[str, Callable[[float], Surrogate]] = {
        "ATan": atan,
        "Sigmoid": sigmoid,
        "PiecewiseQuadratic": lambda alpha: triangle(1.0 / alpha),
        "Rect": rectangle,
        "SoftSign": fast_sigmoid,
    }
    kind = type(function).__name__
    # SoftSign is alpha / 2 times the fast sigmoid
    if kind not in builders or not function.spiking or (kind == "SoftSign" and function.alpha != 2.0):
        raise ValueError(
            f"{name}: expected a spiking surrogate of {sorted(builders)}, SoftSign with alpha=2, got {function!r}: "
            f"pass surrogate=... instead"
        )
    return builders[kind](float(function.alpha))
