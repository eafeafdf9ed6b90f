"""`neurofed run`: everything on this machine, over real gRPC."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Any

import click

from neurofed import spec
from neurofed.cli.options import check_names, json_option, out_option, run_options, split_chips, to_spec
from neurofed.cli.watch import follow
from neurofed.client import AggregatorClient
from neurofed.errors import RunNotFoundError, StorageError
from neurofed.eventlog import fold_log
from neurofed.launch import LocalFleet
from neurofed.v1 import monitor_pb2


@click.command()
@run_options
@out_option
@click.option("--run-id", default="", help="Name of the run; by default the date and time.")
@click.option("--resume", default=None, metavar="RUN", help="Go on with a run from its last checkpoint.")
@click.option("--listen", default="127.0.0.1:0", show_default=True, help="Address of the aggregator.")
@click.option(
    "--http", default="0", show_default=True, help="Port of the page, 0 takes a free one; or HOST:PORT, or off."
)
@json_option
def run(out: Path, run_id: str, resume: str | None, listen: str, http: str, as_json: bool, **options: Any) -> None:
    """Start an aggregator and workers on this machine, train, and write the report.

    Ctrl-C ends the run cleanly: what is trained so far is kept and reported, and --resume goes on with it.
    """
    chips = split_chips(options.pop("chip"))
    run_spec = to_spec({**options, "chip": chips[0] if len(chips) == 1 else ""})
    run_id = resume or spec.require_run_id(run_id or time.strftime("%Y%m%d-%H%M%S"))
    folder = out / run_id
    if resume:
        recorded = _recorded(folder)
        run_spec = recorded.spec
        chips = (run_spec.chip,) if run_spec.chip else _chips(recorded) or chips
    check_names(run_spec, chips)
    each = tuple(itertools.islice(itertools.cycle(chips), run_spec.workers))
    with (
        LocalFleet(listen, out, folder / "logs", each, resume, None if http == "off" else http) as fleet,
        AggregatorClient(fleet.address) as client,
    ):
        if fleet.url and not as_json:
            click.echo(f"page: {fleet.url}")
        if not resume:
            client.submit(run_spec, run_id)
        snapshot = follow(client, run_id, quiet=as_json)
    if snapshot.exit_code == StorageError.exit_code:
        pass  # the disk that ended the run did not take a report either
    elif as_json:
        click.echo((folder / "report.json").read_text())
    else:
        click.echo(f"report: {folder / 'report.html'}  ({folder / 'report.json'})")
    if snapshot.reason:
        click.echo(f"neurofed: {snapshot.reason}", err=True)
    sys.exit(snapshot.exit_code)


def _chips(snapshot: monitor_pb2.Snapshot) -> tuple[str, ...]:
    """The chips that the workers of a run emulated, by the workers' number."""
    return tuple(worker.chip for worker in sorted(snapshot.workers, key=lambda worker: (len(worker.name), worker.name)))


def _recorded(folder: Path) -> monitor_pb2.Snapshot:
    events = folder / "events.jsonl"
    if not events.exists():
        raise RunNotFoundError(f"expected a run in {folder}, found no {events.name}")
    return fold_log(events)
