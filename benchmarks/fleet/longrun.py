"""A run of very many events and all that looks at it, in this process: what they keep must not grow with the events."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

from neurofed.cli.tui.watched import Watched
from neurofed.v1 import monitor_pb2
from server.run import Run
from server.web.feed import Feed

_STEPS = 1 << 30


def memory_growth(folder: Path, events: int) -> int:
    """Memory that the second half of some events took, in bytes.

    Args:
        folder: for the event log.
        events: how many; they are kept by the log, the page's feed with a viewer that never reads, and the terminal.
    """
    first, last = asyncio.run(_peaks(folder, events))
    return last - first


async def _peaks(folder: Path, events: int) -> tuple[int, int]:
    run, watched = Run(folder), Watched()
    run.log.emit(monitor_pb2.RoundStarted(round=1, workers=["a"]))
    run.log.subscribe(watched.take)
    feed = Feed(run, list)
    unread = feed.frames(None)
    await anext(unread)
    peaks = []
    for _ in range(2):
        await asyncio.to_thread(_emit, run, events // 2)
        while feed.snapshot.seq < run.log.seq:
            await asyncio.sleep(0.05)
        peaks.append(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    feed.close()
    run.log.close()
    return peaks[0], peaks[1]


def _emit(run: Run, events: int) -> None:
    for step in range(events):
        run.log.emit(monitor_pb2.TaskProgress(worker="a", round=1, step=step, steps=_STEPS))
