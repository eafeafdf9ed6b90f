"""A layer's input as FP and WG read it: time folded into the batch, spikes as bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuro_engine.kernels import native
from neuro_engine.kernels.native import Spikes
from neuro_engine.precision import Precision
from neuro_engine.synapse import count_nonzeros

Saved = tuple[Tensor | None, Tensor | None, Tensor | None]


@dataclass(frozen=True, slots=True)
class Operand:
    """An input of T steps, of which one is kept where all are the same.

    Attributes:
        shape: of the input (T, B, ...).
        constant: True where all steps are the same: only the first is kept, and what is computed from it, once.
        spikes: the input as bits, where it is spikes and there are kernels.
        values: the input (N, ...) otherwise.
        nonzeros: how many values at each position of `values` are not zero (N, ...) int32, where kernels counted them.
    """

    shape: torch.Size
    constant: bool
    spikes: Spikes | None = None
    values: Tensor | None = None
    nonzeros: Tensor | None = None

    @property
    def steps(self) -> int:
        """Time steps that are kept."""
        return 1 if self.constant else self.shape[0]

    @property
    def folded_shape(self) -> torch.Size:
        """(N, ...) of what is kept."""
        return torch.Size((self.steps * self.shape[1], *self.shape[2:]))

    @property
    def events(self) -> Spikes | Tensor:
        """What event-driven kernels follow."""
        if self.spikes is not None:
            return self.spikes
        assert self.values is not None
        return self.values

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The input as a map (N, ...) of `dtype`."""
        if self.spikes is None:
            assert self.values is not None
            return self.values.to(dtype)
        return native.unpack(self.spikes, torch.float32).to(dtype)

    def counts(self, groups: int) -> Tensor:
        """Non-zeros by position and group of channels (N, G, ...) int32."""
        counted = self.nonzeros if self.spikes is None else self.spikes.counts
        if counted is not None and groups == 1:
            return counted.unsqueeze(1)
        return count_nonzeros(self.dense(torch.float32) if self.values is None else self.values, groups)

    def density(self) -> float:
        """Fraction of the input that is not zero; 0.0 where there is none."""
        elements = self.folded_shape.numel()
        return int(self.counts(1).sum()) / elements if elements else 0.0

    def tensors(self) -> Saved:
        """The tensors that BP and WG need of it."""
        if self.spikes is not None:
            return None, self.spikes.bits, self.spikes.counts
        return self.values, None, self.nonzeros

    def restored(self, saved: Saved) -> Operand:
        """This operand with the tensors that autograd kept."""
        values, bits, counts = saved
        if bits is not None and counts is not None:
            return Operand(self.shape, self.constant, Spikes(bits, counts, self.folded_shape))
        return Operand(self.shape, self.constant, None, values, counts)

    def without_tensors(self) -> Operand:
        """Its description alone, so that autograd alone decides how long the tensors live."""
        return Operand(self.shape, self.constant)


def read(x: Tensor, precision: Precision) -> Operand:
    """Take a layer's input in.

    Args:
        x: (T, B, ...); an input expanded over T is recognised as constant, unless a gradient is wanted for it.
        precision: number format of storage; float64 is left as it is.

    Returns:
        The operand.
    """
    constant = x.shape[0] > 1 and x.stride(0) == 0 and not x.requires_grad
    folded = (x[:1] if constant else x).detach().flatten(0, 1)
    if folded.dtype == torch.float64:
        return Operand(x.shape, constant, None, folded)
    folded = folded.to(precision.storage)
    if folded.dim() not in (2, 4) or native.library() is None:
        return Operand(x.shape, constant, None, folded)
    spikes, counts = native.pack(folded)
    return Operand(x.shape, constant, spikes, None if spikes else folded, None if spikes else counts)
