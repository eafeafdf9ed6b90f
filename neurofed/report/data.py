"""The numbers of a run as plain data: what `report.json` holds and every table shows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from neurofed import metrics
from neurofed.runstate import is_finished, run_state_name, worker_state_name
from neurofed.spec import CHOICES
from neurofed.v1.control_pb2 import RunSpec
from neurofed.v1.monitor_pb2 import RoundView, Snapshot, WorkerRound

Data: TypeAlias = dict[str, Any]
"""An object of JSON: only finite numbers, strings, booleans, None, lists and objects."""

PROVENANCE: Final[Mapping[str, str]] = {
    "accuracy": "measured",
    "metrics": "measured",
    "loss": "measured",
    "train_loss": "measured",
    "spike_rate": "measured",
    "spike_rates": "measured",
    "gradient_densities": "measured",
    "bytes_up": "measured",
    "bytes_down": "measured",
    "wall_s": "measured",
    "examples": "counted",
    "updates": "counted",
    "ops": "counted",
    "energy_j": "modelled",
    "energy_by_part": "modelled",
    "dram_bytes": "modelled",
    "dram_by_class": "modelled",
    "cycles": "modelled",
    "cycles_by_engine": "modelled",
    "chip_s": "modelled",
    "link_s": "modelled",
    "link_j": "modelled",
    "emulated_s": "modelled",
    "privacy": "modelled",
}
"""Where each figure comes from: measured on the host, counted by the emulator, or modelled from the counts."""

EMULATED_RULE: Final = (
    "emulated time of a worker: its chip's and that of its bytes on its board's link; of a round: that of its slowest "
    "worker, the straggler; of the run: the sum of its rounds"
)

CYCLES_RULE: Final = (
    "cycles of a round: the largest of its workers, who work in parallel; of the run: the sum of its rounds; "
    "by engine: busy cycles, summed over workers and rounds"
)


def report_data(snapshot: Snapshot) -> Data:
    """A run as `report.json` holds it.

    Args:
        snapshot: the folded events.

    Returns:
        Data for JSON. A number that nobody reported is None, never 0.
    """
    rounds = [round_data(view) for view in snapshot.rounds]
    return {
        **_identity(snapshot),
        "headline": headline(snapshot),
        "initial": _quality(snapshot.initial_metrics),
        "rounds": rounds,
        "final": _final(snapshot, rounds),
        "fleet": [
            {"name": w.name, "chip": w.chip, "cores": w.cores, "version": w.version, "present": w.present}
            for w in snapshot.workers
        ],
        "notes": list(snapshot.notes),
        "events": snapshot.seq,
        "provenance": dict(PROVENANCE),
        "cycles_rule": CYCLES_RULE,
        "emulated_rule": EMULATED_RULE,
    }


def round_data(view: RoundView) -> Data:
    """One round: the global model after it, its totals and each worker's part."""
    parts = [worker_data(part) for part in view.workers]
    return {
        "round": view.round,
        **_quality(view.metrics),
        "train_loss": _number(view.train_metrics, metrics.LOSS),
        **_totals(parts, together=max),
        "straggler": straggler(parts),
        "wall_s": view.wall_s if is_finished(view) else None,
        "updates": view.updates,
        "privacy": _finite(metrics.parts(view.train_metrics, metrics.PRIVACY)),
        "model_sha256": view.model_sha256,
        "spike_rate": _number(view.train_metrics, metrics.SPIKE_RATE),
        "spike_rates": _finite(metrics.parts(view.train_metrics, metrics.SPIKE_RATE)),
        "gradient_densities": _finite(metrics.parts(view.train_metrics, metrics.GRADIENT_DENSITY)),
        "workers": parts,
    }


def worker_data(part: WorkerRound) -> Data:
    """One worker's part in a round."""
    chip_s, link = _number(part.metrics, metrics.CHIP_S), _number(part.metrics, metrics.LINK_BYTES_PER_S)
    moved_bytes, link_pj = part.bytes_up + part.bytes_down, _number(part.metrics, metrics.LINK_PJ_PER_BIT)
    link_s = moved_bytes / link if link else None
    return {
        "name": part.name,
        "state": worker_state_name(part.state),
        "reason": part.reason,
        "step": part.step,
        "steps": part.steps,
        "examples": part.examples,
        "loss": _number(part.metrics, metrics.LOSS),
        "spike_rate": _number(part.metrics, metrics.SPIKE_RATE),
        "bytes_up": part.bytes_up,
        "bytes_down": part.bytes_down,
        "energy_j": _number(part.metrics, metrics.ENERGY_J),
        "dram_bytes": _number(part.metrics, metrics.DRAM_BYTES),
        "cycles": _number(part.metrics, metrics.CYCLES),
        "chip_s": chip_s,
        "link_s": link_s,
        "link_j": None if link_pj is None else 8e-12 * moved_bytes * link_pj,
        "emulated_s": None if chip_s is None or link_s is None else chip_s + link_s,
        "metrics": _finite(part.metrics),
    }


def headline(snapshot: Snapshot) -> str:
    """The name of the metric to show first: accuracy, or what the workload has in its place."""
    latest = next((v.metrics for v in reversed(snapshot.rounds) if v.metrics), snapshot.initial_metrics)
    others = sorted(name for name in latest if name != metrics.LOSS)
    return metrics.ACCURACY if metrics.ACCURACY in others or not others else others[0]


