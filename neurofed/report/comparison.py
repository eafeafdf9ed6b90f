"""Several runs side by side as plain data: what `neurofed compare` prints and draws."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from neurofed import metrics
from neurofed.report.data import PROVENANCE, Data

_KNOWN: Final = ("chips", "parameters", "model_bytes", "version", "commit")
"""What runs may differ in, apart from what was asked for."""
FIGURES: Final = (
    "accuracy",
    "loss",
    "spike_rate",
    "bytes_up",
    "bytes_down",
    "energy_j",
    "dram_bytes",
    "cycles",
    "emulated_s",
    "wall_s",
)
"""Figures of a whole run that are compared, named as in `report.json`."""

TARGET_RULE: Final = (
    "the target is what the least of the runs reached at its best; rounds, energy and bytes are those spent until a "
    "run first reached it"
)


def comparison(reports: Sequence[Data]) -> Data:
    """Compare runs.

    Args:
        reports: what `report_data` returns for each, in the order to show them.

    Returns:
        Data for JSON: `same` and `different` hold what was asked for, `runs` the figures of each run and its curve
        (the metric after each round, and the energy and bytes spent until then).
    """
    names = _labels([report["run_id"] for report in reports])
    headline = _headline(reports)
    asked = _columns([report["spec"] for report in reports])
    asked |= _columns([report["settings"] for report in reports], "settings.")
    asked |= _columns([{name: report[name] for name in _KNOWN} for report in reports])
    runs = [_run(name, report, headline) for name, report in zip(names, reports, strict=True)]
    return {
        "headline": headline,
        "same": {name: values[0] for name, values in asked.items() if _all_equal(values)},
        "different": {name: values for name, values in asked.items() if not _all_equal(values)},
        "target": _aim(runs, headline),
        "runs": runs,
        "target_rule": TARGET_RULE,
        "provenance": {**{name: PROVENANCE[name] for name in FIGURES}, "value": "measured"},
    }


def _columns(tables: Sequence[Data], prefix: str = "") -> dict[str, list[Any]]:
    """Of each key in any of the tables its values in all of them; None where there is none."""
    keys = dict.fromkeys(key for table in tables for key in table)
    return {f"{prefix}{key}": [table.get(key) for table in tables] for key in keys}


def _run(name: str, report: Data, headline: str) -> Data:
    return {
        "name": name,
        "run_id": report["run_id"],
        "state": report["state"],
        "rounds": report["final"]["rounds"],
        "final": {figure: report["final"][figure] for figure in FIGURES},
        "value": report["final"]["metrics"].get(headline),
        "curve": _curve(report, headline),
    }


def _curve(report: Data, headline: str) -> list[Data]:
    """After each round: the metric, the loss, and what was spent until then. Round 0 is the untrained model."""
    start = report["initial"]
    energy_j: float | None = 0.0
    spent_bytes = 0
    points = [{"round": 0, "value": start["metrics"].get(headline), "loss": start["loss"]}]
    points[0] |= {"energy_j": energy_j, "bytes": spent_bytes}
    for row in report["rounds"]:
        # One round without a bill, and the sum is not known any more.
        energy_j = None if energy_j is None or row["energy_j"] is None else energy_j + row["energy_j"]
        spent_bytes += row["bytes_up"] + row["bytes_down"]
        value = row["metrics"].get(headline)
        points.append(
            {"round": row["round"], "value": value, "loss": row["loss"], "energy_j": energy_j, "bytes": spent_bytes}
        )
    return points


def _aim(runs: list[Data], headline: str) -> Data | None:
    """The level that every run reached, and what each spent until it did; None where there is no such level.

    Of accuracy more is better; of other metrics nobody knows, so the loss is taken, of which less is better.
    """
    metric, key = (headline, "value") if headline == metrics.ACCURACY else (metrics.LOSS, "loss")
    best: Callable[[list[float]], float] = max if key == "value" else min
    least: Callable[[list[float]], float] = min if key == "value" else max
    found = [[point[key] for point in run["curve"][1:] if point[key] is not None] for run in runs]
    if not all(found):
        return None
    level = least([best(values) for values in found])
    reached = [
        next(p for p in run["curve"][1:] if p[key] is not None and best([p[key], level]) == p[key]) for run in runs
    ]
    return {
        "metric": metric,
        "level": level,
        "reached": [{figure: point[figure] for figure in ("round", "energy_j", "bytes")} for point in reached],
    }


def _headline(reports: Sequence[Data]) -> str:
    """The metric to compare by: one that all runs have."""
    wanted = [metrics.ACCURACY, *(report["headline"] for report in reports)]
    return next(
        (name for name in wanted if all(name in report["final"]["metrics"] for report in reports)), metrics.LOSS
    )


def _labels(run_ids: Sequence[str]) -> list[str]:
    """Names to tell runs apart by: their ids, numbered where one id comes twice."""
    count, seen = Counter(run_ids), Counter[str]()
    labels = []
    for run_id in run_ids:
        seen[run_id] += 1
        labels.append(f"{run_id} ({seen[run_id]})" if count[run_id] > 1 else run_id)
    return labels


def _all_equal(values: Sequence[object]) -> bool:
    return all(a == b and type(a) is type(b) for a, b in itertools.pairwise(values))
