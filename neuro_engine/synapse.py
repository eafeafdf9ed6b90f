"""Synapses: the linear maps between layers, their two transposes, and how many operations each takes.

A synapse knows its geometry and nothing of time: the engines fold time into the batch. Operation counts are exact:
`dense_ops` counts every position, padding included; the others count only operations whose operands exist and are not
zero. They take count maps: how many channels of each group are not zero at each position.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import ClassVar, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


def count_nonzeros(x: Tensor, groups: int = 1) -> Tensor:
    """How many channels of each group are not zero at each position.

    Args:
        x: (N, C, ...).
        groups: groups of neighbouring channels, a divisor of C.

    Returns:
        (N, groups, ...) int32.
    """
    n, channels, *sides = x.shape
    return (x != 0).view(n, groups, channels // groups, *sides).sum(2, dtype=torch.int32)


class Synapse(Protocol):
    """A linear map with the operations of the three engines. N is time times batch."""

    @property
    def groups(self) -> int:
        """Groups of channels that are not connected with each other."""
        ...

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

    def output_shape(self, input_shape: torch.Size, weight_shape: torch.Size) -> torch.Size:
        """Shape of the current (N, O, ...)."""
        ...

    def by_output(self, weight: Tensor) -> Tensor:
        """The weights as (O, fan-in): a row for each output channel."""
        ...

    def from_rows(self, rows: Tensor, weight_shape: torch.Size) -> Tensor:
        """The inverse of `by_output`."""
        ...

    def dense_ops(self, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """Operations of one engine if nothing were skipped."""
        ...

    def forward_ops(self, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """FP operations of each sample (N,) int64 whose input is not zero."""
        ...

    def backward_ops(self, grad_counts: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> Tensor:
        """BP operations of each sample (N,) int64 whose gradient is not zero and whose target exists."""
        ...

    def weight_ops(self, grad_counts: Tensor, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """WG operations of each sample (N,) int64 whose gradient and input are both not zero."""
        ...


@dataclass(frozen=True, slots=True)
class LinearSynapse:
    """All to all: x (N, I), weight (O, I), current (N, O)."""

    groups: ClassVar[int] = 1

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

    def output_shape(self, input_shape: torch.Size, weight_shape: torch.Size) -> torch.Size:
        """See `Synapse`."""
        return torch.Size((input_shape[0], weight_shape[0]))

    def by_output(self, weight: Tensor) -> Tensor:
        """See `Synapse`."""
        return weight.flatten(1)

    def from_rows(self, rows: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return rows.view(weight_shape)

    def dense_ops(self, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return input_shape[0] * weight_shape.numel()

    def forward_ops(self, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return x_counts.sum(1, dtype=torch.int64) * weight_shape[0]

    def backward_ops(self, grad_counts: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return grad_counts.sum(1, dtype=torch.int64) * weight_shape[1]

    def weight_ops(self, grad_counts: Tensor, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return (grad_counts.to(torch.int64) * x_counts).sum(1)


class _Axis(NamedTuple):
    """How the positions of a convolution's input and output meet along one axis, padding left out."""

    outputs_met: Tensor
    """By input position: how many outputs it meets; float64."""
    inputs_met: Tensor
    """By output position: how many inputs it meets; float64."""


@lru_cache(maxsize=256)
def _axis(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> _Axis:
    met = torch.arange(outputs)[:, None] * stride + torch.arange(kernel) - padding
    inside = (met >= 0) & (met < inputs)
    by_input = torch.bincount(met[inside], minlength=inputs)
    return _Axis(by_input.to(torch.float64), inside.sum(1).to(torch.float64))


def _axes(inputs: torch.Size, outputs: torch.Size, kernel: torch.Size, stride: int, padding: int) -> list[_Axis]:
    """Rows, then columns."""
    return [_axis(*sides, stride, padding) for sides in zip(inputs, outputs, kernel, strict=True)]


def _weighed(counts: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sum of counts (N, G, H, W), each times rows (H,) times columns (W,), by sample: (N,) int64."""
    by_position = counts.squeeze(1) if counts.shape[1] == 1 else counts.sum(1, dtype=torch.int32)
    times = torch.outer(rows, columns).flatten()
    return (by_position.flatten(1).to(torch.float64) @ times).round().to(torch.int64)  # exact below 2^53


def _box_sums(x: Tensor, outputs: torch.Size, kernel: torch.Size, stride: int, padding: int) -> Tensor:
    """Sums of int32 maps (..., H, W) over the windows of a convolution: (..., H', W')."""
    x = F.pad(x, (padding,) * 4)
    for dim, size, k in zip((-2, -1), outputs, kernel, strict=True):
        span = (size - 1) * stride + 1
        first, *others = (x.narrow(dim, n, span).unfold(dim, 1, stride).squeeze(-1) for n in range(k))
        x = reduce(Tensor.add_, others, first.clone())
    return x


def _pairs(wide: Tensor, narrow: Tensor, kernel: torch.Size, stride: int, padding: int) -> Tensor:
    """Sum of products of a convolution's input and output counts that meet, by sample: (N,) int64."""
    seen = _box_sums(wide, narrow.shape[2:], kernel, stride, padding)
    products = seen.flatten(1).to(torch.float64).mul_(narrow.flatten(1))  # exact below 2^53
    return products.sum(1).round().to(torch.int64)


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, synapse: ConvSynapse | ConvTransposeSynapse, *, of_input: bool
) -> Tensor:
    """Gradient of a convolution's input or weights.

    Of the one that is asked for, only shape and memory format count: torch.nn.grad passes a tensor of no format there,
    for which oneDNN leaves the channels-last format.
    """
    pair = [synapse.stride] * 2, [synapse.padding] * 2, [1, 1]
    asked = [of_input, not of_input, False]
    x_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
        grad, x, weight, None, *pair, False, [0, 0], synapse.groups, asked
    )
    result: Tensor = x_grad if of_input else weight_grad
    return result


