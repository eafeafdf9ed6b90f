"""A layer whose neurons also take their own spikes of the step before.

    I[t] = W x[t] + b + R s[t-1]

W runs for all steps at once. R and the neuron run step by step: the synapse on the engines, the dynamics of
`neuro_engine.neuron` in plain operations, so that autograd goes back through time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from neuro_engine.engines.forward import LayerSpec
from neuro_engine.engines.function import run_synapse
from neuro_engine.engines.storage import widened
from neuro_engine.geometry import Geometry
from neuro_engine.layers.norms import NormFactory, NormName
from neuro_engine.layers.spiking import SpikingLinear
from neuro_engine.neuron import LIF, after_reset
from neuro_engine.surrogate import Surrogate
from neuro_engine.synapse import LinearSynapse
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace


class _StepTrace(Trace):
    """Records one time step of a recurrence at its place in time.

    The weights stay in the core from step to step, and their gradient in its accumulators: both count once. The
    gradient of the current is written by the layer's own synapse.
    """

    def __init__(self, trace: Trace, step: int, of_steps: int) -> None:
        super().__init__()
        self._trace, self._step, self._of_steps = trace, step, of_steps

    def describe(self, layer: str, geometry: Geometry) -> None:
        """Say what shape the synapses of `layer` have; it runs at each step but the first."""
        self._trace.describe(layer, replace(geometry, steps=self._of_steps))

    def record(self, layer: str, engine: Engine, count: EngineCount) -> None:
        """Add what `engine` did for `layer` in this step."""
        once = {TensorClass.WEIGHTS, TensorClass.WEIGHT_GRADIENT} if self._step > 1 else set()
        writes = {k: replace(v, bytes=0) if k is TensorClass.GRADIENT else v for k, v in count.writes.items()}
        before = (0,) * self._step
        self._trace.record(
            layer,
            engine,
            replace(
                count,
                reads={k: v for k, v in count.reads.items() if k not in once},
                writes={k: v for k, v in writes.items() if k not in once},
                step_ops=(*before, *count.step_ops) if count.step_ops else (),
                step_events=(*before, *count.step_events) if count.step_events else (),
            ),
        )


class _Fire(torch.autograd.Function):
    """One step's membrane, rounded to storage, and its spikes; backward has the surrogate for the spikes."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, threshold: Tensor, spec: LayerSpec) -> tuple[Tensor, Tensor]:
        storage = h.dtype if h.dtype == torch.float64 else spec.precision.storage
        membrane = h.to(storage).to(h.dtype)
        above = membrane - threshold
        spikes = (above >= 0).to(storage)
        ctx.save_for_backward(above)
        ctx.spec = spec
        if spec.trace is not None:
            elements, events = h.numel(), int(torch.count_nonzero(spikes))
            writes = {
                TensorClass.MEMBRANE: TensorCount.values(elements, elements),
                TensorClass.SPIKES: TensorCount.bitmap(elements, events),
            }
            count = EngineCount(neuron_updates=elements, step_events=(events,), writes=writes)
            spec.trace.record(spec.name, Engine.FP, count)
        return spikes, membrane

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_spikes: Tensor, grad_membrane: Tensor) -> tuple[Tensor, Tensor, None]:
        (above,) = ctx.saved_tensors
        spec = ctx.spec
        if spec.trace is not None:
            elements = above.numel()
            reads = {TensorClass.MEMBRANE: TensorCount.values(elements, elements)}
            count = EngineCount(multiplies=True, neuron_updates=elements, reads=reads)
            spec.trace.record(spec.name, Engine.BP, count)
        through_spikes = widened(grad_spikes) * spec.surrogate.derivative(above)
        return through_spikes + grad_membrane, -through_spikes, None


class SpikingRecurrent(SpikingLinear):
    """Spiking full connection, recurrent all to all: (T, B, I) to spikes (T, B, O).

    `state_dict`: that of `SpikingLinear`, and `recurrent_weight` (O, O). In a trace the recurrent connection is
    NAME.recurrent.

    Args:
        in_features: I.
        out_features: O.
        norm: as of `SpikingLinear`; of the input's weights or current alone.
        neuron: the neuron's parameters.
        surrogate: derivative of the spike.
        analog_input: True where the input is values rather than spikes.

    Raises:
        ValueError: if the norm is unknown.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        norm: NormName | NormFactory = "weight",
        neuron: LIF | None = None,
        surrogate: Surrogate | None = None,
        analog_input: bool = False,
    ) -> None:
        super().__init__(
            in_features, out_features, norm=norm, neuron=neuron, surrogate=surrogate, analog_input=analog_input
        )
        bound = 1.0 / math.sqrt(out_features)
        self.recurrent_weight = nn.Parameter(torch.empty(out_features, out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, I) to spikes (T, B, O).

        Raises:
            ValueError: if the input has another shape than the layer wants.
        """
        spec, leak = self.spec, self.leak
        state = _State(self.neuron, self.neuron.leak if leak is None else leak)
        outputs: list[Tensor] = []
        for t, fed in enumerate(self.current(x)):
            here = replace(spec, trace=None if spec.trace is None else _StepTrace(spec.trace, t, len(x)))
            current = fed
            if outputs:
                synapse = replace(here, name=f"{self.name}.recurrent", synapse=LinearSynapse(), analog_input=False)
                current = fed + run_synapse(outputs[-1][None], self.recurrent_weight, None, synapse)[0]
            outputs.append(state.step(current, here))
        return torch.stack(outputs)


class _State:
    """What a population of neurons carries from step to step; the equations are those of `neuro_engine.neuron`."""

    def __init__(self, neuron: LIF, leak: float | Tensor) -> None:
        self._neuron, self._leak = neuron, leak
        self._gain = neuron.gain * (1 - leak) if neuron.decay_input else neuron.gain
        self._i: float | Tensor = 0.0
        self._v: float | Tensor = 0.0
        self._a: float | Tensor = 0.0

    def step(self, current: Tensor, spec: LayerSpec) -> Tensor:
        """The spikes that a step's current makes."""
        neuron = self._neuron
        self._i = current + neuron.synapse_leak * self._i
        h = self._gain * self._i + self._leak * self._v
        threshold = torch.as_tensor(neuron.threshold + neuron.adaptation * self._a, dtype=h.dtype)
        spikes, h = _Fire.apply(h, threshold.expand_as(h), spec)  # type: ignore[no-untyped-call]
        s = widened(spikes).detach() if neuron.detach_reset else widened(spikes)
        self._a = neuron.adaptation_leak * self._a + s
        self._v = after_reset(h, s, neuron)
        return spikes  # type: ignore[no-any-return]
