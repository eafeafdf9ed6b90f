"""The full-screen monitor in front of an aggregator's real services, driven by keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from support import need
from support_monitor import PATIENCE_S, Stage, a_round, a_spec, wait_until

from neurofed.cli.feed import Feed
from neurofed.client import AggregatorClient
from neurofed.errors import AccessError, LinkError
from neurofed.runstate import run_state_name
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

need("textual", "tui")

from textual.pilot import Pilot  # noqa: E402 (after the test was skipped where it is absent)
from textual.widgets import DataTable, Static  # noqa: E402

from neurofed.cli.tui.app import MonitorApp  # noqa: E402
from neurofed.cli.tui.watched import Watched  # noqa: E402
from neurofed.cli.tui.watcher import Watcher  # noqa: E402

WORKERS = ["board-1", "board-2", "[bold]"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An aggregator with a run in its second round."""
    with Stage(tmp_path) as stage:
        stage.submit("the-run", a_spec(workers=3))
        stage.play(
            "the-run",
            *(m.WorkerJoined(name=name, chip="core20_28nm", cores=20) for name in WORKERS),
            m.RunStarted(first_round=1, workers=WORKERS),
            m.ModelEvaluated(round=0, metrics={"accuracy": 0.1, "loss": 2.5}),
            *a_round(1, WORKERS, accuracy=0.625),
            *a_round(2, WORKERS)[:7],
        )
        yield stage


class Session:
    """A monitor of the stage's run, as `watch_full_screen` puts it together."""

    def __init__(self, stage: Stage, control: Any = None, give_up_after_s: float | None = None) -> None:
        self.watched = Watched()
        self._client = AggregatorClient(stage.address)
        feed = Feed(
            self._client.watch,
            on_lost=self.watched.say_lost,
            on_rewritten=self.watched.restart,
            give_up_after_s=give_up_after_s,
        )
        self._watcher = Watcher(self.watched, feed, self._client.workers)
        self.app = MonitorApp(self.watched, control or self._client, self._watcher.read_on)

    def drive(self, script: Callable[[Pilot[None]], Awaitable[None]]) -> None:
        """Run the program on a screen of 80 by 24 and a script against it."""

        async def session() -> None:
            async with self.app.run_test(size=(80, 24), notifications=True) as pilot:
                await script(pilot)

        self._watcher.start()
        try:
            asyncio.run(session())
        finally:
            self._watcher.close()
            self._client.close()
            self._watcher.join(PATIENCE_S)

    def screen(self) -> list[str]:
        """The lines on the screen."""
        lines = self.app.screen._compositor.render_strips()
        return [strip.text.rstrip() for strip in lines]

    async def shows(self, *words: str) -> None:
        """Wait until all words are on the screen."""
        for _ in range(int(PATIENCE_S / 0.05)):
            if all(any(word in line for line in self.screen()) for word in words):
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"waited in vain for {words} in:\n" + "\n".join(self.screen()))


def state_of(stage: Stage) -> str:
    return run_state_name(stage.runs.get("the-run").log.state)


async def becomes(stage: Stage, state: str) -> None:
    for _ in range(int(PATIENCE_S / 0.05)):
        if state_of(stage) == state:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"expected {state}, got {state_of(stage)}")


def test_a_screen_of_80_by_24_holds_all_that_matters(stage: Stage) -> None:
    session = Session(stage)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("1/4", "round 2: train sent to [bold]", "p Pause/resume")
        lines = session.screen()
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert lines[0].startswith("the-run  video-classification tiny  running")
        assert "energy 6 J modelled  up 3.00 kB  down 12.0 kB measured" in lines[1]
        assert lines[2].startswith("round 2/3")
        assert lines[3].startswith("accuracy     62.5 %")
        assert lines[4].startswith("loss          1.000")
        assert lines[8].startswith("[bold]"), "a name is never markup"
        assert lines[9].split() == ["board-1", "training", "1/4", "2.50", "–", "2J", "1.00kB", "4.00kB", "–"]
        assert "p Pause/resume" in lines[-1]

    session.drive(script)


