"""Commands that talk to a running aggregator."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from neurofed.cli.feed import Feed
from neurofed.cli.options import address_argument, json_option, run_options, security_options, to_spec
from neurofed.cli.runfile import load_run_file, merge_settings
from neurofed.cli.watch import look_on, say_lost
from neurofed.client import AggregatorClient
from neurofed.eventlog import to_json_line
from neurofed.folding import fold
from neurofed.runstate import one_line, run_state_name
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

    RUN.TOML holds options of the run (rounds = 20) and, for --set, tables: [settings] are the workload's, others are
    [strategy-settings] and so on. Environment and flags win over it.
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
@click.argument("target", nargs=-1, metavar="[HOST:PORT] [RUN]")
@address_argument
@security_options
@click.option("--give-up-after-s", type=float, default=None, help="Stop trying to reach an aggregator that has gone.")
@click.option("--plain", is_flag=True, help="Lines instead of the full screen.")
@json_option
def monitor(
    target: tuple[str, ...],
    address: str,
    security: Security,
    give_up_after_s: float | None,
    plain: bool,
    as_json: bool,
) -> None:
    """Watch RUN (the newest by default) until it has finished.

    On a terminal this is a full screen with keys to pause and stop, where the extra `tui` is installed; elsewhere, and
    with --plain, it is lines. --json prints the run's events, one JSON object a line. An aggregator that goes away
    while it is watched is tried again until it answers.
    """
    address, run_id = _split_target(target, address)
    with AggregatorClient(address, security) as client:
        if as_json:
            snapshot = _print_events(client, run_id, give_up_after_s)
        elif not plain and _full_screen_possible():
            from neurofed.cli.tui.session import watch_full_screen

            snapshot = watch_full_screen(client, run_id, give_up_after_s)
        else:
            snapshot = look_on(client, run_id, give_up_after_s)
    if snapshot.reason:
        click.echo(f"neurofed: {one_line(snapshot.reason)}", err=True)
    sys.exit(snapshot.exit_code)


def _split_target(target: tuple[str, ...], address: str) -> tuple[str, str]:
    """Address and run of `[HOST:PORT] [RUN]`: no run's name has a colon in it."""
    words = list(target)
    if words and ":" in words[0]:
        address = words.pop(0)
    if len(words) > 1:
        raise click.UsageError(f"expected [HOST:PORT] [RUN], got {' '.join(target)}")
    return address, words[0] if words else ""


def _print_events(client: AggregatorClient, run_id: str, give_up_after_s: float | None) -> Snapshot:
    snapshot = Snapshot()

    def on_rewritten() -> None:
        click.echo("neurofed: the run's history has changed; its events follow from the first", err=True)
        snapshot.Clear()

    feed = Feed(client.watch, run_id, on_lost=say_lost, on_rewritten=on_rewritten, give_up_after_s=give_up_after_s)
    try:
        for event in feed:
            fold(snapshot, event)
            click.echo(to_json_line(event))
    except BrokenPipeError:  # whoever read them has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Snapshot()
    return snapshot


def _full_screen_possible() -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM", "dumb") == "dumb":
        return False
    if importlib.util.find_spec("textual") is None:
        click.echo("neurofed: for the full-screen monitor: pip install 'neurofed[tui]'", err=True)
        return False
    return True
