"""`neurofed compare`: runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurofed.cli.options import json_option, out_option
from neurofed.cli.runfolder import events_of

if TYPE_CHECKING:
    from rich.console import RenderableType

    from neurofed.report.data import Data


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@out_option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts there.")
@json_option
def compare(runs: tuple[str, ...], out: Path, html: Path | None, as_json: bool) -> None:
    """Compare runs: what was asked for, how well they learned, and what that cost.

    RUN is a run's name in the folder of the runs, or the path of its own folder.
    """
    if len(runs) < 2:
        raise click.UsageError(f"expected two runs or more, got {len(runs)}")
    from neurofed.eventlog import fold_log
    from neurofed.files import write_atomically
    from neurofed.report import report_data
    from neurofed.report.comparison import comparison

    data = comparison([report_data(fold_log(events_of(out, run))) for run in runs])
    if html is not None:
        from neurofed.report.comparison_html import render_comparison

        write_atomically(html, render_comparison(data).encode(errors="replace"))
    if as_json:
        click.echo(json.dumps(data, allow_nan=False))
        return
    from rich.console import Console

    Console(highlight=False).print(side_by_side(data))
    if html is not None:
        click.echo(html)


def side_by_side(data: Data) -> RenderableType:
    """A table with a column for each run; what was asked for differently stands out.

    Args:
        data: what `comparison` returns.

    Returns:
        Something for `rich` to print.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from neurofed.report.comparison_html import FIGURES, shown_value, target_name, target_row
    from neurofed.report.tables import quality
    from neurofed.runstate import one_line

    runs = data["runs"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("")
    table.add_column("", style="dim italic")
    for run in runs:
        table.add_column(Text(one_line(run["name"])), justify="right", overflow="fold")

    def row(name: str, kind: str, cells: list[str], style: str = "") -> None:
        table.add_row(Text(one_line(name), style), Text(kind), *(Text(one_line(cell), style) for cell in cells))

    for name, values in data["different"].items():
        row(name, "differs", [shown_value(value) for value in values], "bold yellow")
    row("state", "", [run["state"] for run in runs])
    row("rounds", "", [str(run["rounds"]) for run in runs])
    row(f"{data['headline']} by round", "measured", [_trend(run) for run in runs], "cyan")
    if data["headline"] not in ("accuracy", "loss"):
        row(data["headline"], "measured", [quality(data["headline"])(run["value"]) for run in runs])
    for key, (words, show) in FIGURES.items():
        figures = [run["final"][key] for run in runs]
        if any(figure is not None for figure in figures):
            row(words, data["provenance"][key], [show(figure) for figure in figures])
    if data["target"]:
        row(f"all reached {target_name(data)}", "", ["" for _ in runs], "bold")
    for words, kind, cells in target_row(data):
        row(f"  {words}", kind, cells)
    return table


def _trend(run: Data) -> str:
    from neurofed.cli.view import sparkline
    from neurofed.report.charts import drawable

    return sparkline([value for _, value in drawable((p["round"], p["value"]) for p in run["curve"])], 16)
