"""Our figures for the claims of arXiv:2412.05302, each with its definition.

Only the abstract is known to us: no array, buffer, clock, network, batch, baseline or profiling method. So nothing here
can confirm a claim. It says under which definitions a chip after that abstract would agree, and under which it would
not; `neuro_engine.claim_table` puts it into words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from neuro_engine.chip import Chip
from neuro_engine.chip_schema import MembranePolicy
from neuro_engine.comparison import Comparison, compare, reference
from neuro_engine.cost import Efficiencies, cost
from neuro_engine.cost.networks import NetworkShape, network
from neuro_engine.cost.sparsity import Sparsity
from neuro_engine.cost.synthetic import synthetic_trace
from neuro_engine.profile import check_fits, divisors, fastest_plan, needed_fractions, profile

TFLOPS_PER_W: Final = 1.05
"""Quoted: at FP16 in 28 nm; the abstract does not say what counts as an operation, or as energy."""
DRAM_BAND: Final = (0.55, 0.85)
"""Quoted: "55~85 %" less DRAM access than an A100; networks and the A100's kernels are not named."""
CORES: Final = (1, 2, 5, 10, 20)
WORKERS: Final = 5
NETWORKS: Final[Mapping[str, int]] = MappingProxyType(
    {"vgg11": 128, "vgg16": 128, "resnet18": 128, "sew_resnet18": 16, "sew_resnet34": 16, "dvs_gesture": 16}
)
"""Networks of the catalogue, with batches as they are often trained. Chosen: the abstract names none."""

_UNBOUNDED: Final = 1e18
"""Bytes/s of a DRAM that nothing waits for."""


@dataclass(frozen=True, slots=True)
class Case:
    """A network that the claims are asked about.

    Attributes:
        shape: the network.
        batch: samples of a training step.
        sparsity: what is known of its sparsity, with its own norm; None for `Sparsity.assumed`.
    """

    shape: NetworkShape
    batch: int
    sparsity: Sparsity | None = None

    @classmethod
    def of(cls, name: str) -> Case:
        """A network of the catalogue, with its batch of `NETWORKS`."""
        return cls(network(name), NETWORKS.get(name, 16))

    def with_norms(self) -> tuple[Case, ...]:
        """Itself; and, where its norm needs the batch, the same with norms of the weights, which leave zeros in BP."""
        return (self, self.without_batch_norm()) if self.shape.normalised_by_batch else (self,)

    def without_batch_norm(self) -> Case:
        """The same with norms of the weights; what was measured with the other norm does not hold for it."""
        return Case(replace(self.shape, norm="weight"), self.batch) if self.shape.normalised_by_batch else self


@dataclass(frozen=True, slots=True)
class EfficiencyPoint:
    """The four efficiencies of a training step."""

    network: str
    norm: str
    batch: int
    sparsity: str
    efficiencies: Efficiencies


@dataclass(frozen=True, slots=True)
class DramPoint:
    """DRAM traffic of a training step with one membrane policy, beside one of the GPU's baselines."""

    network: str
    norm: str
    batch: int
    sparsity: str
    policy: MembranePolicy
    comparison: Comparison

    @property
    def inside(self) -> bool:
        """Whether the reduction is in the claimed band."""
        return DRAM_BAND[0] <= self.comparison.less <= DRAM_BAND[1]

    @property
    def inside_with_error(self) -> bool:
        """Whether it could be, with the error that the GPU's bytes are given."""
        low, high = self.comparison.less_band
        return low <= DRAM_BAND[1] and high >= DRAM_BAND[0]


@dataclass(frozen=True, slots=True)
class ScalingPoint:
    """A training step on a number of cores, at the micro-batch that is best for that number.

    Attributes:
        network: the network.
        norm: its norm; one of the batch's statistics would stop a pipeline at every layer.
        batch: samples of the step.
        waits_for_dram: False where the DRAM is taken to be endlessly fast.
        cores: cores of the chip.
        samples: samples of a micro-batch.
        cycles: of the simulated schedule.
        speedup: cycles of one core, at its own best micro-batch, over `cycles`.
        bubble: fraction of the cycles in which the busiest engine has no work.
        balance: work of the cores' busiest engines, mean over that of the busiest core.
    """

    network: str
    norm: str
    batch: int
    waits_for_dram: bool
    cores: int
    samples: int
    cycles: float
    speedup: float
    bubble: float
    balance: float


