"""Synapses: the linear maps between layers, their two transposes, and how many operations each takes.

A synapse knows its geometry and nothing of time: the engines fold time into the batch. Operation counts are exact:
`dense_ops` counts every position, padding included; the others count only operations whose operands exist and are not
zero. They take masks: float tensors with 1.0 where the operand is not zero, so that a count is a sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight


def nonzero_mask(x: Tensor) -> Tensor:
    """1.0 where `x` is not zero, else 0.0 (several times faster than torch's own counting)."""
    return x.sign().abs_()


def ones(mask: Tensor) -> int:
    """How many elements of a mask are 1.0."""
    return int(mask.sum(dtype=torch.float64))


class Synapse(Protocol):
    """A linear map with the operations of the three engines. N is time times batch."""

    def current(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """FP: the synaptic current."""
        ...

    def input_gradient(self, grad: Tensor, weight: Tensor, input_shape: torch.Size) -> Tensor:
        """BP: the transposed map of the current's gradient."""
        ...

    def weight_gradient(self, grad: Tensor, x: Tensor, weight_shape: torch.Size) -> Tensor:
        """WG: the sum over N of gradient times input."""
        ...

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """WG: the sum of the gradient over all but the output channel."""
        ...

    def dense_ops(self, output_shape: torch.Size, weight_shape: torch.Size) -> int:
        """Operations of one engine if nothing were skipped."""
        ...

    def forward_ops(self, x_mask: Tensor, output_shape: torch.Size, weight_shape: torch.Size) -> int:
        """FP operations whose input is not zero."""
        ...

    def backward_ops(self, grad_mask: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """BP operations whose gradient is not zero and whose target exists."""
        ...

    def weight_ops(self, grad_mask: Tensor, x_mask: Tensor, weight_shape: torch.Size) -> int:
        """WG operations whose gradient and input are both not zero."""
        ...


@dataclass(frozen=True, slots=True)
class LinearSynapse:
    """All to all: x (N, I), weight (O, I), current (N, O)."""

    def current(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Synapse`."""
        return F.linear(x, weight, bias)

    def input_gradient(self, grad: Tensor, weight: Tensor, input_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return grad @ weight

    def weight_gradient(self, grad: Tensor, x: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return grad.T @ x

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """See `Synapse`."""
        return grad.sum(0)

    def dense_ops(self, output_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return output_shape[0] * weight_shape.numel()

    def forward_ops(self, x_mask: Tensor, output_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return ones(x_mask) * weight_shape[0]

    def backward_ops(self, grad_mask: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return ones(grad_mask) * weight_shape[1]

    def weight_ops(self, grad_mask: Tensor, x_mask: Tensor, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return int((grad_mask.sum(1, dtype=torch.float64) * x_mask.sum(1, dtype=torch.float64)).sum())


@dataclass(frozen=True, slots=True)
class ConvSynapse:
    """Convolution: x (N, I, H, W), weight (O, I, k, k), current (N, O, H', W')."""

    stride: int = 1
    padding: int = 0

    def current(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Synapse`."""
        return F.conv2d(x, weight, bias, self.stride, self.padding)

    def input_gradient(self, grad: Tensor, weight: Tensor, input_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        result: Tensor = conv2d_input(list(input_shape), weight, grad, self.stride, self.padding)
        return result

    def weight_gradient(self, grad: Tensor, x: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        result: Tensor = conv2d_weight(x, list(weight_shape), grad, self.stride, self.padding)
        return result

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """See `Synapse`."""
        return grad.sum((0, 2, 3))

    def dense_ops(self, output_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return output_shape[0] * output_shape[2] * output_shape[3] * weight_shape.numel()

    def forward_ops(self, x_mask: Tensor, output_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        one = torch.ones((1, 1, *weight_shape[2:]), dtype=torch.float64)
        outputs = torch.ones((1, 1, *output_shape[2:]), dtype=torch.float64)
        reached = conv2d_input([1, 1, *x_mask.shape[2:]], one, outputs, self.stride, self.padding)[0, 0]
        return int((x_mask.sum((0, 1)) * reached).sum()) * weight_shape[0]

    def backward_ops(self, grad_mask: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        one = torch.ones((1, 1, *weight_shape[2:]), dtype=torch.float64)
        inputs = torch.ones((1, 1, *input_shape[2:]), dtype=torch.float64)
        targets = F.conv2d(inputs, one, None, self.stride, self.padding)[0, 0]
        return int((grad_mask.sum((0, 1)) * targets).sum()) * weight_shape[1]

    def weight_ops(self, grad_mask: Tensor, x_mask: Tensor, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        one = torch.ones((1, 1, *weight_shape[2:]))
        seen = F.conv2d(x_mask.sum(1, keepdim=True), one.to(x_mask), None, self.stride, self.padding)
        return int((seen.squeeze(1) * grad_mask.sum(1)).sum(dtype=torch.float64))
