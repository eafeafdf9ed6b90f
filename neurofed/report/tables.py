"""The tables of the report's page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from neurofed import metrics, units
from neurofed.report.charts import sparkline
from neurofed.report.data import Data

_GLYPHS: Final = {
    "done": "●",
    "training": "◐",
    "receiving": "◔",
    "idle": "·",
    "lost": "○",
    "rejected": "⊘",
    "failed": "✕",
}
"""A shape for each state, so that none is told by its colour alone."""

_COST_HEAD: Final = [
    ("bytes up", "measured"),
    ("bytes down", "measured"),
    ("energy", "modelled"),
    ("DRAM", "modelled"),
    ("cycles", "modelled"),
    ("emulated time", "modelled"),
]


def tag(provenance: str) -> str:
    """The mark that says where a figure comes from."""
    return f'<span class="tag {escape(provenance)}">{escape(provenance)}</span>' if provenance else ""


def quality(name: str) -> Callable[[float | None], str]:
    """How a model's metric is written: accuracy in percent, others as they are."""
    return units.percent if name == metrics.ACCURACY else units.number


def on_axis(name: str) -> Callable[[float], str]:
    """How a model's metric is written beside an axis."""
    return (lambda value: f"{100 * value:.4g} %") if name == metrics.ACCURACY else (lambda value: f"{value:.4g}")


def layers(report: Data) -> str:
    """Firing rate and gradient density of each layer, with the rounds as a line; empty where nothing was traced."""
    history: dict[str, list[float]] = {}
    for row in report["rounds"]:
        for name, rate in row["spike_rates"].items():
            history.setdefault(name, []).append(rate)
    if not history:
        return ""
    density = report["final"]["gradient_densities"]
    top = max(max(rates) for rates in history.values())
    head = [("layer", ""), ("over the rounds", ""), ("first", "measured"), ("last", "measured")]
    if density:
        head.append(("gradient density", "measured"))
    rows = []
    for name, rates in history.items():
        line = sparkline(rates, top, f"firing rate of {name}: {', '.join(map(units.percent, rates))}")
        cells = [line, units.percent(rates[0]), units.percent(rates[-1])]
        rows.append([escape(name), *cells, *([units.percent(density.get(name))] if density else [])])
    return table(head, rows)


def workers(report: Data) -> str:
    """Each worker's totals, and a mark for the state of its part in each round."""
    chips = {worker["name"]: worker["chip"] for worker in report["fleet"]}
    head = [("worker", ""), ("chip", ""), ("rounds", ""), ("examples", "counted"), ("last loss", "measured")]
    rows = [
        [
            escape(total["name"]),
            escape(chips.get(total["name"], "") or units.MISSING),
            _strip(report, total["name"]),
            units.count(total["examples"]),
            units.number(total["loss"]),
            *_cost(total),
        ]
        for total in report["final"]["workers"]
    ]
    seen = dict.fromkeys(part["state"] for row in report["rounds"] for part in row["workers"])
    key = "".join(f"<span>{_mark(state, '')} {escape(state)}</span>" for state in seen)
    return table([*head, *_COST_HEAD], rows) + (f'<p class="key">{key}</p>' if rows else "")


def rounds(report: Data) -> str:
    """One row for each round, and the totals."""
    headline, final = report["headline"], report["final"]
    show = quality(headline)
    head = [("round", ""), (headline, "measured"), ("loss", "measured"), ("updates", "counted"), *_COST_HEAD]
    rows = [
        [
            str(row["round"]),
            show(row["metrics"].get(headline)),
            units.number(row["loss"]),
            str(row["updates"]),
            *_cost(row),
            escape(row["straggler"] or units.MISSING),
            units.duration(row["wall_s"]),
            f'<code title="{escape(row["model_sha256"])}">{escape(row["model_sha256"][:8]) or units.MISSING}</code>',
        ]
        for row in report["rounds"]
    ]
    total = [
        "all",
        show(final["metrics"].get(headline)),
        units.number(final["loss"]),
        str(final["updates"]),
        *_cost(final),
        "",
        units.duration(final["wall_s"]),
        "",
    ]
    return table([*head, ("slowest", ""), ("wall time", "measured"), ("model", "")], rows, total if rows else ())


def round_details(report: Data) -> str:
    """The workers' parts of every round, folded away."""
    head = [("worker", ""), ("state", ""), ("examples", "counted"), ("loss", "measured"), ("rate", "measured")]
    shown = []
    for row in report["rounds"]:
        parts = [
            [
                escape(part["name"]),
                _state(part),
                units.count(part["examples"]),
                units.number(part["loss"]),
                units.percent(part["spike_rate"]),
                *_cost(part),
            ]
            for part in row["workers"]
        ]
        shown.append(f"<h3>Round {row['round']}</h3>{table([*head, *_COST_HEAD], parts)}")
    return f"<details><summary>Every worker in every round</summary>{''.join(shown)}</details>" if shown else ""


def settings(report: Data) -> str:
    """The settings of the workload and of what else was chosen."""
    rows = [
        [escape(name), f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"]
        for name, value in report["settings"].items()
    ]
    return table([("setting", ""), ("value", "")], rows)


def _cost(row: Data) -> list[str]:
    return [
        units.data(row["bytes_up"]),
        units.data(row["bytes_down"]),
        units.energy(row["energy_j"]),
        units.data(row["dram_bytes"]),
        units.count(row["cycles"]),
        units.duration(row["emulated_s"]),
    ]


def _strip(report: Data, name: str) -> str:
    marks = [
        _mark(part["state"], f"round {row['round']}: {part['state']}{_because(part)}")
        for row in report["rounds"]
        for part in row["workers"]
        if part["name"] == name
    ]
    return f'<div class="strip">{"".join(marks)}</div>'


def _mark(state: str, title: str) -> str:
    hint = f' title="{escape(title)}"' if title else ""
    return f'<span class="w-{escape(state)}"{hint}>{_GLYPHS.get(state, "?")}</span>'


def _state(part: Data) -> str:
    return f"{_mark(part['state'], '')} {escape(part['state'] + _because(part))}"


def _because(part: Data) -> str:
    return f" ({part['reason']})" if part["reason"] else ""


def table(head: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], total: Sequence[str] = ()) -> str:
    """A table of cells that are HTML already.

    Args:
        head: for each column its name and where its figures come from; empty for a column of text.
        rows: the cells.
        total: the cells of the last row.
    """
    kinds = ["" if provenance else ' class="text"' for _, provenance in head]
    names = "".join(
        f'<th scope="col"{kind}>{escape(name)}{tag(provenance)}</th>'
        for kind, (name, provenance) in zip(kinds, head, strict=True)
    )
    body = "".join(_row(kinds, row) for row in rows)
    foot = f"<tfoot>{_row(kinds, total)}</tfoot>" if total else ""
    return f'<div class="sheet"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody>{foot}</table></div>'


def _row(kinds: Sequence[str], cells: Sequence[str]) -> str:
    first, *others = cells
    columns = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], others, strict=True))
    return f'<tr><th scope="row">{first}</th>{columns}</tr>'