def test_keys_pause_resume_and_stop_the_run(stage: Stage) -> None:
    session = Session(stage)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("the-run")
        await pilot.press("p")
        await becomes(stage, "paused")  # at once: nobody trains it
        await session.shows("pause asked for", "tiny  paused")
        await pilot.press("p")
        await becomes(stage, "waiting")
        await pilot.press("s")
        await session.shows("Stop the-run?")
        await pilot.press("n")
        await session.shows("board-1  ")
        assert state_of(stage) == "waiting", "the answer was no"
        await pilot.press("s")
        await session.shows("Stop the-run?")
        await pilot.press("y")
        await becomes(stage, "stopped")
        await session.shows("stopped")
        await pilot.press("s")
        await session.shows("the run has ended already")

    session.drive(script)


def test_a_run_resumed_after_its_end_is_watched_on(stage: Stage) -> None:
    stage.play("the-run", m.RunFinished(state=c.RUN_STATE_FAILED, reason="no workers", exit_code=31))
    session = Session(stage)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("failed: no workers")
        await pilot.press("p")
        await session.shows("waiting")
        stage.play("the-run", m.RunStarted(first_round=2, workers=WORKERS))
        await session.shows("running")

    session.drive(script)


def test_an_aggregator_that_goes_and_comes_back_is_followed_without_a_gap(stage: Stage) -> None:
    session = Session(stage)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("running")
        await asyncio.to_thread(stage.down)
        await session.shows("lost, retrying")
        await asyncio.to_thread(stage.up)
        stage.play("the-run", m.RunStarted(first_round=2, workers=WORKERS), *a_round(2, WORKERS, accuracy=0.875))
        await session.shows("87.5 %", "round 2 is safe on disk")
        assert not any("lost, retrying" in line for line in session.screen())
        assert session.watched.snapshot == stage.runs.get("the-run").log.snapshot()

    session.drive(script)


def test_what_ends_the_watching_ends_the_program(stage: Stage) -> None:
    session = Session(stage, give_up_after_s=0.1)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("running")
        await asyncio.to_thread(stage.down)
        await asyncio.to_thread(wait_until, lambda: not session.app.is_running, "the end")

    session.drive(script)
    stage.up()
    assert isinstance(session.watched.error, LinkError)


def test_what_may_not_be_done_is_said_and_nothing_ends(stage: Stage) -> None:
    class Viewer:
        def pause(self, run_id: str) -> None:
            raise AccessError("expected the role operator, got [bold]viewer[/bold]")

        resume = stop = drain = pause

    session = Session(stage, Viewer())

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("the-run")
        await pilot.press("p")
        await session.shows("[bold]viewer[/bold]")
        await pilot.press("d")
        await session.shows("It finishes its task and leaves")
        await pilot.press("y")
        await session.shows("board-2")

    session.drive(script)


def test_the_selected_worker_is_drained_after_a_question(stage: Stage) -> None:
    drained: list[str] = []

    class Operator:
        def drain(self, name: str) -> None:
            drained.append(name)

    session = Session(stage, Operator())

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("board-2")
        await pilot.press("down")
        await pilot.press("d")
        await session.shows("Drain board-1?")
        await pilot.press("n")
        await session.shows("board-2")
        await pilot.press("up", "d")
        await session.shows("Drain [bold]?")
        await pilot.press("y")
        await session.shows("[bold] was asked to leave")

    session.drive(script)
    assert drained == ["[bold]"]


def test_help_names_the_keys_and_the_origin_of_figures(stage: Stage) -> None:
    session = Session(stage)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("the-run")
        await pilot.press("question_mark")
        await session.shows("pause the run", "no chip was measured")
        await pilot.press("x")
        await session.shows("board-1")
        await pilot.press("q")

    session.drive(script)
    assert not session.app.is_running


def test_a_new_worker_takes_its_place_and_the_selection_stays(stage: Stage) -> None:
    session = Session(stage)

    async def script(pilot: Pilot[None]) -> None:
        await session.shows("board-2")
        table: DataTable[Text] = session.app.query_one(DataTable)
        await pilot.press("down")
        before = table.cursor_row
        stage.play("the-run", m.WorkerJoined(name="aaa", chip="core20_28nm", cores=20))
        await session.shows("aaa")
        assert table.cursor_row == before + 1
        assert "aaa joined" in str(session.app.query_one("#events", Static).render())

    session.drive(script)
