"""Against drift: on unlike data, gradients are corrected before each optimizer step, as an aggregation rule asks.

FedProx (Li et al. 2020) adds mu (w - w_global). SCAFFOLD (Karimireddy et al. 2020) adds c - c_i, its control less this
worker's own, and the new c_i is the mean of the gradients that the worker saw in the round, before the correction. That
is the paper's c_i - c + (x - y) / (K lr) wherever steps are lr times the corrected gradient, as in plain SGD. Taken
from the gradients themselves it needs no lr, and so holds for momentum, Adam and schedules too.

Both work through the optimizer's hook before a step. It sees gradients as they are without a loss scale, and is not
called for a step that is left out because a gradient overflowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer

Arrays = Mapping[str, npt.NDArray[Any]]

MAX_CONTROL = 32.0
"""The largest magnitude of a value in a worker's control, so that a change is within what is aggregated."""


def add_proximal_term(optimizer: Optimizer, mu: float) -> None:
    """Let each step go along the gradient + mu (w - w_global), where w_global is what the parameters are now.

    Args:
        optimizer: holds the parameters, as the global model has them.
        mu: the weight of the proximal term; 0 changes nothing.
    """
    if not mu:
        return
    begun = [(p, p.detach().clone()) for group in optimizer.param_groups for p in group["params"]]

    def pull(*_: Any) -> None:
        for parameter, start in begun:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=mu)

    optimizer.register_step_pre_hook(pull)


class Controlled:
    """SCAFFOLD's part in one round.

    Args:
        control: c, by the names of all the model's arrays that are averaged.
        own: this worker's c_i of the rounds before; arrays that are not there are zeros.
    """

    def __init__(self, control: Arrays, own: Arrays) -> None:
        self._own = {name: _like(array, own.get(name)) for name, array in control.items()}
        self._correction = {name: torch.from_numpy(array - self._own[name]) for name, array in control.items()}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0

    def attach(self, network: nn.Module, optimizer: Optimizer) -> None:
        """Correct the steps of `optimizer` on the parameters of `network`."""
        parameters = {name: p for name, p in network.named_parameters() if name in self._correction}
        self._sums = {name: torch.zeros_like(p) for name, p in parameters.items()}

        def correct(*_: Any) -> None:
            self._steps += 1
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    self._sums[name].add_(parameter.grad)
                    parameter.grad.add_(self._correction[name])

        optimizer.register_step_pre_hook(correct)

    def result(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """What changed, for the aggregator, and the new c_i, to be kept; c_i stays where no step was done.

        Buffers, which have no gradients, have zeros.
        """
        change, kept = {}, {}
        for name, own in self._own.items():
            mean = own
            if self._steps and name in self._sums:
                mean = (self._sums[name] / self._steps).clamp_(-MAX_CONTROL, MAX_CONTROL).numpy()
            change[name] = np.asarray(mean - own, own.dtype)
            kept[name] = own + change[name]  # the very sum that the aggregator has
        return change, kept


def _like(array: npt.NDArray[Any], own: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    return np.zeros_like(array) if own is None else np.asarray(own, array.dtype)
