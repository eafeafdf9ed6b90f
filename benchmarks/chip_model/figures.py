"""Figures of the model itself: how long it takes, how 20 cores scale, and DRAM traffic beside a GPU's."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import MembranePolicy
from neuro_engine.claims import NETWORKS, Case, ScalingPoint, dram, efficiency, scaling
from neuro_engine.cost import cost
from neuro_engine.cost.networks import available, network
from neuro_engine.cost.sparsity import Sparsity
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.mapping import greedy
from neuro_engine.profile import divisors, fastest_plan, needed_fractions, profile
from neuro_engine.sweep import Axis, grid, sweep

Row = dict[str, Any]

CHIP = Chip.load("core20_28nm")
SCALED = {"vgg16": 15.0, "sew_resnet18": 12.0}
"""Networks and the speed-ups that 20 cores aim at."""
AXES = (
    Axis("cores.count", (1, 5, 10, 20, 40)),
    Axis("lanes.bp_columns", (8, 16, 32, 48, 64)),
    Axis("memory.weight_buffer_bytes", (2**17, 2**18, 2**19, 2**20, 2**21)),
    Axis("dram.bandwidth_bytes_per_s", (12.8e9, 25.6e9, 51.2e9, 102.4e9)),
    Axis("dataflow.bp", ("output_stationary", "weight_stationary")),
)
"""1000 chips."""
_UNBOUNDED = 1e18
"""Bytes/s of a DRAM that nothing waits for."""


def profile_cpu_s() -> float:
    """Processor time of the report of SEW-ResNet-18 at ImageNet shapes on 20 cores, with nothing cached."""
    began_s = time.process_time()
    profile(network("sew_resnet18"), CHIP, NETWORKS["sew_resnet18"])
    return time.process_time() - began_s


def sweep_cpu_s(points: int | None) -> float:
    """Processor time of the bills of SEW-ResNet-18 on the chips of `AXES`, or on so many of them."""
    trace = synthetic_trace(network("sew_resnet18"), batch=NETWORKS["sew_resnet18"])
    began_s = time.process_time()
    sweep(trace, CHIP, grid(AXES, points))
    return time.process_time() - began_s


def scaling_rows(name: str) -> list[Row]:
    """A network on 20 cores over one core, by the search and by the greedy mapping, with and without the DRAM."""
    rows = []
    for waits in (True, False):
        alone, found = scaling(CHIP, Case.of(name), waits, cores=(1, 20))
        chip = CHIP if waits else CHIP.override({"dram.bandwidth_bytes_per_s": _UNBOUNDED})
        baseline = _greedy(chip, Case.of(name).without_batch_norm(), alone)
        rows += [{"mapping": mapping, **asdict(point)} for mapping, point in (("search", found), ("greedy", baseline))]
    return rows


def _greedy(chip: Chip, case: Case, alone: ScalingPoint) -> ScalingPoint:
    """The greedy mapping at the micro-batch that is best for it."""
    sparsity = Sparsity.assumed(case.shape)
    trace = synthetic_trace(case.shape, sparsity, case.batch)
    bill = cost(trace, chip, needed=needed_fractions(case.shape, sparsity))
    samples, _, run = fastest_plan(bill, trace, chip, divisors(case.batch), greedy)
    return ScalingPoint(
        alone.network, alone.norm, alone.batch, alone.waits_for_dram, chip.cores.count, samples, run.cycles,
        alone.cycles / run.cycles, run.bubble, run.balance,
    )  # fmt: skip


def dram_rows(names: tuple[str, ...] = available()) -> list[Row]:
    """DRAM traffic beside each variant of a GPU's kernels, time folded into the batch, with stored membranes."""
    return [
        {
            "network": point.network,
            "norm": point.norm,
            "batch": point.batch,
            "gpu_kernels": point.comparison.gpu.variant.value,
            "chip_bytes_modelled": point.comparison.chip_bytes,
            "gpu_bytes_modelled": point.comparison.gpu.bytes,
            "less": point.comparison.less,
            "band": "inside" if point.inside else "outside",
        }
        for name in names
        for case in Case.of(name).with_norms()
        for point in dram(CHIP, case)
        if point.policy is MembranePolicy.STORE16 and point.comparison.gpu.folded
    ]


def efficiency_rows(names: tuple[str, ...] = available()) -> list[Row]:
    """The four efficiencies of each network, in TFLOPS/W, modelled."""
    points = [efficiency(CHIP, case) for name in names for case in Case.of(name).with_norms()]
    return [
        {
            "network": point.network,
            "norm": point.norm,
            "batch": point.batch,
            **{f"{key}_tflops_per_w": value for key, value in asdict(point.efficiencies).items()},
        }
        for point in points
    ]
