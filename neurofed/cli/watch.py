"""Follow a run in the terminal: events in, table out."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from neurofed.cli.feed import Feed
from neurofed.client import AggregatorClient
from neurofed.errors import UnreachableError
from neurofed.folding import fold
from neurofed.v1.monitor_pb2 import Event, Snapshot


def follow(client: AggregatorClient, run_id: str, *, quiet: bool = False) -> Snapshot:
    """Show a run of our own until it has finished. Ctrl-C stops the run, and only a second one this process.

    Args:
        client: the aggregator.
        run_id: the run; empty means the newest.
        quiet: print nothing.

    Returns:
        The run as it ended.

    Raises:
        UnreachableError: if the aggregator goes away before the run has finished.
    """
    snapshot = Snapshot()
    with _interrupts(client, run_id):
        if quiet:
            for event in client.watch(run_id):
                fold(snapshot, event)
            return snapshot
        try:
            return show(client.watch(run_id), snapshot)
        except UnreachableError as error:
            raise UnreachableError(f"{error}: bring it back with --resume {snapshot.run_id}") from None


def look_on(client: AggregatorClient, run_id: str, give_up_after_s: float | None) -> Snapshot:
    """Show somebody else's run until it has finished, also over a restart of the aggregator.

    Args:
        client: the aggregator.
        run_id: the run; empty means the newest.
        give_up_after_s: how long to try to reach an aggregator that has gone; None means for ever.

    Returns:
        The run as it ended.

    Raises:
        UnreachableError: if nobody answers from the start, or for too long.
    """
    snapshot = Snapshot()
    feed = Feed(client.watch, run_id, on_lost=say_lost, on_rewritten=snapshot.Clear, give_up_after_s=give_up_after_s)
    return show(feed, snapshot)


def show(events: Iterable[Event], snapshot: Snapshot) -> Snapshot:
    """Fold events into a snapshot and show it as it grows: a live table on a terminal, plain lines elsewhere."""
    from rich.console import Console

    from neurofed.cli.view import LiveView, final_table

    console = Console()
    with LiveView(console) as view:
        for event in events:
            fold(snapshot, event)
            view.update(snapshot)
    console.print(final_table(snapshot))
    return snapshot


def say_lost(why: str) -> None:
    """Tell on standard error that the aggregator is gone, or answers again where `why` is empty."""
    click.echo(f"neurofed: lost, retrying: {why}" if why else "neurofed: the aggregator answers again", err=True)


@contextmanager
def _interrupts(client: AggregatorClient, run_id: str) -> Iterator[None]:
    presses = 0

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            raise KeyboardInterrupt
        client.stop(run_id)

    previous = signal.signal(signal.SIGINT, on_interrupt)
    terminate = signal.signal(signal.SIGTERM, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        signal.signal(signal.SIGTERM, terminate)
