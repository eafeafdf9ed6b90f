"""Commands that need no aggregator."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from neurofed.cli.options import json_option, out_option
from neurofed.cli.runfolder import events_of
from neurofed.errors import UnknownChipError


@click.command()
@click.argument("run_id", metavar="RUN")
@out_option
@click.option(
    "--html",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[FILE]",
    help="Write the page there; by default report.html in the run's folder.",
)
@json_option
def report(run_id: str, out: Path, html: str | None, as_json: bool) -> None:
    """Write the report of RUN again from its event log: report.json for programs, report.html for people."""
    from neurofed.eventlog import fold_log
    from neurofed.files import write_atomically
    from neurofed.report import render_html, report_data, write_report

    events = events_of(out, run_id)
    snapshot = fold_log(events)
    path = write_report(events.parent, snapshot)
    if html:
        write_atomically(Path(html), render_html(report_data(snapshot)).encode(errors="replace"))
    click.echo(path.with_suffix(".json").read_text() if as_json else html or path)


@click.command()
@json_option
def workloads(as_json: bool) -> None:
    """List the installed workloads, their presets and settings."""
    from workloads import registry

    table: dict[str, dict[str, Any]] = {}
    for name in registry.available():
        workload = registry.load(name)
        presets = {preset: dataclasses.asdict(settings) for preset, settings in workload.presets.items()}
        table[name] = {"summary": workload.summary, "presets": presets}
    if as_json:
        click.echo(json.dumps(table))
        return
    for name, entry in table.items():
        click.echo(f"{name}: {entry['summary']}")
        for preset, settings in entry["presets"].items():
            click.echo(f"  {preset}: " + " ".join(f"{key}={value}" for key, value in settings.items()))


@click.group()
def chips() -> None:
    """Chips that can be emulated."""


@chips.command("list")
@json_option
def list_chips(as_json: bool) -> None:
    """List the shipped chips."""
    from neuro_engine.chip import Chip, available

    table = {name: Chip.load(name).description for name in available()}
    click.echo(json.dumps(table) if as_json else "\n".join(f"{name}: {text}" for name, text in table.items()))


@chips.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show every value of a chip and where it comes from. NAME is a shipped chip or a TOML file."""
    from neuro_engine.chip import Chip, ChipError

    try:
        chip = Chip.load(name)
    except ChipError as error:
        raise UnknownChipError(str(error)) from None
    if as_json:
        click.echo(json.dumps({key: {"value": v, "source": chip.sources[key]} for key, v in chip.values.items()}))
        return
    click.echo(f"{chip.name}: {chip.description}")
    for key, value in chip.values.items():
        shown = value if isinstance(value, str) else f"{value:g}"
        click.echo(f"  {key} = {shown}   ({chip.sources[key]})")


@chips.command()
@click.argument("file", type=click.Path(path_type=Path))
def validate(file: Path) -> None:
    """Check a chip's TOML file."""
    from neuro_engine.chip import Chip, ChipError

    try:
        chip = Chip.load(str(file))
    except ChipError as error:
        raise UnknownChipError(str(error)) from None
    click.echo(f"{file}: {chip.name} is valid")
