"""Feeds and watchers: slow viewers, ends, restarts, bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_web import COMPLETED, Run, Viewer, messages, new_run

from neurofed.v1 import monitor_pb2 as m
from server import watch as watch_module
from server.watch import LogClosedError, watch
from server.web import feed as feed_module
from server.web.feed import Feed, Place


def progress(step: int) -> m.TaskProgress:
    return m.TaskProgress(worker="a", round=1, step=step, steps=100_000)


def within_a_minute(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = new_run(tmp_path)
    yield run
    run.log.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "PERIOD_S", 0.001)


def test_a_new_viewer_gets_the_whole_state_and_then_what_changes(run: Run) -> None:
    async def scenario() -> None:
        feed = Feed(run, lambda: [{"name": "a"}], run.log.read())
        frames, viewer = feed.frames(None), Viewer()
        await viewer.read(frames, 1)
        assert viewer.whole["boards"] == [{"name": "a"}]
        assert viewer.seen == [1, 2, 3]
        assert [part["name"] for part in viewer.rounds["1"]["workers"]] == ["a", "b"]
        run.log.emit(progress(7))
        await viewer.read(frames, 1)
        assert viewer.whole.get("whole") is None
        assert viewer.rounds["1"]["workers"][0]["step"] == 7
        run.log.emit(COMPLETED)
        await viewer.read(frames)
        assert viewer.ended
        assert viewer.seen == [1, 2, 3, 4, 5]

    within_a_minute(scenario())


def test_a_viewer_that_reads_nothing_is_left_behind_and_catches_up_when_it_comes_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RING", 3)

    async def scenario() -> None:
        feed, viewer = Feed(run, list), Viewer()
        frames = feed.frames(Place(0))
        await viewer.read(frames, 2)  # the events so far, and the state
        for step in range(6):
            run.log.emit(progress(step))
            await asyncio.sleep(0.01)
        with pytest.raises(StopAsyncIteration):  # dropped: its next frame is no longer there
            await anext(frames)
        run.log.emit(COMPLETED)
        await viewer.read(feed.frames(Place.parse(viewer.last)))
        assert viewer.seen == list(range(1, run.log.seq + 1))
        assert viewer.rounds == json.loads(json.dumps(feed.rounds))

    within_a_minute(scenario())


def test_what_is_kept_does_not_grow_with_the_events(run: Run) -> None:
    async def scenario() -> None:
        feed = Feed(run, list)
        frames = feed.frames(None)
        await anext(frames)  # and never again
        for step in range(3_000):
            run.log.emit(progress(step))
            if step % 100 == 0:
                await asyncio.sleep(0.002)
        run.log.emit(COMPLETED)
        while not feed.ended:
            await asyncio.sleep(0.01)
        assert len(feed._ring) <= feed_module.RING
        assert len(feed._recent) <= feed_module._RECENT
        assert not feed._pending
        assert len(json.dumps(feed.whole())) < 20_000

    within_a_minute(scenario())


def test_a_slow_watcher_goes_back_to_the_file_and_misses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_MAX_COMING", 4)

    async def scenario() -> None:
        seen: list[int] = []
        async for event in watch(run):
            seen.append(event.seq)
            if event.seq % 5 == 3 and event.seq < 40:
                for step in range(9):
                    run.log.emit(progress(step))
            elif event.seq == 40:
                run.log.emit(COMPLETED)
        assert seen == list(range(1, run.log.seq + 1))

    within_a_minute(scenario())


def test_a_watcher_is_told_when_the_run_goes_on_elsewhere(run: Run) -> None:
    async def scenario() -> None:
        seen: list[int] = []

        async def look() -> None:
            async for event in watch(run, after_seq=1):
                seen.append(event.seq)
                run.log.close()

        with pytest.raises(LogClosedError):
            await look()
        assert seen == [2, 3]

    within_a_minute(scenario())


def test_a_round_that_is_done_again_replaces_those_after_it(run: Run) -> None:
    async def scenario() -> None:
        viewer = Viewer()
        run.log.emit(m.RoundStarted(round=2, workers=["a"]))
        feed = Feed(run, list)
        frames = feed.frames(None)
        await viewer.read(frames, 1)
        assert sorted(viewer.rounds) == ["1", "2"]
        run.log.emit(m.RoundStarted(round=1, workers=["b"]))
        await viewer.read(frames, 1)
        assert sorted(viewer.rounds) == ["1"]
        assert [part["name"] for part in viewer.rounds["1"]["workers"]] == ["b"]
        feed.close()

    within_a_minute(scenario())


def test_a_round_that_begins_sends_no_other_again(run: Run) -> None:
    """Else a run would tell each viewer more and more."""

    async def scenario() -> None:
        for number in range(2, 30):
            run.log.emit(m.RoundStarted(round=number, workers=["a"]))
        feed, viewer = Feed(run, list), Viewer()
        frames = feed.frames(None)
        await viewer.read(frames, 1)
        run.log.emit(m.RoundStarted(round=30, workers=["a"]))
        await viewer.read(frames, 1)
        assert list(viewer.whole["rounds"]) == ["30"]
        assert len(viewer.rounds) == 30
        feed.close()

    within_a_minute(scenario())


def test_viewers_that_come_together_get_one_frame_made_once(run: Run) -> None:
    async def scenario() -> None:
        feed = Feed(run, list, run.log.read())
        first, second, third = [await anext(feed.frames(None)) for _ in range(3)]
        assert first is second or second is third  # a second may end between two of them
        run.log.emit(progress(7))
        viewer = Viewer()
        await asyncio.sleep(0.05)
        viewer.take(await anext(feed.frames(None)))
        assert viewer.rounds["1"]["workers"][0]["step"] == 7
        assert viewer.seen == [1, 2, 3]
        feed.close()

    within_a_minute(scenario())


@pytest.mark.parametrize("text", ["", "x", "-", "1-", "a-b", "²", "9" * 30])
def test_a_place_that_is_none(text: str) -> None:
    assert Place.parse(text) is None


def test_places() -> None:
    assert (Place.parse("12"), Place.parse("ab-12")) == (Place(12), Place(12, "ab"))


def test_frames_name_their_place_once_they_hold_the_whole_state(run: Run) -> None:
    async def scenario() -> None:
        run.log.emit(COMPLETED)
        found = [message async for frame in Feed(run, list).frames(Place(0)) for message in messages(frame)]
        assert [kind for _, kind, _ in found] == ["events", "news", "end"]
        assert found[0][0] == "4"  # no place of this process yet: who leaves here needs the whole state
        assert Place.parse(found[1][0]) is not None

    within_a_minute(scenario())