@dataclass(frozen=True, slots=True)
class FederationPoint:
    """Bytes that one worker of a federation exchanges in one round, in both directions together."""

    network: str
    parameters: int

    @property
    def bytes_fp32(self) -> int:
        """Each parameter down and up in FP32, as our codec `dense` sends it."""
        return 2 * 4 * self.parameters

    @property
    def bytes_fp16(self) -> int:
        """The same in FP16."""
        return 2 * 2 * self.parameters


@dataclass(frozen=True, slots=True)
class Claims:
    """All figures for one chip."""

    chip: Chip
    efficiencies: tuple[EfficiencyPoint, ...]
    dram: tuple[DramPoint, ...]
    scaling: tuple[ScalingPoint, ...]
    federation: tuple[FederationPoint, ...]


def claims(chip: Chip, cases: Sequence[Case]) -> Claims:
    """Our figures for every claim.

    Args:
        chip: the chip.
        cases: at least one network.

    Raises:
        ValueError: no network, or a layer that fits no core.
    """
    if not cases:
        raise ValueError("expected at least one network, got none")
    variants = [variant for case in cases for variant in case.with_norms()]
    return Claims(
        chip,
        tuple(efficiency(chip, case) for case in variants),
        tuple(point for case in variants for point in dram(chip, case)),
        tuple(point for case in cases for waits in (True, False) for point in scaling(chip, case, waits)),
        tuple(FederationPoint(c.shape.name, sum(map(c.shape.parameters, c.shape.layers))) for c in cases),
    )


def efficiency(chip: Chip, case: Case) -> EfficiencyPoint:
    """The efficiencies of a case; the energy includes what its schedule moves over the mesh."""
    of = profile(case.shape, chip, case.batch, case.sparsity)
    return EfficiencyPoint(case.shape.name, case.shape.norm, case.batch, of.sparsity.origin, of.bill.efficiencies(chip))


def dram(chip: Chip, case: Case) -> tuple[DramPoint, ...]:
    """The DRAM traffic of a case for each membrane policy beside each baseline, weights read once a batch."""
    shape, sparsity = case.shape, case.sparsity or Sparsity.assumed(case.shape)
    check_fits(shape, chip)
    trace, bills = synthetic_trace(shape, sparsity, case.batch), reference(shape, case.batch)
    moved = {
        policy: cost(trace, chip.override({"policy.membrane": policy.value})).dram_total_bytes
        for policy in MembranePolicy
    }
    return tuple(
        DramPoint(shape.name, shape.norm, case.batch, sparsity.origin, policy, comparison)
        for policy, size in moved.items()
        for comparison in compare(bills, size)
    )


def scaling(chip: Chip, case: Case, waits_for_dram: bool, cores: Sequence[int] = CORES) -> tuple[ScalingPoint, ...]:
    """A case on several numbers of cores, without norms by the batch, each number at its own best micro-batch."""
    case = case.without_batch_norm()
    if not waits_for_dram:
        chip = chip.override({"dram.bandwidth_bytes_per_s": _UNBOUNDED}, "assumed: never waited for")
    shape, sparsity = case.shape, case.sparsity or Sparsity.assumed(case.shape)
    trace, needed = synthetic_trace(shape, sparsity, case.batch), needed_fractions(shape, sparsity)
    runs = {}
    for count in dict.fromkeys((1, *cores)):
        sized = chip.override({"cores.count": count})
        bill = cost(trace, sized, needed=needed)
        plan = fastest_plan(bill, trace, sized, divisors(case.batch))
        runs[count] = plan.samples, plan.schedule
    alone = runs[1][1].cycles
    return tuple(
        ScalingPoint(
            shape.name, shape.norm, case.batch, waits_for_dram, count, samples, run.cycles,
            alone / run.cycles if run.cycles else 1.0, run.bubble, run.balance,
        )
        for count, (samples, run) in runs.items()
        if count in cores
    )  # fmt: skip
