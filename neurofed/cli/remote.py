"""Commands that talk to a running aggregator."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from neurofed.cli.options import address_argument, json_option, run_options, security_options, to_spec
from neurofed.cli.runfile import load_run_file, merge_settings
from neurofed.cli.watch import follow
from neurofed.client import AggregatorClient
from neurofed.eventlog import to_json_line
from neurofed.runstate import fold, one_line, run_state_name
from neurofed.security.options import Security
from neurofed.v1.monitor_pb2 import Snapshot


@click.command()
@click.argument(
    "run_file",
    metavar="[RUN.TOML]",
    required=False,
    type=click.Path(path_type=Path),
    callback=load_run_file,
    is_eager=True,
)
@address_argument
@security_options
@run_options
@click.option("--run-id", default="", help="Name of the run; by default the date and time.")
@json_option
def submit(
    run_file: dict[str, str], address: str, security: Security, run_id: str, as_json: bool, **options: Any
) -> None:
    """Submit a run; it starts when the runs before it are done and its workers have joined.

    RUN.TOML holds options of the run (rounds = 20) and a table [settings] for --set; environment and flags win over it.
    """
    options["settings"] = merge_settings(run_file, options["settings"])
    with AggregatorClient(address, security) as client:
        name = client.submit(to_spec(options), run_id)
    click.echo(json.dumps({"run_id": name}) if as_json else name)


@click.command()
@address_argument
@security_options
@json_option
def runs(address: str, security: Security, as_json: bool) -> None:
    """List the aggregator's runs, newest first."""
    with AggregatorClient(address, security) as client:
        entries = client.runs()
    table = [
        {
            "run_id": entry.run_id,
            "state": run_state_name(entry.state),
            "round": entry.round,
            "rounds": entry.rounds,
            "workload": entry.workload,
            "reason": entry.reason,
        }
        for entry in entries
    ]
    if as_json:
        click.echo(json.dumps(table))
    for row in table if not as_json else []:
        line = f"{row['run_id']}  {row['state']:<9}  round {row['round']}/{row['rounds']}  {row['workload']}"
        click.echo(f"{line}  {one_line(str(row['reason']))}".rstrip())


@click.command()
@click.argument("run_id")
@address_argument
@security_options
def stop(run_id: str, address: str, security: Security) -> None:
    """Stop RUN_ID; what it has trained is kept."""
    with AggregatorClient(address, security) as client:
        client.stop(run_id)


@click.command()
@click.argument("run_id")
@address_argument
@security_options
def pause(run_id: str, address: str, security: Security) -> None:
    """Let RUN_ID rest once its current round is safe; the next run in the queue goes on meanwhile."""
    with AggregatorClient(address, security) as client:
        client.pause(run_id)


@click.command()
@click.argument("run_id")
@address_argument
@security_options
def resume(run_id: str, address: str, security: Security) -> None:
    """Let RUN_ID, paused, stopped or failed, go on after its last safe round."""
    with AggregatorClient(address, security) as client:
        client.resume(run_id)


@click.command()
@click.argument("run_id", default="")
@address_argument
@security_options
@json_option
def monitor(run_id: str, address: str, security: Security, as_json: bool) -> None:
    """Watch RUN_ID (the newest by default) until it has finished; --json prints its events."""
    snapshot = Snapshot()
    with AggregatorClient(address, security) as client:
        if as_json:
            for event in client.watch(run_id):
                fold(snapshot, event)
                click.echo(to_json_line(event))
        else:
            snapshot = follow(client, run_id, stop_on_interrupt=False)
    if snapshot.reason:
        click.echo(f"neurofed: {snapshot.reason}", err=True)
    sys.exit(snapshot.exit_code)
