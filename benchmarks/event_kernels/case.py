"""What is measured: one convolution and its neurons, dense and by event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from neuro_engine.kernels import native, reference
from neuro_engine.kernels.native import Geometry
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

SEED = 0
STEPS = 4
NEURON, SURROGATE = LIF(), Surrogate("triangle", 1.0)
SYNAPTIC, NEURAL = ("FP", "BP", "WG"), ("neuron forward", "neuron backward")

Call = Callable[[], object]


class Case:
    """A 3x3 convolution and its neurons at one density of spikes and of gradient."""

    def __init__(self, images: int, channels: int, side: int, density: float) -> None:
        generator = torch.Generator().manual_seed(SEED)
        shape = (images, channels, side, side)

        def rand() -> Tensor:
            return torch.rand(shape, generator=generator).contiguous(memory_format=torch.channels_last)

        self.x = (rand() < density).to(torch.float32)
        self.grad = (rand() < density).to(torch.float32) * (rand() - 0.5)
        self.weight = torch.rand((channels, channels, 3, 3), generator=generator) - 0.5
        # Multiples of 1/16 are exact: no membrane lies within rounding of the threshold.
        self.current = (rand() * 64 - 24).round() / 16
        packed, _ = native.pack(self.x)
        assert packed is not None
        self.spikes, self.shape = packed, torch.Size(shape)
        self.forward = Geometry(images, side, side, channels, side, side, channels, 3, 3, 1, 1, 0)
        self.backward = Geometry(images, side, side, channels, side, side, channels, 3, 3, 1, 1, 1)
        _, self.membrane, _ = reference.neuron_forward(self.current, STEPS, NEURON, SURROGATE, torch.float32)

    def dense(self, operation: str, dtype: torch.dtype = torch.float32) -> Call:
        """The dense operation; neurons step by step, with the sums and counts that the kernels have too."""
        grad, membrane = self.grad.to(dtype), self.membrane.to(dtype)
        calls: Mapping[str, Call] = {
            "FP": lambda: F.conv2d(self.x, self.weight, None, 1, 1),
            "BP": lambda: conv2d_input(self.shape, self.weight, self.grad, 1, 1),
            "WG": lambda: conv2d_weight(self.x, self.weight.shape, self.grad, 1, 1),
            "neuron forward": lambda: reference.neuron_forward(self.current, STEPS, NEURON, SURROGATE, dtype),
            "neuron backward": lambda: reference.neuron_backward(grad, membrane, STEPS, NEURON, SURROGATE),
        }
        return calls[operation]

    def kernel(self, operation: str, dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
        """The native kernel."""
        grad, membrane = self.grad.to(dtype), self.membrane.to(dtype)
        calls: Mapping[str, Callable[[], Any]] = {
            "FP": lambda: native.gather(self.spikes, self.weight, None, self.forward, self.shape, dtype),
            "BP": lambda: native.gather(grad, self.weight, None, self.backward, self.shape, dtype, transposed=True),
            "WG": lambda: native.scatter(self.spikes, grad, self.forward, self.weight.shape),
            "neuron forward": lambda: native.neuron_forward(self.current, STEPS, NEURON, SURROGATE, dtype),
            "neuron backward": lambda: _neuron_backward(grad, membrane),
        }
        return calls[operation]

    def wanted(self, operation: str) -> Any:
        """What the kernel's result should be."""
        if operation == "FP":
            return reference.gather(self.x, self.weight, None, self.forward, self.shape, torch.float32)
        if operation == "BP":
            return reference.gather(
                self.grad, self.weight, None, self.backward, self.shape, torch.float32, transposed=True
            )
        if operation == "WG":
            return reference.scatter(self.x, self.grad, self.forward, self.weight.shape)
        if operation == "neuron forward":
            return reference.neuron_forward(self.current, STEPS, NEURON, SURROGATE, torch.float32)
        return reference.neuron_backward(self.grad, self.membrane, STEPS, NEURON, SURROGATE)


def _neuron_backward(grad: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel, without the products with a current, which are wanted of normalised layers only."""
    out, (sums, _), nonzeros = native.neuron_backward(grad, membrane, STEPS, NEURON, SURROGATE)
    return out, sums, nonzeros