def _identity(snapshot: Snapshot) -> Data:
    """What was run, and how it ended."""
    spec = snapshot.spec
    return {
        "run_id": snapshot.run_id,
        "version": snapshot.version,
        "commit": snapshot.commit,
        "state": run_state_name(snapshot.state),
        "reason": snapshot.reason,
        "exit_code": snapshot.exit_code,
        "workload": spec.workload,
        "preset": spec.preset,
        "seed": spec.seed,
        "workers": spec.workers,
        "rounds_planned": spec.rounds,
        "strategy": spec.strategy,
        "codec": spec.codec,
        "chips": sorted({w.chip for w in snapshot.workers if w.chip} or {spec.chip}),
        "spec": _asked(spec),
        "settings": _settings(spec),
        "parameters": snapshot.parameters,
        "model_bytes": snapshot.model_bytes,
        "started_unix_s": snapshot.started_unix_s,
        "updated_unix_s": snapshot.updated_unix_s,
    }


def _asked(spec: RunSpec) -> Data:
    """Everything that was asked for, apart from settings."""
    tables = {choice.settings for choice in CHOICES.values()}
    values = {field.name: getattr(spec, field.name) for field in spec.DESCRIPTOR.fields if field.name not in tables}
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def _settings(spec: RunSpec) -> Data:
    """The workload's settings by their names, then others with a prefix, as `strategy.lr`."""
    settings = {}
    for kind, choice in CHOICES.items():
        prefix = "" if kind == "workload" else f"{kind}."
        settings.update({prefix + key: _decoded(text) for key, text in sorted(getattr(spec, choice.settings).items())})
    return settings


def _final(snapshot: Snapshot, rounds: list[Data]) -> Data:
    reported = [part.metrics for view in snapshot.rounds for part in view.workers]
    finished = [view for view in snapshot.rounds if is_finished(view)]
    last = next((row for row in reversed(rounds) if row["spike_rates"] or row["spike_rate"] is not None), None)
    return {
        "rounds": len(finished),
        **_quality(finished[-1].metrics if finished else snapshot.initial_metrics),
        **_totals(rounds, together=sum),
        "wall_s": _combined(sum, (row["wall_s"] for row in rounds)),
        "updates": sum(row["updates"] for row in rounds),
        "privacy": next((row["privacy"] for row in reversed(rounds) if row["privacy"]), {}),
        "energy_by_part": _nested(_summed(reported, metrics.ENERGY_J)),
        "dram_by_class": _summed(reported, metrics.DRAM_BYTES),
        "cycles_by_engine": _summed(reported, metrics.CYCLES),
        "ops": {
            "dense": _summed(reported, metrics.OPS_DENSE),
            "executed": _summed(reported, metrics.OPS_EXECUTED),
        },
        "spike_rate": last["spike_rate"] if last else None,
        "spike_rates": last["spike_rates"] if last else {},
        "gradient_densities": last["gradient_densities"] if last else {},
        "workers": _by_worker(rounds),
        "model_sha256": next((v.model_sha256 for v in reversed(finished) if v.model_sha256), ""),
    }


def _by_worker(rounds: list[Data]) -> list[Data]:
    """Each worker's totals over the run, by name."""
    parts: dict[str, list[Data]] = {}
    for row in rounds:
        for part in row["workers"]:
            parts.setdefault(part["name"], []).append(part)
    return [
        {
            "name": name,
            "loss": next((part["loss"] for part in reversed(own) if part["loss"] is not None), None),
            **_totals(own, together=sum),
        }
        for name, own in sorted(parts.items())
    ]


def _quality(found: Mapping[str, float]) -> Data:
    return {
        "accuracy": _number(found, metrics.ACCURACY),
        "loss": _number(found, metrics.LOSS),
        "metrics": _finite(found),
    }


def straggler(parts: list[Data]) -> str | None:
    """The worker on which a round's emulated time depends, where there are several."""
    timed = [part for part in parts if part["emulated_s"] is not None]
    return str(max(timed, key=lambda part: part["emulated_s"])["name"]) if len(timed) > 1 else None


def _totals(rows: list[Data], together: Callable[[list[float]], float]) -> Data:
    """Totals; `together` combines times, which workers spend in parallel and rounds one after the other."""
    return {
        "examples": sum(row["examples"] for row in rows),
        "bytes_up": sum(row["bytes_up"] for row in rows),
        "bytes_down": sum(row["bytes_down"] for row in rows),
        "energy_j": _combined(sum, (row["energy_j"] for row in rows)),
        "link_j": _combined(sum, (row["link_j"] for row in rows)),
        "dram_bytes": _combined(sum, (row["dram_bytes"] for row in rows)),
        "cycles": _combined(together, (row["cycles"] for row in rows)),
        "emulated_s": _combined(together, (row["emulated_s"] for row in rows)),
    }


def _combined(how: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    result = how(known) if known else math.nan
    return result if math.isfinite(result) else None


def _summed(reported: Iterable[Mapping[str, float]], name: str) -> dict[str, float]:
    """The parts of a structured metric, each summed over all reports."""
    values: dict[str, list[float]] = {}
    for report in reported:
        for part, value in _finite(metrics.parts(report, name)).items():
            values.setdefault(part, []).append(value)
    return _finite({part: sum(own) for part, own in values.items()})


def _nested(flat: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """`{'fp/mac': 1}` as `{'fp': {'mac': 1}}`; a part that is itself a total has no place in it."""
    nested: dict[str, dict[str, float]] = {}
    for path, value in flat.items():
        first, _, rest = path.partition("/")
        if rest:
            nested.setdefault(first, {})[rest] = value
    return nested


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """Without what JSON cannot hold."""
    return {name: values[name] for name in sorted(values) if math.isfinite(values[name])}


def _number(values: Mapping[str, float], name: str) -> float | None:
    return values[name] if name in values and math.isfinite(values[name]) else None


def _decoded(setting: str) -> object:
    try:
        return json.loads(setting, parse_constant=str, parse_float=_float_or_word)
    except (ValueError, RecursionError):
        return setting


def _float_or_word(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text
