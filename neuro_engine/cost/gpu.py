"""What training on a GPU costs in DRAM bytes and time: the reference that a chip is compared with.

Modelled, kernel by kernel: `neuro_engine.cost.gpu_kernels` says what each kernel of a training step reads and writes.
A kernel takes as long as the slowest of its arithmetic, its DRAM traffic and its launches:

    seconds = max(operations / (peak x fraction), bytes / (bandwidth x fraction), launches x overhead)

Kernels run one after the other. Equations, sources and limits: docs/explanation/gpu-reference.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from neuro_engine.cost.gpu_kernels import GpuTensor, Kernel, Step, Variant
from neuro_engine.cost.networks import NetworkShape
from neuro_engine.cost.networks.shape import nearest

__all__ = ["BAND", "GPUS", "Gpu", "GpuBill", "GpuTensor", "Kernel", "Variant", "gpu_bill"]

BAND = 0.3
"""Relative error that every figure of traffic is given, chosen: the model leaves out workspaces, casts and layout
changes, and its cache is a rule of thumb."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU.

    Attributes:
        name: the GPU's.
        dram_bytes_per_s: peak bandwidth of its DRAM.
        l2_bytes: size of its last-level cache.
        tensor_flops_per_s: peak rate of FP16 matrix products, a multiplication and an addition being two operations.
        l2_fraction: share of the cache that holds what a kernel leaves for the next.
        tensor_fraction: share of the peak rate that convolutions reach.
        dram_fraction: share of the peak bandwidth that kernels reach.
        launch_s: least time from the start of a kernel to that of the next.
        sources: by attribute, where the value comes from: "quoted: ..." or "chosen: ...".
    """

    name: str
    dram_bytes_per_s: float
    l2_bytes: int
    tensor_flops_per_s: float
    l2_fraction: float
    tensor_fraction: float
    dram_fraction: float
    launch_s: float
    sources: Mapping[str, str] = field(compare=False, repr=False)

    def seconds(self, kernel: Kernel) -> float:
        """Time of a kernel."""
        arithmetic = kernel.operations / (self.tensor_flops_per_s * self.tensor_fraction)
        traffic = kernel.bytes / (self.dram_bytes_per_s * self.dram_fraction)
        return max(arithmetic, traffic, kernel.launches * self.launch_s)


def _a100(memory: str, dram_bytes_per_s: float) -> Gpu:
    sources = {
        "dram_bytes_per_s": f"quoted: NVIDIA A100 datasheet, SXM, {memory}",
        "l2_bytes": "quoted: NVIDIA A100 architecture whitepaper, 40960 KB",
        "tensor_flops_per_s": "quoted: NVIDIA A100 datasheet, FP16 tensor cores without structured sparsity",
        "l2_fraction": "chosen: the rest holds weights, other streams, and what both halves of the cache hold twice",
        "tensor_fraction": "chosen: large convolutions reach about half, small ones less",
        "dram_fraction": "chosen: streaming kernels come close to it",
        "launch_s": "chosen: a launch takes 3 to 6 us by published measurements",
    }
    return Gpu(
        f"A100 {memory}", dram_bytes_per_s, 40960 * 1024, 312e12, 0.75, 0.5, 0.85, 4e-6, MappingProxyType(sources)
    )


GPUS: Mapping[str, Gpu] = MappingProxyType({"a100_40gb": _a100("40 GB", 1555e9), "a100_80gb": _a100("80 GB", 2039e9)})
"""GPUs by name. The two differ in bandwidth alone, and so in time, not in traffic."""


@dataclass(frozen=True, slots=True)
class GpuBill:
    """What one training step costs on a GPU, modelled.

    Attributes:
        gpu: the GPU.
        variant: how its kernels are written.
        folded: True where time is part of the batch, False where the network runs step by step.
        batch: examples of the step.
        kernels: what runs, in the order of the layers.
    """

    gpu: Gpu
    variant: Variant
    folded: bool
    batch: int
    kernels: tuple[Kernel, ...]

    @property
    def bytes(self) -> float:
        """Bytes moved to and from DRAM, give or take `BAND`."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def band_bytes(self) -> tuple[float, float]:
        """Least and most bytes that the model stands for."""
        return self.bytes * (1 - BAND), self.bytes * (1 + BAND)

    @property
    def seconds(self) -> float:
        """Time of the step."""
        return sum(self.gpu.seconds(kernel) for kernel in self.kernels)

    @property
    def by_layer_and_tensor(self) -> dict[tuple[str, GpuTensor], float]:
        """Bytes moved, by layer and tensor."""
        return _summed(
            ((kernel.layer, tensor), size)
            for kernel in self.kernels
            for moved in (kernel.reads, kernel.writes)
            for tensor, size in moved.items()
        )

    @property
    def by_tensor(self) -> dict[GpuTensor, float]:
        """Bytes moved, by tensor."""
        return _summed((tensor, size) for (_, tensor), size in self.by_layer_and_tensor.items())

    @property
    def by_layer(self) -> dict[str, float]:
        """Bytes moved, by layer."""
        return _summed((kernel.layer, kernel.bytes) for kernel in self.kernels)

    @property
    def by_kernel(self) -> dict[str, float]:
        """Bytes moved, by what the kernels do."""
        return _summed((kernel.name, kernel.bytes) for kernel in self.kernels)


def gpu_bill(
    shape: NetworkShape,
    batch: int,
    variant: Variant | str = Variant.FUSED,
    *,
    folded: bool = True,
    optimizer_moments: int = 1,
    gpu: Gpu | str = "a100_40gb",
) -> GpuBill:
    """What a training step of a network costs on a GPU.

    Args:
        shape: the network.
        batch: examples of the step.
        variant: how the kernels are written.
        folded: True where time is part of the batch, False where the network runs step by step.
        optimizer_moments: numbers that the optimizer keeps for each weight: 1 for SGD with momentum, 2 for Adam.
        gpu: the GPU, or its name in `GPUS`.

    Raises:
        ValueError: no such GPU or variant, a batch below one, or negative moments.
    """
    if batch < 1 or optimizer_moments < 0:
        raise ValueError(f"expected a batch of at least 1 and moments from 0, got {batch} and {optimizer_moments}")
    if isinstance(gpu, str):
        if gpu not in GPUS:
            raise ValueError(f"no GPU {gpu!r}{nearest(gpu, GPUS)}")
        gpu = GPUS[gpu]
    if variant not in tuple(Variant):
        raise ValueError(f"no variant {variant!r}{nearest(variant, Variant)}")
    variant = Variant(variant)
    step = Step(shape, batch, variant, folded, optimizer_moments, gpu.l2_bytes * gpu.l2_fraction)
    return GpuBill(gpu, variant, folded, batch, tuple(step.kernels()))


def _summed(parts: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
    """Sums by key; what moves nothing is left out."""
    total: defaultdict[_Key, float] = defaultdict(float)
    for key, size in parts:
        total[key] += size
    return {key: size for key, size in total.items() if size}
