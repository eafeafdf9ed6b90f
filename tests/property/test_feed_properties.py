"""However a viewer is cut off and comes back, it sees each event once and ends with the run as it stands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from support_web import COMPLETED, Viewer, new_run

from neurofed.v1 import monitor_pb2 as m
from server.web import feed as feed_module
from server.web.feed import Feed, Place

ROUND = st.integers(1, 3)
EVENTS = st.one_of(
    st.builds(m.TaskProgress, worker=st.sampled_from("ab"), round=ROUND, step=st.integers(0, 9), steps=st.just(9)),
    st.builds(m.ResultReceived, worker=st.sampled_from("ab"), round=ROUND, bytes_up=st.integers(0, 99)),
    st.builds(m.ModelEvaluated, round=ROUND, metrics=st.just({"accuracy": 0.5}), wall_s=st.just(1.0)),
    st.builds(m.RoundStarted, round=ROUND, workers=st.just(["a", "b"])),
    st.builds(m.WorkerLost, name=st.sampled_from("ab")),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("emit"), st.lists(EVENTS, min_size=1, max_size=4)),
        st.tuples(st.just("emit and wait"), st.lists(EVENTS, min_size=1, max_size=4)),
        st.tuples(st.just("read"), st.integers(1, 3)),
        st.tuples(st.just("cut"), st.none()),
        st.tuples(st.just("new aggregator"), st.none()),
    ),
    max_size=16,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.sampled_from([2, 512]))
def test_each_event_once_and_the_state_at_the_end(steps: list[tuple[str, object]], ring: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.multiple(feed_module, PERIOD_S=0.001, RING=ring),
        contextlib.closing(new_run(Path(folder)).log) as log,
    ):
        log.close()
        asyncio.run(_follow(Path(folder), steps))


async def _follow(folder: Path, steps: list[tuple[str, object]]) -> None:
    run = feed_module.Run(folder / "r")
    feed, viewer = Feed(run, list), Viewer()
    frames = feed.frames(Place(0))
    for what, value in steps:
        match what, value:
            case "emit" | "emit and wait", list(events):
                for event in events:
                    run.log.emit(event)
                if what == "emit and wait":
                    await asyncio.sleep(0.006)  # the events are in a frame then
            case "read", int(count):
                try:
                    async with asyncio.timeout(0.01):
                        await viewer.read(frames, count)
                except TimeoutError:  # there was no more, and the viewer has left in the middle of its wait
                    frames = feed.frames(Place.parse(viewer.last) or Place(0))
            case "cut", _:
                await frames.aclose()
                frames = feed.frames(Place.parse(viewer.last) or Place(0))
            case _:
                await frames.aclose()
                feed.close()
                feed = Feed(run, list)
                frames = feed.frames(Place.parse(viewer.last) or Place(0))
    run.log.emit(COMPLETED)
    while not viewer.ended:  # the ring may have moved on: then it comes back
        await viewer.read(frames)
        frames = feed.frames(Place.parse(viewer.last) or Place(0))
    await frames.aclose()
    assert viewer.seen == list(range(1, run.log.seq + 1))
    assert viewer.rounds == json.loads(json.dumps(feed.whole()["rounds"]))
    assert viewer.whole["run"]["state"] == "completed"
    run.log.close()
    feed.close()
    await asyncio.sleep(0)
