"""The claims in words: claim, ours, definition, deviation, free constants.

Nothing is rounded towards the claim: a range over networks is shown whole, and what lies outside a claimed band is
called outside. "Free constants" are those that we fitted or chose and on which the figure hangs. The
networks, and the efficiencies' definitions in full, stand beside the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from neuro_engine.chip import Chip
from neuro_engine.claims import DRAM_BAND, TFLOPS_PER_W, WORKERS, Claims, DramPoint, EfficiencyPoint, ScalingPoint
from neuro_engine.comparison import baselines
from neuro_engine.cost.gpu import BAND, Variant
from neuro_engine.cost.networks.shape import BATCH_NORMS

_EFFICIENCY: Final = f"{TFLOPS_PER_W} TFLOPS/W at FP16 in 28 nm"
_DRAM: Final = "55-85 % less DRAM access than an A100"
_SCALING: Final = "training on 20 cores"
_FEDERATION: Final = "federated learning of 5 workers"
_FIRST: Final = "first multi-core neuromorphic architecture supporting direct SNN training"
_NOTHING: Final = "no figure is claimed: nothing to deviate from"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        claim: what the abstract says.
        ours: our figure, or the range of our figures.
        definition: what it counts.
        deviation: from the claim or its band.
        constants: what was fitted or chosen for it.
        provenance: where `ours` comes from.
        inside: whether all of `ours` lies in the claimed band; None where there is no band.
    """

    claim: str
    ours: str
    definition: str
    deviation: str
    constants: str
    provenance: str = "modelled"
    inside: bool | None = None


def rows(claims: Claims) -> tuple[Row, ...]:
    """The table, claim by claim."""
    first = Row(_FIRST, "not checked", "a statement about others' work", "cannot be compared", "none", "not checked")
    return (*_efficiency(claims), *_dram(claims), *_scaling(claims), _federation(claims), first)


def fitted(chip: Chip) -> str:
    """The constants of a chip that are fitted."""
    names = [key for key, source in chip.sources.items() if source.startswith("fitted")]
    return (
        f"{len(names)} fitted: {', '.join(f'{key} = {chip.values[key]:g}' for key in names)}"
        if names
        else "none fitted"
    )


def _efficiency(claims: Claims) -> Iterator[Row]:
    constants = f"{fitted(claims.chip)}; arrays and energies chosen or quoted"
    peak = claims.efficiencies[0].efficiencies.peak_dense
    yield Row(
        _EFFICIENCY,
        f"{peak:.2f} TFLOPS/W",
        "peak_dense: a full BP array without zeros",
        f"{_relative(peak)}; consistent, but no evidence where a constant was fitted to it",
        constants,
    )
    for batch_norm in (True, False):
        points = [point for point in claims.efficiencies if (point.norm in BATCH_NORMS) is batch_norm]
        for name in ("dense_equivalent", "executed", "system") if points else ():
            values = [getattr(point.efficiencies, name) for point in points]
            yield Row(
                _EFFICIENCY,
                f"{_span(values, '{:.2f}')} TFLOPS/W",
                f"{name}: a training step, {_norm(batch_norm)}, {_networks(points)}",
                " to ".join(dict.fromkeys((_relative(min(values)), _relative(max(values))))),
                f"{constants}; sparsity {_origins(points)}",
            )


def _dram(claims: Claims) -> Iterator[Row]:
    own = claims.chip.policy.membrane
    for batch_norm in (True, False):
        of_norm = [p for p in claims.dram if p.policy is own and (p.norm in BATCH_NORMS) is batch_norm]
        for variant, folded in baselines() if of_norm else ():
            points = [p for p in of_norm if (p.comparison.gpu.variant, p.comparison.gpu.folded) == (variant, folded)]
            yield _dram_row(points, variant, folded, batch_norm, own.value)


def _dram_row(points: list[DramPoint], variant: Variant, folded: bool, batch_norm: bool, policy: str) -> Row:
    inside = [point for point in points if point.inside]
    near = sum(point.inside_with_error for point in points) - len(inside)
    less = [100 * point.comparison.less for point in points]
    steps = "time folded" if folded else "step by step"
    return Row(
        _DRAM,
        f"{_span(less, '{:.0f}')} % less",
        f"bytes of a training step, chip layer by layer; A100 {variant.value}, {steps}; membranes {policy}; "
        f"{_norm(batch_norm)}, {_networks(points)}",
        _band_deviation(points, inside) + (f"; {near} more within the error of the GPU's bytes" if near else ""),
        f"batch sizes; A100 traffic is modelled, +-{100 * BAND:.0f} %; sparsity {_origins(points)}",
        inside=len(inside) == len(points),
    )


def _band_deviation(points: list[DramPoint], inside: list[DramPoint]) -> str:
    if len(inside) == len(points):
        return f"inside the band for all {len(points)}"
    low, high = (100 * bound for bound in DRAM_BAND)
    less = [100 * point.comparison.less for point in points if not point.inside]
    short, over = low - min(less), max(less) - high
    by = [f"up to {short:.0f} points below"] if short > 0 else []
    by += [f"up to {over:.0f} points above"] if over > 0 else []
    return f"outside for {len(less)} of {len(points)}, {', '.join(by)}; inside for {len(inside)}"


def _scaling(claims: Claims) -> Iterator[Row]:
    for waits in (True, False):
        points = [point for point in claims.scaling if point.waits_for_dram is waits]
        counts = {cores: list(of) for cores, of in groupby(sorted(points, key=_cores), key=_cores)}
        most = counts[max(counts)]
        steps = ", ".join(f"{cores}: {_span([p.speedup for p in of], '{:.1f}')} x" for cores, of in counts.items())
        bubble, balance = (_span([getattr(p, name) for p in most], "{:.2f}") for name in ("bubble", "balance"))
        yield Row(
            _SCALING,
            f"cores {steps}; on {max(counts)}: bubble {bubble}, balance {balance}",
            f"cycles of one core over those of n, simulated, each at its own best micro-batch; DRAM "
            f"{'waited for' if waits else 'endlessly fast'}; no norm by the batch, {_networks(most)}",
            _NOTHING,
            "mesh, buffers and DRAM bandwidth chosen" if waits else "mesh and buffers chosen",
        )


def _cores(point: ScalingPoint) -> int:
    return point.cores


def _federation(claims: Claims) -> Row:
    sizes = {point.network: point.bytes_fp32 / 1e6 for point in claims.federation}
    return Row(
        _FEDERATION,
        "MB a round and worker: " + ", ".join(f"{name} {size:.1f}" for name, size in sizes.items()),
        "each parameter once down and once up in FP32, without headers; what a run sent, and its emulated time, is in "
        f"the report of `neurofed run --workers {WORKERS}`",
        _NOTHING,
        "none",
        "counted from the shapes",
    )


def _relative(value: float) -> str:
    return f"{100 * (value / TFLOPS_PER_W - 1):+.0f} %"


def _span(values: Iterable[float], form: str) -> str:
    values = list(values)
    return " to ".join(dict.fromkeys((form.format(min(values)), form.format(max(values)))))


def _norm(batch_norm: bool) -> str:
    return "norm by the batch" if batch_norm else "no norm by the batch"


def _networks(points: Iterable[EfficiencyPoint | DramPoint | ScalingPoint]) -> str:
    names = list(dict.fromkeys(point.network for point in points))
    return names[0] if len(names) == 1 else f"{len(names)} networks"


def _origins(points: Iterable[EfficiencyPoint | DramPoint]) -> str:
    return ", ".join(dict.fromkeys(point.sparsity for point in points))
