"""A session of the full-screen monitor, from the first event to the last table."""

from __future__ import annotations

from neurofed.cli.feed import Feed
from neurofed.cli.tui.app import MonitorApp
from neurofed.cli.tui.watched import Watched
from neurofed.cli.tui.watcher import Watcher
from neurofed.client import AggregatorClient
from neurofed.runstate import is_over
from neurofed.v1.monitor_pb2 import Snapshot

_JOIN_S = 2.0


def watch_full_screen(client: AggregatorClient, run_id: str, give_up_after_s: float | None) -> Snapshot:
    """Show a run until the user quits.

    Args:
        client: the aggregator.
        run_id: the run; empty means the newest.
        give_up_after_s: how long to try to reach an aggregator that has gone; None means for ever.

    Returns:
        The run as it ended; an empty one where it goes on.

    Raises:
        NeuroFedError: what the aggregator has against being asked, before the screen is taken; or what ended the
            watching later.
    """
    watched = Watched()
    feed = Feed(
        client.watch,
        run_id,
        on_lost=watched.say_lost,
        on_rewritten=watched.restart,
        give_up_after_s=give_up_after_s,
    )
    events = iter(feed)
    for event in events:  # the first one: whatever is wrong with address, rights or name is told on a plain screen
        watched.take(event)
        break
    watcher = Watcher(watched, feed, client.workers, events)
    watcher.start()
    try:
        MonitorApp(watched, client, watcher.read_on).run()
    finally:
        watcher.close()
        client.close()
        watcher.join(_JOIN_S)
    return _outcome(watched)


def _outcome(watched: Watched) -> Snapshot:
    with watched.lock:
        if watched.error:
            raise watched.error
        return watched.snapshot if is_over(watched.snapshot.state) else Snapshot()
