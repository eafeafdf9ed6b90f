"""The report as one page of HTML, drawn from the data of `report.json` alone.

The page loads nothing and runs nothing. Names and reasons come from the network: every text is escaped where it
enters the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Final, TypeVar

from neurofed import metrics, units
from neurofed.report import tables
from neurofed.report.charts import Line, bar_chart, drawable, legend, line_chart, segments
from neurofed.report.data import Data
from neurofed.report.page import figure, page, section
from neurofed.report.tables import tag

_T = TypeVar("_T")
_ENGINES: Final = ("fp", "bp", "wg", "update")


def render_html(report: Data) -> str:
    """Draw a report.

    Args:
        report: what `report_data` returns, or the same read back from `report.json`.

    Returns:
        A complete page.
    """
    title = " · ".join(filter(None, [report["workload"], report["preset"], report["run_id"]]))
    body = (_header(report), _curves(report), _chip(report), _sparsity(report), *_tables(report), _footer(report))
    return page(title, body)


def _header(report: Data) -> str:
    workload = escape(report["workload"] or "run")
    preset = f' <span class="soft">{escape(report["preset"])}</span>' if report["preset"] else ""
    state = escape(report["state"])
    reason = f'<p class="reason">{escape(report["reason"])}</p>' if report["reason"] else ""
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _facts(report) if value
    )
    return (
        f'<header>\n<div class="top"><h1>{workload}{preset}</h1><span class="state {state}">{state}</span></div>\n'
        f'<dl class="facts">{facts}</dl>\n{reason}\n<dl class="numbers">{_numbers(report)}</dl>\n</header>'
    )


def _facts(report: Data) -> list[tuple[str, str]]:
    started = report["started_unix_s"]
    size = f"{units.count(report['parameters'])} parameters, {units.data(report['model_bytes'])}"
    return [
        ("run", report["run_id"]),
        ("started", f"{datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M} UTC" if started else ""),
        ("workers", str(report["workers"] or "")),
        ("chip", ", ".join(report["chips"])),
        ("strategy", report["strategy"]),
        ("codec", report["codec"]),
        ("seed", str(report["seed"])),
        ("model", size if report["parameters"] else ""),
        ("version", f"{report['version']} {report['commit'][:12]}".strip()),
    ]


def _numbers(report: Data) -> str:
    final, headline = report["final"], report["headline"]
    done = f"after {final['rounds']} of {report['rounds_planned']} rounds"
    executed, dense = (sum(final["ops"][kind].values()) for kind in ("executed", "dense"))
    cards = [
        (headline, tables.quality(headline)(final["metrics"].get(headline)), done, "measured"),
        ("loss", units.number(final["loss"]), "on the test data", "measured"),
        ("bytes up", units.data(final["bytes_up"]), "from all workers", "measured"),
        ("bytes down", units.data(final["bytes_down"]), "to all workers", "measured"),
        ("energy", units.energy(final["energy_j"]), "all workers' chips and DRAM", "modelled"),
        ("DRAM traffic", units.data(final["dram_bytes"]), "all workers", "modelled"),
        ("chip cycles", units.count(final["cycles"]), "slowest worker of each round", "modelled"),
        (
            "emulated time",
            units.duration(final["emulated_s"]),
            "slowest board of each round, with its link",
            "modelled",
        ),
        ("wall time", units.duration(final["wall_s"]), "all rounds", "measured"),
    ]
    if dense:
        cards.append(("operations done", units.percent(executed / dense), "of the dense network's", "counted"))
    if final["spike_rate"] is not None:
        cards.append(("firing rate", units.percent(final["spike_rate"]), "last round", "measured"))
    return "".join(
        f'<div><dt>{escape(name)}</dt><dd class="big">{escape(value)}</dd>'
        f'<dd class="also">{escape(also)}</dd><dd>{tag(kind)}</dd></div>'
        for name, value, also, kind in cards
    )


def _curves(report: Data) -> str:
    headline = report["headline"]
    start = report["initial"]["metrics"]
    tested = [{"round": 0, "metrics": start}, *report["rounds"]]
    quality = drawable((row["round"], row["metrics"].get(headline)) for row in tested)
    test_loss = drawable((row["round"], row["metrics"].get(metrics.LOSS)) for row in tested)
    train_loss = drawable((row["round"], row["train_loss"]) for row in report["rounds"])
    losses = [Line(name, line) for name, line in (("test", test_loss), ("training", train_loss)) if line]
    figures = []
    if quality:
        chart = line_chart(
            [Line(headline, quality)], f"{headline} by round", tables.quality(headline), tables.on_axis(headline)
        )
        figures.append(figure(f"{headline[:1].upper()}{headline[1:]} by round", "measured", chart))
    if losses:
        chart = line_chart(losses, "loss by round", units.number, tables.on_axis(metrics.LOSS))
        figures.append(figure("Loss by round", "measured", chart + legend([line.name for line in losses])))
    about = "The global model on the test data after each round; round 0 is the untrained model."
    return section("How well it learned", about, figures)


def _chip(report: Data) -> str:
    final = report["final"]
    ops = final["ops"]
    done = {
        _engine(name): {
            "executed": ops["executed"].get(name, 0.0),
            "skipped": max(0.0, dense - ops["executed"].get(name, 0.0)),
        }
        for name, dense in _in_order(ops["dense"])
    }
    energy = {_engine(name): dict(parts) for name, parts in _in_order(final["energy_by_part"])}
    by_size = sorted(final["dram_by_class"].items(), key=lambda item: -item[1])
    dram = {name.replace("_", " "): {"": value} for name, value in by_size}
    cycles = {_engine(name): {"": value} for name, value in _in_order(final["cycles_by_engine"])}
    figures = [
        _bars("Energy by engine and component", "modelled", energy, units.energy),
        _bars("DRAM traffic by tensor class", "modelled", dram, units.data),
        _bars("Synaptic operations by engine", "counted", done, units.count),
        _bars("Busy cycles by engine", "modelled", cycles, units.count),
    ]
    about = (
        "The emulated chips' bill, summed over all workers and rounds. "
        "FP: forward propagation, BP: back-propagation, WG: weight gradient."
    )
    return section("What it cost the chips", about, filter(None, figures))


def _sparsity(report: Data) -> str:
    about = "Fraction of neurons that fired, per time step, averaged over workers by their examples."
    table = tables.layers(report)
    return section("How sparsely it fired", about, [], table) if table else ""


def _tables(report: Data) -> Iterable[str]:
    yield section("Who trained what", "Totals over the run, and how each round ended.", [], tables.workers(report))
    about = "Bytes, energy and DRAM: all workers together. Cycles: the slowest worker."
    yield section("Round by round", about, [], tables.rounds(report) + tables.round_details(report))
    if report["notes"]:
        notes = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
        yield section("What else happened", "", [], f'<ol class="sheet notes">{notes}</ol>')
    if spent := report["final"]["privacy"]:
        about = (
            f"<p>What the model tells of any one worker is bounded by epsilon {units.number(spent.get('epsilon'))} at "
            f"delta {units.number(spent.get('delta'))}, {tag('modelled')}. The numbers that workers report are not.</p>"
        )
        yield section("Privacy", "", [], f'<div class="sheet">{about}</div>')
    if report["settings"]:
        yield section("Settings", "", [], tables.settings(report))


def _footer(report: Data) -> str:
    return (
        f"<footer><p>{tag('measured')}: taken on the machines that trained. {tag('counted')}: events that the emulator "
        f"counted exactly. {tag('modelled')}: computed from those counts by the chip's cost model; no chip was "
        f"measured.</p><p>{escape(report['cycles_rule'].capitalize())}.</p>"
        f"<p>{escape(report['emulated_rule'].capitalize())}.</p>"
        f"<p>Drawn from {report['events']} events.</p></footer>"
    )


def _bars(title: str, provenance: str, rows: dict[str, dict[str, float]], show: Callable[[float | None], str]) -> str:
    if not rows:
        return ""
    return figure(title, provenance, bar_chart(rows, title, show) + legend(segments(rows)))


def _in_order(by_engine: Mapping[str, _T]) -> list[tuple[str, _T]]:
    """The engines in the order in which they work; what is unknown comes last."""
    known = {name: place for place, name in enumerate(_ENGINES)}
    return sorted(by_engine.items(), key=lambda item: (known.get(item[0], len(known)), item[0]))


def _engine(name: str) -> str:
    return name.upper() if len(name) <= 2 else name
