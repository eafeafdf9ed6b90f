"""Follow a run in the terminal: events in, table out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from neurofed.client import AggregatorClient
from neurofed.errors import UnreachableError
from neurofed.runstate import fold
from neurofed.v1.monitor_pb2 import Snapshot


def follow(client: AggregatorClient, run_id: str, *, quiet: bool = False, stop_on_interrupt: bool = True) -> Snapshot:
    """Show a run until it has finished.

    Args:
        client: the aggregator.
        run_id: the run; empty means the newest.
        quiet: print nothing.
        stop_on_interrupt: Ctrl-C stops the run, and only a second one this process.

    Returns:
        The run as it ended.

    Raises:
        UnreachableError: if the aggregator goes away before the run has finished.
    """
    snapshot = Snapshot()
    with _interrupts(client, run_id, stop_on_interrupt):
        if quiet:
            for event in client.watch(run_id):
                fold(snapshot, event)
        else:
            _show(client, run_id, snapshot)
    return snapshot


def _show(client: AggregatorClient, run_id: str, snapshot: Snapshot) -> None:
    from rich.console import Console

    from neurofed.cli.view import LiveView, final_table

    console = Console()
    with LiveView(console) as view:
        try:
            for event in client.watch(run_id):
                fold(snapshot, event)
                view.update(snapshot)
        except UnreachableError as error:
            raise UnreachableError(f"{error}: bring it back with --resume {snapshot.run_id}") from None
    console.print(final_table(snapshot))


@contextmanager
def _interrupts(client: AggregatorClient, run_id: str, active: bool) -> Iterator[None]:
    if not active:
        yield
        return
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
