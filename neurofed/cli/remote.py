"""Commands that talk to a running aggregator."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from neurofed.cli.options import address_argument, json_option, run_options, to_spec
from neurofed.cli.watch import follow
from neurofed.client import AggregatorClient
from neurofed.eventlog import to_json_line
from neurofed.runstate import fold, run_state_name
from neurofed.v1.monitor_pb2 import Snapshot


@click.command()
@address_argument
@run_options
@click.option("--run-id", default="", help="Name of the run; by default the date and time.")
@json_option
def submit(address: str, run_id: str, as_json: bool, **options: Any) -> None:
    """Submit a run; it starts when its workers have joined."""
    with AggregatorClient(address) as client:
        name = client.submit(to_spec(options), run_id)
    click.echo(json.dumps({"run_id": name}) if as_json else name)


@click.command()
@address_argument
@json_option
def runs(address: str, as_json: bool) -> None:
    """List the aggregator's runs, newest first."""
    with AggregatorClient(address) as client:
        entries = client.runs()
    table = [
        {
            "run_id": entry.run_id,
            "state": run_state_name(entry.state),
            "round": entry.round,
            "rounds": entry.rounds,
            "workload": entry.workload,
        }
        for entry in entries
    ]
    if as_json:
        click.echo(json.dumps(table))
    for row in table if not as_json else []:
        click.echo(f"{row['run_id']}  {row['state']:<9}  round {row['round']}/{row['rounds']}  {row['workload']}")


@click.command()
@click.argument("run_id")
@address_argument
def stop(run_id: str, address: str) -> None:
    """Stop RUN_ID; what it has trained is kept."""
    with AggregatorClient(address) as client:
        client.stop(run_id)


@click.command()
@click.argument("run_id", default="")
@address_argument
@json_option
def monitor(run_id: str, address: str, as_json: bool) -> None:
    """Watch RUN_ID (the newest by default) until it has finished; --json prints its events."""
    snapshot = Snapshot()
    with AggregatorClient(address) as client:
        if as_json:
            for event in client.watch(run_id):
                fold(snapshot, event)
                click.echo(to_json_line(event))
        else:
            snapshot = follow(client, run_id, stop_on_interrupt=False)
    if snapshot.reason:
        click.echo(f"neurofed: {snapshot.reason}", err=True)
    sys.exit(snapshot.exit_code)
