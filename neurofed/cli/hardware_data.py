"""A profile, a sweep and the claims as plain data: what --json prints and every table shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro_engine.chip import Chip
    from neuro_engine.claims import Claims, DramPoint
    from neuro_engine.comparison import Comparison
    from neuro_engine.cost import LayerCost
    from neuro_engine.profile import Profile
    from neuro_engine.sweep import Axis, Point

Data = dict[str, Any]


def profile_data(profile: Profile) -> Data:
    """One training step on one chip: seconds, joules and bytes of the whole step; all of it modelled."""
    from neuro_engine.comparison import compare, reference

    bill, shape = profile.bill, profile.shape
    efficiencies = bill.efficiencies(profile.chip)
    return {
        "network": shape.name,
        "description": shape.description,
        "shapes_from": shape.source,
        "norm": shape.norm,
        "parameters": sum(map(shape.parameters, shape.layers)),
        "chip": profile.chip.name,
        "chip_fitted_or_given": fitted_or_given(profile.chip),
        "batch": profile.batch,
        "sparsity": {**profile.sparsity.table(), "origin": profile.sparsity.origin},
        "provenance": "modelled",
        "layers": [_layer(name, engine.value, part) for (name, engine), part in bill.layers.items()],
        "energy_j": bill.energy_j,
        "energy_by_component_j": {part.value: joules for part, joules in bill.energy_by_component_j.items() if joules},
        "energy_by_engine_and_component_j": _by_engine(profile),
        "dram_bytes": bill.dram_total_bytes,
        "dram_by_class": {tensor.value: size for tensor, size in sorted(bill.dram_bytes.items())},
        "cycles": profile.schedule.cycles,
        "seconds": profile.seconds,
        "efficiencies_tflops_per_w": asdict(efficiencies),
        "definitions": dict(efficiencies.DEFINITIONS),
        "schedule": _schedule(profile),
        "roofline": roofline_data(profile),
        "gpu": [_comparison(one) for one in compare(reference(shape, profile.batch), bill.dram_total_bytes)],
    }


def fitted_or_given(chip: Chip) -> Data:
    """The constants of a chip that were fitted to a claim, or set for this call."""
    own = {key: source for key, source in chip.sources.items() if source.startswith(("fitted", "given"))}
    return {key: {"value": chip.values[key], "source": source} for key, source in own.items()}


def roofline_data(profile: Profile) -> Data:
    """What each layer and engine reaches beside what chip and DRAM allow, if all cores worked on it alone."""
    from neuro_engine.trace import Engine

    chip = profile.chip
    cores_hz = chip.cores.count * chip.clock.frequency_hz
    bandwidth = chip.dram.bandwidth_bytes_per_s * chip.dram.efficiency
    points = []
    for (name, engine), part in profile.bill.layers.items():
        flop = (2 if part.multiplies or engine is Engine.BP else 1) * part.executed_ops
        if engine is Engine.UPDATE or not flop or not part.dram_bytes:
            continue
        seconds = max(part.cycles / cores_hz, part.dram_bytes / bandwidth)
        points.append(
            {
                "layer": name,
                "engine": engine.value,
                "flop_per_byte": flop / part.dram_bytes,
                "flop_per_s": flop / seconds,
            }
        )
    rows, columns = chip.lanes.array(Engine.BP)
    return {"peak_flop_per_s": 2 * rows * columns * cores_hz, "dram_bytes_per_s": bandwidth, "points": points}


def sweep_data(axes: tuple[Axis, ...], points: tuple[Point, ...], front: tuple[Point, ...]) -> Data:
    """All points, and those of the Pareto front."""
    return {
        "axes": {axis.key: list(axis.values) for axis in axes},
        "points": [point.row() for point in points],
        "pareto": [point.row() for point in front],
        "provenance": "modelled: closed form, greedy mapping, no schedule, no energy of the network on chip, no area",
    }


def claims_data(claims: Claims) -> Data:
    """The table of claims, and the figures behind it."""
    from neuro_engine.claim_table import rows
    from neuro_engine.claims import DRAM_BAND, TFLOPS_PER_W
    from neuro_engine.cost import Efficiencies

    return {
        "chip": claims.chip.name,
        "chip_fitted_or_given": fitted_or_given(claims.chip),
        "claimed": {
            "tflops_per_w": TFLOPS_PER_W,
            "dram_less": DRAM_BAND,
            "source": "quoted: arXiv:2412.05302, abstract",
        },
        "rows": [asdict(row) for row in rows(claims)],
        "efficiencies": [asdict(point) for point in claims.efficiencies],
        "definitions": dict(Efficiencies.DEFINITIONS),
        "dram": [_dram_point(point) for point in claims.dram],
        "scaling": [asdict(point) for point in claims.scaling],
        "federation": [
            {**asdict(p), "bytes_a_round_fp32": p.bytes_fp32, "bytes_a_round_fp16": p.bytes_fp16}
            for p in claims.federation
        ],
        "provenance": "modelled, but for the bytes of the federation, which are counted from the shapes",
    }


def _dram_point(point: DramPoint) -> Data:
    return {
        "network": point.network,
        "norm": point.norm,
        "batch": point.batch,
        "sparsity": point.sparsity,
        "policy": point.policy,
        "inside": point.inside,
        "inside_with_error": point.inside_with_error,
        "chip_bytes": point.comparison.chip_bytes,
        **_comparison(point.comparison),
    }


def _comparison(one: Comparison) -> Data:
    return {
        "gpu": one.gpu.gpu.name,
        "variant": one.gpu.variant.value,
        "time_folded": one.gpu.folded,
        "dram_bytes": one.gpu.bytes,
        "dram_bytes_band": one.gpu.band_bytes,
        "seconds": one.gpu.seconds,
        "chip_saves": one.less,
        "chip_saves_band": one.less_band,
    }


def _layer(name: str, engine: str, part: LayerCost) -> Data:
    return {
        "layer": name,
        "engine": engine,
        "cycles": part.cycles,
        "utilisation": part.utilisation,
        "imbalance": part.imbalance,
        "dense_ops": part.dense_ops,
        "executed_ops": part.executed_ops,
        "energy_j": part.energy_j,
        "dram_bytes": part.dram_bytes,
    }


def _by_engine(profile: Profile) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for (engine, component), pj in profile.bill.energy_pj.items():
        table.setdefault(engine.value, {})[component.value] = pj * 1e-12
    return table


def _schedule(profile: Profile) -> Data:
    run = profile.schedule
    return {
        "micro_batch_samples": profile.samples,
        "bubble": run.bubble,
        "balance": run.balance,
        "stall_engine_cycles": {cause.value: cycles for cause, cycles in run.stalls.items()},
        "dram_bytes": run.dram_bytes,
        "dram_busy": run.dram_busy / run.cycles if run.cycles else 0.0,
        "stages": [
            {"layers": list(stage.layers), "cores": stage.cores, "replicas": stage.replicas}
            for stage in profile.mapping.stages
        ],
    }
