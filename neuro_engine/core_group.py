"""A core group: a network mapped on a chip, trained by its engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from neuro_engine.chip import Chip
from neuro_engine.cost import Cost, cost
from neuro_engine.network import SpikingNetwork
from neuro_engine.precision import FP16, loss_scaler
from neuro_engine.precision import precision as precision_of
from neuro_engine.trace import Engine, EngineCount, TensorClass, TensorCount, Trace, gradients_written


@dataclass(frozen=True, slots=True)
class Step:
    """One training step.

    Attributes:
        loss: mean loss of the batch, before the update.
        outputs: the network's outputs (B, ...), detached.
        trace: what the engines did, or None where the core group does not count.
        applied: False where a gradient overflowed and the update was left out.
    """

    loss: float
    outputs: Tensor
    trace: Trace | None
    applied: bool = True


class CoreGroup:
    """The emulated chip that one worker trains on.

    Args:
        network: the network to train.
        chip: the chip whose bill is written.
        tracing: False counts nothing. The numbers trained are the same bit for bit.
        precision: name of the chip's number format, which the network takes on; see `neuro_engine.precision`.

    Attributes:
        scaler: scales the loss where gradients are stored in binary16.
    """

    def __init__(
        self, network: SpikingNetwork, chip: Chip, *, tracing: bool = True, precision: str = FP16.name
    ) -> None:
        self.network, self.chip, self.tracing = network, chip, tracing
        self.precision = precision_of(precision)
        network.set_precision(precision)
        self.reset()

    def reset(self) -> None:
        """Forget the loss scale that earlier steps arrived at, so that what follows depends on the network alone."""
        self.scaler = loss_scaler(self.precision)

    def train_step(
        self,
        inputs: Tensor,
        targets: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Optimizer,
    ) -> Step:
        """Forward, backward and update on one batch.

        Args:
            inputs: (T, B, ...).
            targets: (B, ...).
            loss: maps outputs and targets to a scalar.
            optimizer: holds the network's parameters.

        Returns:
            Loss, outputs and trace.
        """
        trace = Trace() if self.tracing else None
        optimizer.zero_grad(set_to_none=True)
        with self.network.recording(trace):
            outputs = self.network(inputs)
            value = loss(outputs, targets)
            self.scaler.scale(value).backward()
        scale = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        applied = self.scaler.get_scale() >= scale
        if trace is not None:
            trace.steps, trace.samples = 1, inputs.shape[1]
            if applied:
                self._count_update(trace, optimizer)
        return Step(value.item(), outputs.detach(), trace, applied)

    def bill(self, trace: Trace) -> Cost:
        """What `trace` costs on this chip, modelled."""
        return cost(trace, self.chip)

    def _count_update(self, trace: Trace, optimizer: Optimizer) -> None:
        for name, layer in self.network.engine_layers():
            parameters = [p for p in layer.parameters() if p.grad is not None]
            weights = sum(p.numel() for p in parameters)
            summed = trace.count(name, Engine.WG).writes.get(TensorClass.WEIGHT_GRADIENT, TensorCount()).elements
            if weights > summed:  # gains, shifts and biases: no array makes their gradients, but they are written too
                trace.record(name, Engine.WG, gradients_written(weights - summed))
            moments = sum(
                sum(1 for v in optimizer.state[p].values() if getattr(v, "shape", None) == p.shape) * p.numel()
                for p in parameters
            )
            master = TensorCount.values(weights + moments, weights + moments, bits=32)
            stored = TensorCount.values(weights, weights)
            count = EngineCount(
                dense_ops=weights,
                executed_ops=weights,
                multiplies=True,
                neuron_updates=weights,
                reads={
                    TensorClass.OPTIMIZER: master,
                    TensorClass.WEIGHT_GRADIENT: TensorCount.values(weights, weights, bits=32),
                },
                writes={TensorClass.OPTIMIZER: master, TensorClass.WEIGHTS: stored},
            )
            trace.record(name, Engine.UPDATE, count)
