"""What the full-screen monitor shows, as text for any terminal of 80 columns or more.

Everything is built as `rich` text and never as markup, so that no name from the network can style or hide anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from rich.text import Text

from neurofed import metrics, units
from neurofed.cli.tui.watched import Watched
from neurofed.cli.view import STATE_STYLES, sparkline
from neurofed.report.data import headline, worker_data
from neurofed.report.tables import quality
from neurofed.runstate import one_line, run_state_name, samples_per_s
from neurofed.v1.monitor_pb2 import Snapshot, WorkerRound, WorkerView

_OLD_HEARTBEAT_S: Final = 12.0
"""From here on a worker's silence is marked: the aggregator gives a worker up after as long."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table of workers."""

    key: str
    head: str
    width: int


COLUMNS: Final = (
    Column("worker", "\nworker", 11),
    Column("state", "\nstate", 10),
    Column("step", "\nstep", 9),
    Column("samples", "samples\nper s", 7),
    Column("rate", "firing\nrate", 6),
    Column("energy", "energy\nmodelled", 8),
    Column("up", "bytes up\nmeasured", 8),
    Column("down", "and down\nmeasured", 8),
    Column("heard", "last\nheard", 5),
)
"""Bytes and energy are those of the whole run so far."""


def title(watched: Watched) -> Text:
    """Which run, of what, and how it stands."""
    snapshot = watched.snapshot
    state = run_state_name(snapshot.state)
    text = _line()
    text.append(one_line(snapshot.run_id, 34) or "no run yet", "bold")
    text.append(f"  {one_line(snapshot.spec.workload, 22)} {one_line(snapshot.spec.preset, 12)}  ")
    text.append(state, f"bold {STATE_STYLES.get(state, '')}".strip())
    if watched.lost:
        text.append("  lost, retrying", "bold red")
    return text


def bill(watched: Watched, now_unix_s: float) -> Text:
    """Time and cost of the run so far.

    Args:
        watched: the run.
        now_unix_s: the time until which a run that goes on has taken.
    """
    snapshot, cost = watched.snapshot, watched.cost()
    until_s = snapshot.updated_unix_s if watched.ended or watched.lost else max(now_unix_s, snapshot.updated_unix_s)
    elapsed_s = until_s - snapshot.started_unix_s if snapshot.started_unix_s else None
    text = _line(f"{units.duration(elapsed_s and float(round(elapsed_s)))}")
    for value, name, kind in (
        (units.energy(cost.energy_j), "energy", "modelled"),
        (units.data(cost.bytes_up), "up", ""),
        (units.data(cost.bytes_down), "down", "measured"),
    ):
        text.append("  ").append(name, "dim").append(f" {value}").append(f" {kind}".rstrip(), "dim italic")
    return text


def progress(watched: Watched) -> Text:
    """The round in words; the bar beside it is a widget."""
    snapshot = watched.snapshot
    current = snapshot.rounds[-1].round if snapshot.rounds else 0
    return _line(f"round {current}/{snapshot.spec.rounds}")


def curve(snapshot: Snapshot, name: str, width: int) -> Text:
    """A metric of the global model: its name, its last value, and the last rounds as a line of blocks."""
    views = snapshot.rounds[-width:]
    seen = ([snapshot.initial_metrics] if len(views) < width else []) + [view.metrics for view in views]
    values = [found[name] for found in seen if name in found and math.isfinite(found[name])]
    text = _line(f"{one_line(name, 10):10} ")
    text.append(f"{quality(name)(values[-1] if values else None):>8}  ", "bold")
    return text.append(sparkline(values, width), "cyan")


def curves(snapshot: Snapshot) -> tuple[str, str]:
    """The two metrics to show: the workload's own, and the loss."""
    return headline(snapshot), metrics.LOSS


def worker_rows(watched: Watched) -> list[tuple[str, list[Text]]]:
    """Each worker's name and the cells of its row, by name."""
    snapshot = watched.snapshot
    parts = {part.name: part for part in snapshot.rounds[-1].workers} if snapshot.rounds else {}
    speeds = samples_per_s(snapshot)
    return [(view.name, _row(watched, view, parts.get(view.name), speeds.get(view.name))) for view in snapshot.workers]


def heading(column: Column) -> Text:
    """The head of a column, aligned as its cells are."""
    lines = [_cell(line, column, "bold") for line in column.head.split("\n")]
    return Text("\n").join(lines)


def _row(watched: Watched, view: WorkerView, part: WorkerRound | None, speed: float | None) -> list[Text]:
    data = worker_data(part) if part else {}
    state = _state(view, data.get("state", "idle"))
    cost = watched.cost(view.name)
    age_s = watched.heartbeat_age_s(view.name)
    steps = f"{data['step']}/{data['steps']}" if data.get("steps") else units.MISSING
    cells = [
        one_line(view.name, COLUMNS[0].width),
        state,
        steps,
        _short(units.count(speed)),
        _short(units.percent(data.get("spike_rate"))),
        _short(units.energy(cost.energy_j)),
        _short(units.data(cost.bytes_up)),
        _short(units.data(cost.bytes_down)),
        units.MISSING if age_s is None else f"{min(age_s, 999):.0f} s",
    ]
    styles = [""] * len(cells)
    styles[1] = STATE_STYLES.get(state, "")
    styles[-1] = "yellow" if age_s is not None and age_s > _OLD_HEARTBEAT_S else ""
    return [_cell(text, column, style) for text, column, style in zip(cells, COLUMNS, styles, strict=True)]


def _state(view: WorkerView, state: str) -> str:
    if view.quarantined:
        return "quarantine"
    if view.drained:
        return "leaving" if view.present else "left"
    return state if view.present else "lost"


def _cell(text: str, column: Column, style: str) -> Text:
    cell = Text(text, style, no_wrap=True, overflow="ellipsis", end="")
    cell.truncate(column.width, overflow="ellipsis")
    if column.key not in ("worker", "state"):
        cell.align("right", column.width)
    return cell


def _short(text: str) -> str:
    """Without the space before the unit: columns are narrow."""
    return text.replace(" ", "")


def _line(text: str = "") -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
