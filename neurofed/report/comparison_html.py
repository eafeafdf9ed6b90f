"""The comparison of runs as one page of HTML, drawn from the data of `comparison` alone; every text is escaped here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, Final

from neurofed import metrics, units
from neurofed.report import tables
from neurofed.report.charts import Line, drawable, legend, line_chart
from neurofed.report.data import Data
from neurofed.report.page import figure, page, section
from neurofed.report.tables import tag

Show = Callable[[float | None], str]

FIGURES: Final[Mapping[str, tuple[str, Show]]] = {
    "accuracy": ("accuracy", units.percent),
    "loss": ("loss", units.number),
    "spike_rate": ("firing rate, last round", units.percent),
    "bytes_up": ("bytes up", units.data),
    "bytes_down": ("bytes down", units.data),
    "energy_j": ("energy", units.energy),
    "dram_bytes": ("DRAM traffic", units.data),
    "cycles": ("chip cycles", units.count),
    "emulated_s": ("emulated time", units.duration),
    "wall_s": ("wall time", units.duration),
}
"""How the figures of `comparison` are called and written."""


def render_comparison(data: Data) -> str:
    """Draw a comparison.

    Args:
        data: what `comparison` returns, or the same read back from JSON.

    Returns:
        A complete page.
    """
    names = [run["name"] for run in data["runs"]]
    head = (
        f'<header><div class="top"><h1>{len(names)} runs compared</h1></div>'
        f"<p>{' · '.join(map(escape, names))}</p></header>"
    )
    about = "What is not listed here was the same in all runs."
    parts = (
        head,
        section("What was different", about, [], _asked(data["different"], names)),
        section("How well they learned, and at what price", "", _charts(data)),
        section("Figures", "Of each whole run.", [], _figures(data)),
        section("What all reached", _target_words(data), [], _reached(data)),
        section("What was the same", "", [], _asked({k: [v] for k, v in data["same"].items()}, ["all runs"])),
        _footer(data),
    )
    return page(" and ".join(names), parts)


def shown_value(value: object) -> str:
    """A value of a specification as a person writes it."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is None or isinstance(value, str):
        return value or units.MISSING
    return json.dumps(value, ensure_ascii=False)


def target_row(data: Data) -> list[tuple[str, str, list[str]]]:
    """Rows about the level that all runs reached: what, where it comes from, and a text for each run."""
    aim = data["target"]
    if aim is None:
        return []
    rows: list[tuple[str, str, str, Show]] = [
        ("rounds until then", "counted", "round", units.count),
        ("energy until then", "modelled", "energy_j", units.energy),
        ("bytes until then", "measured", "bytes", units.data),
    ]
    return [(name, kind, [show(run[key]) for run in aim["reached"]]) for name, kind, key, show in rows]


def target_name(data: Data) -> str:
    """The level that all runs reached in words, such as `accuracy 81.2 %`; empty where there is none."""
    aim = data["target"]
    return f"{aim['metric']} {tables.quality(aim['metric'])(aim['level'])}" if aim else ""


def _target_words(data: Data) -> str:
    return f"What each spent until it first reached {target_name(data)}." if data["target"] else ""


def _charts(data: Data) -> list[str]:
    headline = data["headline"]
    show, on_axis = tables.quality(headline), tables.on_axis(headline)
    charts: list[str] = []
    kinds: list[tuple[str, str, str, Callable[[float], str] | None]] = [
        ("round", "by round", "measured", None),
        ("energy_j", "by energy spent", "modelled", units.energy),
        ("bytes", "by bytes sent and received", "measured", units.data),
    ]
    for key, words, kind, across in kinds:
        lines = [Line(run["name"], _points(run, key)) for run in data["runs"]]
        if not any(line.points for line in lines):
            continue
        drawn = line_chart([line for line in lines if line.points], f"{headline} {words}", show, on_axis, across)
        title = f"{headline[:1].upper()}{headline[1:]} {words}"
        charts.append(figure(title, kind, drawn + legend([line.name for line in lines if line.points])))
    return charts


def _points(run: Data, key: str) -> list[tuple[float, float]]:
    known = [point for point in run["curve"] if point[key] is not None and point[key] < 1e30]
    points = drawable((point[key], point["value"]) for point in known)
    return points if key == "round" or len(points) > 1 else []


def _figures(data: Data) -> str:
    headline = data["headline"]
    rows = [("state", "", [run["state"] for run in data["runs"]])]
    rows.append(("rounds", "", [str(run["rounds"]) for run in data["runs"]]))
    if headline not in (metrics.ACCURACY, metrics.LOSS):
        rows.append((headline, "measured", [units.number(run["value"]) for run in data["runs"]]))
    for name, (words, show) in FIGURES.items():
        values = [run["final"][name] for run in data["runs"]]
        if any(value is not None for value in values):
            rows.append((words, data["provenance"][name], [show(value) for value in values]))
    return _side_by_side(rows, data)


def _reached(data: Data) -> str:
    rows = target_row(data)
    return _side_by_side(rows, data) if rows else ""


def _side_by_side(rows: Sequence[tuple[str, str, Sequence[str]]], data: Data) -> str:
    head = [("", ""), ("", ""), *((run["name"], "") for run in data["runs"])]
    cells = [[escape(name), tag(kind), *map(escape, values)] for name, kind, values in rows]
    return tables.table(head, cells)


def _asked(values: Mapping[str, Sequence[Any]], names: Sequence[str]) -> str:
    rows = [
        [escape(name), *(f"<code>{escape(shown_value(value))}</code>" for value in each)]
        for name, each in values.items()
    ]
    return tables.table([("", ""), *((name, "") for name in names)], rows) if rows else ""


def _footer(data: Data) -> str:
    return (
        f"<footer><p>{tag('measured')}: taken on the machines that trained. {tag('counted')}: exact counts. "
        f"{tag('modelled')}: computed from counted operations by the chip's cost model; no chip was measured.</p>"
        f"<p>{escape(data['target_rule'].capitalize())}.</p></footer>"
    )
