"""`neurofed workers`: who has joined an aggregator."""

from __future__ import annotations

import json

import click

from neurofed import units
from neurofed.cli.options import address_argument, json_option, security_options
from neurofed.client import AggregatorClient
from neurofed.security.options import Security
from neurofed.v1.monitor_pb2 import WorkerState


@click.command()
@address_argument
@security_options
@json_option
def workers(address: str, security: Security, as_json: bool) -> None:
    """List the workers that have joined the aggregator."""
    with AggregatorClient(address, security) as client:
        entries = client.workers()
    table = [
        {
            "name": entry.name,
            "state": WorkerState.Name(entry.state).removeprefix("WORKER_STATE_").lower(),
            "chip": entry.chip,
            "version": entry.version,
            "heartbeat_age_s": entry.heartbeat_age_s,
            "cpu_s": entry.cpu_s,
            "rss_bytes": entry.rss_bytes,
            "temperature_c": entry.temperature_c if entry.HasField("temperature_c") else None,
            "rested_s": entry.rested_s,
        }
        for entry in entries
    ]
    if as_json:
        click.echo(json.dumps(table))
        return
    for entry, row in zip(entries, table, strict=True):
        age, memory = units.duration(entry.heartbeat_age_s), units.data(entry.rss_bytes)
        click.echo(f"{entry.name:<20} {row['state']:<10} {age:>9} ago {memory:>9}  {entry.chip}")
