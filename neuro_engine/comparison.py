"""A chip's DRAM traffic beside a GPU's, with each baseline named: kernel variant, and time in the batch or not.

"x % less than a GPU" depends on how the GPU's kernels are written by a factor of several, so no figure stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from neuro_engine.cost.gpu import GpuBill, Variant, gpu_bill
from neuro_engine.cost.networks import NetworkShape


@dataclass(frozen=True, slots=True)
class Comparison:
    """A training step on a chip and on a GPU, both modelled.

    Attributes:
        gpu: the GPU's bill of the same step.
        chip_bytes: bytes that the chip moves to and from its DRAM.
    """

    gpu: GpuBill
    chip_bytes: float

    @property
    def less(self) -> float:
        """By which fraction the chip moves less; negative where it moves more."""
        return 1 - self.chip_bytes / self.gpu.bytes

    @property
    def less_band(self) -> tuple[float, float]:
        """Least and most of `less` within the error that the GPU's bytes are given."""
        low, high = self.gpu.band_bytes
        return 1 - self.chip_bytes / low, 1 - self.chip_bytes / high


def baselines() -> Iterator[tuple[Variant, bool]]:
    """Variants, each with time in the batch (True) and step by step (False)."""
    return ((variant, folded) for variant in Variant for folded in (True, False))


def reference(shape: NetworkShape, batch: int, gpu: str = "a100_40gb") -> tuple[GpuBill, ...]:
    """The GPU's bill of a training step by every one of `baselines`.

    Raises:
        ValueError: as `gpu_bill`.
    """
    return tuple(gpu_bill(shape, batch, variant, folded=folded, gpu=gpu) for variant, folded in baselines())


def compare(bills: tuple[GpuBill, ...], chip_bytes: float) -> tuple[Comparison, ...]:
    """The chip's bytes beside each bill of `reference`."""
    return tuple(Comparison(bill, chip_bytes) for bill in bills)
