"""Sparse codes by the locally competitive algorithm (Rozell et al. 2008) on a core group, analogue and spiking.

For a dictionary with rows phi_j, a patch x and thresholds t_j both go to the minimum of

    |x - sum_j a_j phi_j|^2 / 2 + sum_j t_j |a_j|

Analogue: leaky membranes u with graded outputs, u += eta (phi x - u - (G - 1) a), a = soft(u, t), G the Gram matrix.

Spiking: for each row a neuron for positive and one for negative codes, which integrates without leak, is reset softly,
and inhibits the others by G at each spike: its rate goes to the code (Tang et al. 2017). A spike of neuron j stands for
`scale_j / steps`, so codes are whole multiples of that up to `scale_j`.

In an orthonormal dictionary, as principal axes are, G = 1: nothing competes, the lateral connections are left out, and
the minimum is the closed form, soft thresholding. The synapses then hold the
current of a patch that is presented once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from neuro_engine.chip import Chip
from neuro_engine.cost import Cost, cost
from neuro_engine.engines.function import run_synapse
from neuro_engine.layers import EngineLayer, SpikingLinear, SpikingRecurrent
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.synapse import LinearSynapse
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace
from workloads.interpolation.dictionaries import soft

Form = Literal["analogue", "spiking"]
_REACH = 4.0
"""Deviations up to which a spiking code reaches."""
_ORTHONORMAL = 1e-3
"""Largest entry of G - 1 that is taken for rounding."""


class AnalogueLca(EngineLayer):
    """Leaky membranes with graded outputs: (1, B, d) to codes (B, m).

    Args:
        rows: the dictionary (m, d).
        limits: thresholds (m,).
        steps: of time.
        rate: eta, the share of the way that a membrane goes in one step.
    """

    def __init__(self, rows: Tensor, limits: Tensor, steps: int, rate: float = 0.2) -> None:
        super().__init__(LinearSynapse(), LIF(leak=1.0 - rate, reset="none"), None, analog_input=True)
        self.weight = nn.Parameter(rows.clone())
        self._limits, self._lateral = limits, _lateral(rows)
        self._steps, self._rate = steps, rate

    def forward(self, x: Tensor) -> Tensor:
        """One value for each pixel of each patch (1, B, d) to codes (B, m)."""
        spec = self.spec
        drive = run_synapse(x, self.weight, None, spec)[0]
        competing = bool(self._lateral.any())
        beside = replace(spec, name=f"{self.name}.lateral")
        membrane = torch.zeros_like(drive)
        for _ in range(self._steps):
            current = drive - membrane
            if competing:
                current = current + run_synapse(soft(membrane, self._limits)[None], self._lateral, None, beside)[0]
            membrane = membrane + self._rate * current
        codes = soft(membrane, self._limits)
        if spec.trace is not None:
            written = TensorCount.sparse(codes.numel(), int(codes.count_nonzero()))
            updates = self._steps * membrane.numel()
            count = EngineCount(neuron_updates=updates, writes={TensorClass.MEMBRANE: written})
            spec.trace.record(self.name, Engine.FP, count)
        return codes


def spiking_lca(rows: Tensor, limits: Tensor, scale: Tensor, steps: int) -> SpikingNetwork:
    """A network from what `presented` makes of patches to spikes (T, B, 2 m), of positive codes first.

    Args:
        rows: the dictionary (m, d).
        limits: thresholds (m,).
        scale: the code (m,) for which a neuron fires at each step.
        steps: of time, T; half a spike is added over them, so that codes are rounded rather than cut.
    """
    signed, unit = torch.cat([rows, -rows]), torch.cat([scale, scale])[:, None]
    lateral = _lateral(signed) * unit.T / unit
    at = torch.arange(len(rows))
    lateral[at, at + len(rows)] = lateral[at + len(rows), at] = 0.0  # their thresholds let only one of the two fire
    competing = bool(lateral.any())
    neuron = LIF(leak=1.0, reset="soft", synapse_leak=0.0 if competing else 1.0)
    make = SpikingRecurrent if competing else SpikingLinear
    layer = make(rows.shape[1] + 1, 2 * len(rows), norm="none", neuron=neuron, analog_input=True)
    constant = 0.5 / steps - torch.cat([limits, limits])[:, None] / unit
    with torch.no_grad():
        layer.weight.copy_(torch.cat([signed / unit, constant], dim=1))
        if isinstance(layer, SpikingRecurrent):
            layer.recurrent_weight.copy_(lateral)
    return SpikingNetwork({"lca": layer})


def presented(patches: Tensor, steps: int, *, once: bool) -> Tensor:
    """Patches (B, d) and a constant 1 over time (T, B, d + 1): at each step, or once for synapses that hold it."""
    inputs = torch.cat([patches, torch.ones(len(patches), 1)], dim=1)
    if not once:
        return inputs.expand(steps, -1, -1)
    return torch.cat([inputs[None], inputs.new_zeros(steps - 1, *inputs.shape)])


@dataclass
class LcaCoder:
    """A `workloads.interpolation.prior.Coder` that runs on a core group and counts what it does.

    Attributes:
        form: of the algorithm.
        steps: of time.
        precision: the chip's number format.
        trace: what the engines have done so far.
        patches: how many patches have been coded.
    """

    form: Form
    steps: int = 32
    precision: str = "fp16"

    def __post_init__(self) -> None:
        self.trace = Trace()
        self.patches = 0

    def __call__(self, rows: Tensor, patches: Tensor, limits: Tensor, deviations: Tensor) -> Tensor:
        """Codes (B, m) of patches (B, d)."""
        if self.form == "analogue":
            network = SpikingNetwork({"lca": AnalogueLca(rows, limits, self.steps)})
            codes = self._run(network, patches[None])
        else:
            scale = _REACH * (deviations + 1.0)
            network = spiking_lca(rows, limits, scale, self.steps)
            held = not any(isinstance(layer, SpikingRecurrent) for _, layer in network.engine_layers())
            spikes = self._run(network, presented(patches, self.steps, once=held))
            positive, negative = spikes.float().mean(0).chunk(2, dim=1)
            codes = (positive - negative) * scale
        self.patches += len(patches)
        return codes

    def bill(self, chip: Chip) -> Cost:
        """What coding has cost on a chip so far, modelled.

        The engines count as in training. Coding alone keeps no membranes for a backward pass, and reads no input at the
        steps at which none is presented: neither is billed.
        """
        billed = Trace()
        billed.steps, billed.samples = self.trace.steps, self.trace.samples
        for layer, shape in self.trace.geometry.items():
            billed.describe(layer, shape)
        for layer, engine, count in self.trace:
            reads, writes = dict(count.reads), dict(count.writes)
            if self.form == "spiking":
                writes.pop(TensorClass.MEMBRANE, None)
            if TensorClass.INPUT in reads:
                presented = reads[TensorClass.INPUT].nonzeros
                reads[TensorClass.INPUT] = TensorCount.values(presented, presented)
            billed.record(layer, engine, replace(count, reads=reads, writes=writes))
        return cost(billed, chip)

    def _run(self, network: SpikingNetwork, inputs: Tensor) -> Tensor:
        network.set_precision(self.precision)
        self.trace.steps += 1
        self.trace.samples += inputs.shape[1]
        with torch.no_grad(), network.recording(self.trace):
            return network(inputs)  # type: ignore[no-any-return]


def _lateral(rows: Tensor) -> Tensor:
    """What the neurons of a dictionary do to each other, 1 - G; zero where that is rounding only."""
    lateral = torch.eye(len(rows)) - rows @ rows.T
    return torch.where(lateral.abs() > _ORTHONORMAL, lateral, 0.0)
