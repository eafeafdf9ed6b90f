"""Parameters of the neurons of `neuro_engine.neuron`, which has their equations, and what other libraries call them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Reset = Literal["hard", "soft", "none"]


@dataclass(frozen=True, slots=True)
class LIF:
    """Parameters of a neuron of the family.

    Attributes:
        leak: factor on the membrane from one time step to the next, 0..1.
        gain: factor on the synaptic current.
        threshold: membrane at which the neuron fires.
        reset: what a spike does to the membrane.
        detach_reset: True where no gradient flows from a neuron's spike to its own later steps, neither through the
            reset nor through the adaptation.
        reset_by: what a soft reset subtracts; None subtracts the threshold, without its adaptation.
        synapse_leak: factor on the synaptic trace from step to step, 0..1.
        adaptation: by how much each spike raises the threshold.
        adaptation_leak: factor on the adaptation from step to step, 0..1.
        learn_leak: True where the leak is a parameter of the layer, which begins at `leak`.
        decay_input: True where the current is scaled by 1 - leak as well, whatever the learned leak becomes.

    Raises:
        ValueError: if a leak is not in 0..1, a learned one not between them, or the reset is unknown.
    """

    leak: float = 0.5
    gain: float = 1.0
    threshold: float = 1.0
    reset: Reset = "hard"
    detach_reset: bool = True
    reset_by: float | None = None
    synapse_leak: float = 0.0
    adaptation: float = 0.0
    adaptation_leak: float = 0.9
    learn_leak: bool = False
    decay_input: bool = False

    def __post_init__(self) -> None:
        for name in ("leak", "synapse_leak", "adaptation_leak"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"expected {name} of 0..1, got {getattr(self, name)!r}")
        if self.reset not in ("hard", "soft", "none"):
            raise ValueError(f"expected a reset of 'hard', 'soft' or 'none', got {self.reset!r}")
        if self.learn_leak and not 0.0 < self.leak < 1.0:
            raise ValueError(f"expected a learned leak to begin between 0 and 1, got {self.leak!r}")
        if self.decay_input and not self.learn_leak:
            raise ValueError("expected decay_input with learn_leak only: for a fixed leak, set the gain to 1 - leak")

    @property
    def drop(self) -> float:
        """What a soft reset subtracts."""
        return self.threshold if self.reset_by is None else self.reset_by


def leaky(beta: float, threshold: float = 1.0, reset_mechanism: str = "subtract") -> LIF:
    """The neuron that snnTorch 1.0 calls Leaky; its spikes are those of snnTorch, but for ties.

    snnTorch resets one step late: the membrane it returns is h. It subtracts the threshold after the leak,
    h[t] = beta h[t-1] - threshold s[t-1] + I[t], which here is a soft reset by threshold / beta before the leak; its
    `reset_delay=False` is not modelled. It fires above the threshold, here also at it. Its reset is always detached.

    Args:
        beta: factor on the membrane from step to step.
        threshold: membrane at which the neuron fires.
        reset_mechanism: "subtract", "zero" or "none".

    Raises:
        ValueError: if the reset mechanism is none of these, or subtracts from a membrane without memory.
    """
    resets: dict[str, Reset] = {"subtract": "soft", "zero": "hard", "none": "none"}
    if reset_mechanism not in resets:
        raise ValueError(f"expected a reset mechanism of {sorted(resets)}, got {reset_mechanism!r}")
    reset = resets[reset_mechanism]
    if reset == "soft" and beta == 0.0:
        raise ValueError("expected a beta above 0 where the reset subtracts, got 0: such a reset is forgotten here")
    return LIF(beta, 1.0, threshold, reset, reset_by=threshold / beta if reset == "soft" else None)


def synaptic(alpha: float, beta: float, threshold: float = 1.0, reset_mechanism: str = "subtract") -> LIF:
    """The current-based neuron that snnTorch 1.0 calls Synaptic; `leaky` has the other arguments and the differences.

    One more: after a spike snnTorch's "zero" also withholds the next step's current from the membrane; here that
    current arrives.

    Args:
        alpha: factor on the synaptic trace from step to step.
        beta: see `leaky`.
        threshold: see `leaky`.
        reset_mechanism: see `leaky`.
    """
    return replace(leaky(beta, threshold, reset_mechanism), synapse_leak=alpha)


def lif_node(
    tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = False,
) -> LIF:
    """The neuron that SpikingJelly calls LIFNode: leak 1 - 1/tau.

    Args:
        tau: time constant of the membrane in steps, above 1.
        decay_input: True to scale the current by 1 / tau.
        v_threshold: membrane at which the neuron fires.
        v_reset: 0.0 resets to 0; None subtracts the threshold.
        detach_reset: True where the gradient does not flow through the reset.

    Raises:
        ValueError: if tau is not above 1, or the neuron would reset to another potential than 0.
    """
    if tau <= 1.0:
        raise ValueError(f"expected a time constant above 1 step, got {tau!r}")
    gain = 1.0 / tau if decay_input else 1.0
    return LIF(1.0 - 1.0 / tau, gain, v_threshold, _node_reset(v_reset), detach_reset)


def parametric_lif_node(
    init_tau: float = 2.0,
    decay_input: bool = True,
    v_threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = False,
) -> LIF:
    """The neuron that SpikingJelly calls ParametricLIFNode: `lif_node` with 1/tau learned (Fang et al. 2021)."""
    base = lif_node(init_tau, False, v_threshold, v_reset, detach_reset)
    return replace(base, learn_leak=True, decay_input=decay_input)


def if_node(v_threshold: float = 1.0, v_reset: float | None = 0.0, detach_reset: bool = False) -> LIF:
    """The neuron that SpikingJelly calls IFNode; arguments as of `lif_node`."""
    return LIF(1.0, 1.0, v_threshold, _node_reset(v_reset), detach_reset)


def _node_reset(v_reset: float | None) -> Reset:
    if v_reset not in (None, 0.0):
        raise ValueError(f"expected a reset to 0.0, or None to subtract the threshold, got {v_reset!r}")
    return "soft" if v_reset is None else "hard"


def alif(
    leak: float = 0.5,
    adaptation: float = 0.2,
    adaptation_leak: float = 0.9,
    threshold: float = 1.0,
    detach_reset: bool = False,
) -> LIF:
    """A neuron with an adaptive threshold as that of Bellec et al. 2020, and a soft reset.

    `adaptation` is their beta, `adaptation_leak` their rho. Bellec et al. 2018 scale the spikes by 1 - rho: their beta
    is adaptation / (1 - adaptation_leak). The reset subtracts the threshold without its adaptation, before the leak; in
    2020 it does so after the leak, in 2018 it subtracts the adapted threshold.
    """
    return LIF(leak, 1.0, threshold, "soft", detach_reset, adaptation=adaptation, adaptation_leak=adaptation_leak)
