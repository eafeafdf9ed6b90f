"""A run in the terminal: the live table while it goes on, and the table of its rounds at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from neurofed import metrics, units
from neurofed.report.data import headline, report_data, round_data, worker_data
from neurofed.report.tables import quality
from neurofed.runstate import is_finished, one_line, run_state_name
from neurofed.v1.monitor_pb2 import RoundView, Snapshot, WorkerRound, WorkerView

_MAX_WORKERS: Final = 10
_MAX_NOTES: Final = 4
_BLOCKS: Final = "▁▂▃▄▅▆▇█"
STATE_STYLES: Final = {
    "done": "green",
    "training": "cyan",
    "receiving": "cyan",
    "idle": "dim",
    "waiting": "dim",
    "lost": "yellow",
    "rejected": "yellow",
    "failed": "red",
    "running": "cyan",
    "completed": "green",
    "stopped": "yellow",
    "pausing": "yellow",
    "paused": "yellow",
    "quarantine": "red",
}
"""How the states of runs and workers are coloured in terminals."""


class LiveView:
    """Shows a run while it goes on: a live table on a terminal, plain lines elsewhere.

    Used as a context manager; `update` is called with each new snapshot.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        animated = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, refresh_per_second=4) if animated else None
        self._notes: list[str] = []
        self._round = 0

    def __enter__(self) -> LiveView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Show the run as it stands now."""
        if self._live:
            self._live.update(render(snapshot))
        else:
            self._print_news(snapshot)

    def _print_news(self, snapshot: Snapshot) -> None:
        notes = list(snapshot.notes)
        for note in _appended(self._notes, notes):
            self._print(note)
        self._notes = notes
        finished = [view for view in snapshot.rounds if is_finished(view)]
        # Fewer than were printed: a round is being done again, and gets a second line.
        self._round = min(self._round, finished[-1].round if finished else 0)
        for view in finished:
            if view.round > self._round:
                self._print(round_line(snapshot, view))
                self._round = view.round

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def render(snapshot: Snapshot) -> RenderableType:
    """The live table: what runs, how well it does, what each worker does. Fits 80 by 24 with five workers.

    Args:
        snapshot: the run as it stands.

    Returns:
        Something for `rich` to print.
    """
    parts: list[RenderableType] = [_title(snapshot), _settings(snapshot), _progress(snapshot)]
    parts += [_curve(snapshot, name) for name in (headline(snapshot), metrics.LOSS)]
    if snapshot.rounds:
        parts.append(_round_table(snapshot.rounds[-1]))
    elif snapshot.workers:
        parts.append(_fleet_table(snapshot.workers))
    if snapshot.reason:
        parts.append(_clipped(one_line(snapshot.reason), "red"))
    parts += [_clipped(f"· {note}", "dim") for note in snapshot.notes[-_MAX_NOTES:]]
    return Group(*parts)


def final_table(snapshot: Snapshot) -> RenderableType:
    """One row for each round and the totals, with where each figure comes from.

    Args:
        snapshot: the run at its end.

    Returns:
        Something for `rich` to print.
    """
    report = report_data(snapshot)
    name, final = report["headline"], report["final"]
    show = quality(name)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_footer=True, footer_style="bold")
    columns = [
        ("round", "all"),
        (one_line(name, 12), show(final["metrics"].get(name))),
        ("loss", units.number(final["loss"])),
        ("bytes\nup", units.data(final["bytes_up"])),
        ("bytes\ndown", units.data(final["bytes_down"])),
        ("energy\nmodelled", units.energy(final["energy_j"])),
        ("DRAM\nmodelled", units.data(final["dram_bytes"])),
        ("cycles\nmodelled", units.count(final["cycles"])),
        ("wall\ntime", units.duration(final["wall_s"])),
    ]
    for head, foot in columns:
        table.add_column(Text(head), Text(foot), justify="right", vertical="bottom", no_wrap=True)
    for row in report["rounds"]:
        table.add_row(
            str(row["round"]),
            show(row["metrics"].get(name)),
            units.number(row["loss"]),
            units.data(row["bytes_up"]),
            units.data(row["bytes_down"]),
            units.energy(row["energy_j"]),
            units.data(row["dram_bytes"]),
            units.count(row["cycles"]),
            units.duration(row["wall_s"]),
        )
    return table


def round_line(snapshot: Snapshot, view: RoundView) -> str:
    """A finished round in one line, for logs and pipes."""
    row, name = round_data(view), headline(snapshot)
    return (
        f"round {view.round}/{snapshot.spec.rounds}: {one_line(name, 20)} {quality(name)(row['metrics'].get(name))},"
        f" loss {units.number(row['loss'])}, up {units.data(row['bytes_up'])}, down {units.data(row['bytes_down'])},"
        f" energy {units.energy(row['energy_j'])} (modelled), {units.duration(row['wall_s'])}"
    )


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """The last values as a line of block characters, from the least to the greatest of them."""
    shown = values[-width:]
    low, span = min(shown, default=0.0), max(shown, default=0.0) - min(shown, default=0.0)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / span * top) if span else top // 2] for value in shown)


def _title(snapshot: Snapshot) -> Text:
    spec, state = snapshot.spec, run_state_name(snapshot.state)
    text = _clipped("", "")
    text.append(f"{one_line(spec.workload, 30)} {one_line(spec.preset, 16)}", "bold")
    text.append(f"  {state}", STATE_STYLES.get(state, ""))
    return text.append(f"  {one_line(snapshot.run_id)}", "dim")


def _settings(snapshot: Snapshot) -> Text:
    spec = snapshot.spec
    named = [("chip", spec.chip), ("strategy", spec.strategy), ("codec", spec.codec), ("seed", str(spec.seed))]
    return _clipped("  ".join(f"{name} {one_line(value, 24)}" for name, value in named if value), "dim")


def _progress(snapshot: Snapshot) -> RenderableType:
    finished = sum(is_finished(view) for view in snapshot.rounds)
    current = snapshot.rounds[-1].round if snapshot.rounds else 0
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_row(
        f"round {current} of {snapshot.spec.rounds}",
        ProgressBar(total=max(1, snapshot.spec.rounds), completed=finished, width=40),
    )
    return grid


def _curve(snapshot: Snapshot, name: str) -> Text:
    seen = (snapshot.initial_metrics, *(view.metrics for view in snapshot.rounds))
    values = [found[name] for found in seen if name in found and math.isfinite(found[name])]
    text = _clipped(f"{one_line(name, 12):12} ", "")
    text.append(f"{quality(name)(values[-1] if values else None):>8}  ", "bold")
    return text.append(sparkline(values), "cyan")


def _round_table(view: RoundView) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("worker", no_wrap=True, max_width=16, vertical="bottom")
    table.add_column("state", no_wrap=True, vertical="bottom")
    for head in ("step", "loss", "firing\nrate", "bytes\nup", "bytes\ndown", "energy\nmodelled"):
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    for part in view.workers[:_MAX_WORKERS]:
        table.add_row(*_worker_row(part))
    return _with_more(table, len(view.workers))


def _worker_row(part: WorkerRound) -> list[Text | str]:
    data = worker_data(part)
    return [
        Text(one_line(data["name"], 16)),
        Text(data["state"], STATE_STYLES.get(data["state"], "")),
        f"{data['step']}/{data['steps']}" if data["steps"] else units.MISSING,
        units.number(data["loss"]),
        units.percent(data["spike_rate"]),
        units.data(data["bytes_up"]),
        units.data(data["bytes_down"]),
        units.energy(data["energy_j"]),
    ]


def _fleet_table(workers: Sequence[WorkerView]) -> RenderableType:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for head in ("worker", "state", "chip"):
        table.add_column(head, no_wrap=True)
    for worker in workers[:_MAX_WORKERS]:
        state = "joined" if worker.present else "lost"
        table.add_row(Text(one_line(worker.name, 16)), Text(state), Text(one_line(worker.chip, 24)))
    return _with_more(table, len(workers))


def _with_more(table: Table, total: int) -> RenderableType:
    if total <= _MAX_WORKERS:
        return table
    return Group(table, Text(f"… and {total - _MAX_WORKERS} more", "dim"))


def _clipped(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def _appended(old: list[str], new: list[str]) -> list[str]:
    """What was appended to a list that may have lost items at its front."""
    start = next(k for k in range(len(old) + 1) if old[k:] == new[: len(old) - k])
    return new[len(old) - start :]