@dataclass(frozen=True, slots=True)
class ConvSynapse:
    """Convolution: x (N, I, H, W), weight (O, I / groups, kh, kw), current (N, O, H', W')."""

    stride: int = 1
    padding: int = 0
    groups: int = 1

    def current(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Synapse`."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=self.groups)

    def input_gradient(self, grad: Tensor, weight: Tensor, input_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        x = torch.empty(input_shape, dtype=grad.dtype, memory_format=torch.channels_last)
        return _convolution_backward(grad, x, weight, self, of_input=True)

    def weight_gradient(self, grad: Tensor, x: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        weight = torch.empty(weight_shape, dtype=grad.dtype)
        return _convolution_backward(grad, x, weight, self, of_input=False)

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """See `Synapse`."""
        return grad.sum((0, 2, 3))

    def output_shape(self, input_shape: torch.Size, weight_shape: torch.Size) -> torch.Size:
        """See `Synapse`."""
        sides = (
            (side + 2 * self.padding - k) // self.stride + 1
            for side, k in zip(input_shape[2:], weight_shape[2:], strict=True)
        )
        return torch.Size((input_shape[0], weight_shape[0], *sides))

    def by_output(self, weight: Tensor) -> Tensor:
        """See `Synapse`."""
        return weight.flatten(1)

    def from_rows(self, rows: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return rows.view(weight_shape)

    def dense_ops(self, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        n, _, *sides = self.output_shape(input_shape, weight_shape)
        return n * torch.Size(sides).numel() * weight_shape.numel()

    def forward_ops(self, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        rows, columns = self._axes(x_counts.shape, weight_shape)
        return _weighed(x_counts, rows.outputs_met, columns.outputs_met) * (weight_shape[0] // self.groups)

    def backward_ops(self, grad_counts: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        rows, columns = self._axes(input_shape, weight_shape)
        return _weighed(grad_counts, rows.inputs_met, columns.inputs_met) * weight_shape[1]

    def weight_ops(self, grad_counts: Tensor, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return _pairs(x_counts, grad_counts, weight_shape[2:], self.stride, self.padding)

    def _axes(self, input_shape: torch.Size, weight_shape: torch.Size) -> list[_Axis]:
        outputs = self.output_shape(input_shape, weight_shape)
        return _axes(input_shape[2:], outputs[2:], weight_shape[2:], self.stride, self.padding)


@dataclass(frozen=True, slots=True)
class ConvTransposeSynapse:
    """Transposed convolution: x (N, I, H, W), weight (I, O / groups, kh, kw), current (N, O, H', W').

    It is the BP of a convolution from O to I channels, run forwards.
    """

    stride: int = 1
    padding: int = 0
    output_padding: int = 0
    groups: int = 1

    def current(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See `Synapse`."""
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding, self.output_padding, self.groups)

    def input_gradient(self, grad: Tensor, weight: Tensor, input_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return F.conv2d(grad, weight, None, self.stride, self.padding, groups=self.groups)

    def weight_gradient(self, grad: Tensor, x: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        weight = torch.empty(weight_shape, dtype=grad.dtype)
        return _convolution_backward(x, grad, weight, self, of_input=False)

    def bias_gradient(self, grad: Tensor) -> Tensor:
        """See `Synapse`."""
        return grad.sum((0, 2, 3))

    def output_shape(self, input_shape: torch.Size, weight_shape: torch.Size) -> torch.Size:
        """See `Synapse`."""
        more = self.output_padding - 2 * self.padding
        sides = ((side - 1) * self.stride + k + more for side, k in zip(input_shape[2:], weight_shape[2:], strict=True))
        return torch.Size((input_shape[0], weight_shape[1] * self.groups, *sides))

    def by_output(self, weight: Tensor) -> Tensor:
        """See `Synapse`."""
        outputs, fan_in = weight.shape[1] * self.groups, weight.shape[0] // self.groups
        return weight.view(self.groups, fan_in, *weight.shape[1:]).transpose(1, 2).reshape(outputs, -1)

    def from_rows(self, rows: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        fan_in = (weight_shape[0] // self.groups, *weight_shape[2:])
        return rows.view(self.groups, weight_shape[1], *fan_in).transpose(1, 2).flatten(0, 1)

    def dense_ops(self, input_shape: torch.Size, weight_shape: torch.Size) -> int:
        """See `Synapse`."""
        return input_shape[0] * input_shape[2:].numel() * weight_shape.numel()

    def forward_ops(self, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        rows, columns = self._axes(x_counts.shape, weight_shape)
        return _weighed(x_counts, rows.inputs_met, columns.inputs_met) * weight_shape[1]

    def backward_ops(self, grad_counts: Tensor, input_shape: torch.Size, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        rows, columns = self._axes(input_shape, weight_shape)
        return _weighed(grad_counts, rows.outputs_met, columns.outputs_met) * (weight_shape[0] // self.groups)

    def weight_ops(self, grad_counts: Tensor, x_counts: Tensor, weight_shape: torch.Size) -> Tensor:
        """See `Synapse`."""
        return _pairs(grad_counts, x_counts, weight_shape[2:], self.stride, self.padding)

    def _axes(self, input_shape: torch.Size, weight_shape: torch.Size) -> list[_Axis]:
        # Of the convolution whose transpose this is: its output is the input here.
        outputs = self.output_shape(input_shape, weight_shape)
        return _axes(outputs[2:], input_shape[2:], weight_shape[2:], self.stride, self.padding)
