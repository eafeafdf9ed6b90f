"""The queue, without workers: what is submitted, paused, resumed and stopped, and what the next aggregator finds."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neurofed import spec
from neurofed.errors import ConfigError, RunNotFoundError, RunStateError, StorageError
from neurofed.eventlog import fold_log, read_events
from neurofed.runstate import run_state_name
from neurofed.v1 import monitor_pb2 as m
from neurofed.v1.control_pb2 import RunSpec, RunState
from server.fleet import FleetService

with warnings.catch_warnings():  # flwr imports typer, which imports names that click has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from server.run import Run
    from server.runs import RunManager


@pytest.fixture
def aggregator(tmp_path: Path) -> Iterator[Callable[[], RunManager]]:
    """Makes queues over one folder; they train nothing until they are started."""
    made: list[RunManager] = []

    async def fleet() -> FleetService:
        return FleetService()

    def make() -> RunManager:
        made.append(RunManager(tmp_path, asyncio.run(fleet())))
        return made[-1]

    yield make
    for manager in made:
        manager.close(stop=False)


def _spec() -> RunSpec:
    run = spec.default_spec()
    run.preset, run.rounds = "tiny", 3
    return run


def _states(manager: RunManager) -> list[tuple[str, str]]:
    return [(entry.run_id, run_state_name(entry.state)) for entry in reversed(manager.entries())]


def test_what_is_queued_is_there_for_the_next_aggregator_in_order(aggregator: Callable[[], RunManager]) -> None:
    first = aggregator()
    for run_id in ("c", "a", "b"):
        first.submit(_spec(), run_id)
    first.pause("a")
    first.close(stop=False)
    second = aggregator()
    second.recover()
    assert _states(second) == [("c", "waiting"), ("a", "paused"), ("b", "waiting")]
    second.resume("a")
    assert _states(second) == [("c", "waiting"), ("a", "waiting"), ("b", "waiting")]


def test_a_round_that_a_crash_cut_short_puts_the_run_in_the_queue_again(
    aggregator: Callable[[], RunManager], tmp_path: Path
) -> None:
    first = aggregator()
    for run_id, payloads in {"run": [], "pausing": [m.PauseRequested()], "done": [m.RunFinished(state=3)]}.items():
        log = first.submit(_spec(), run_id).log
        for payload in [m.RunStarted(first_round=1), m.RoundStarted(round=1), *payloads]:
            log.emit(payload)
    first.close(stop=False)
    second = aggregator()
    second.recover()
    assert _states(second) == [("run", "waiting"), ("pausing", "paused"), ("done", "completed")]
    assert fold_log(tmp_path / "run" / "events.jsonl").state == RunState.RUN_STATE_WAITING


def test_who_launches_an_aggregator_for_one_run_gets_no_other(aggregator: Callable[[], RunManager]) -> None:
    first = aggregator()
    for run_id in ("a", "b"):
        first.submit(_spec(), run_id)
    first.close(stop=False)
    second = aggregator()
    second.resume("b")
    assert second.get("a").log.closed
    assert not second.get("b").log.closed
    second.close(stop=True)
    assert _states(aggregator()) == [("a", "waiting"), ("b", "stopped")]


def test_a_run_in_the_hands_of_another_aggregator_is_left_to_it(aggregator: Callable[[], RunManager]) -> None:
    first, run = aggregator(), "r"
    first.submit(_spec(), run)
    second = aggregator()
    second.recover()
    with pytest.raises(RunStateError, match="another process"):
        second.resume(run)
    with pytest.raises(RunStateError):
        second.stop(run)
    assert _states(first) == [(run, "waiting")]
    first.close(stop=False)
    second.resume(run)
    assert not second.get(run).log.closed


def test_wishes_are_granted_twice_without_harm(aggregator: Callable[[], RunManager], tmp_path: Path) -> None:
    manager = aggregator()
    manager.submit(_spec(), "r")
    for wish in (manager.resume, manager.pause, manager.pause, manager.resume, manager.stop, manager.stop):
        wish("r")
    kinds = [event.WhichOneof("payload") for event in read_events(tmp_path / "r" / "events.jsonl")]
    assert kinds == ["run_submitted", "run_paused", "run_resumed", "run_finished"]
    assert (tmp_path / "r" / "report.json").exists()
    with pytest.raises(RunStateError, match="'r'"):
        manager.pause("r")
    manager.resume("r")
    assert _states(manager) == [("r", "waiting")]


def test_what_is_not_there_is_said(aggregator: Callable[[], RunManager]) -> None:
    manager = aggregator()
    manager.submit(_spec(), "r")
    for wish in (manager.get, manager.resume, manager.pause, manager.stop):
        with pytest.raises(RunNotFoundError, match=r"\(r\), got 'x'"):
            wish("x")
    with pytest.raises(ConfigError, match="not in use"):
        manager.submit(_spec(), "r")
    manager.stop("r")
    with pytest.raises(RunNotFoundError, match="unfinished"):
        manager.resume()


def test_a_submission_cut_short_leaves_the_name_free(aggregator: Callable[[], RunManager], tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "events.jsonl").write_bytes(b'{"seq":"1","run_sub')
    manager = aggregator()
    manager.submit(_spec(), "r")
    assert _states(manager) == [("r", "waiting")]


def test_a_submission_that_the_disk_does_not_take_has_not_happened(
    aggregator: Callable[[], RunManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = aggregator()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("neurofed.eventlog.os.fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            manager.submit(_spec(), "r")
    assert manager.entries() == []
    with contextlib.suppress(ConfigError):
        manager.submit(_spec(), "r")
    manager.submit(_spec(), "s")


def test_the_wish_to_pause_does_not_undo_an_end(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    run.log.emit(m.RunSubmitted(run_id="r", spec=_spec()))
    run.log.emit(m.RunStarted(first_round=1))
    run.pause(training=True)
    assert run.log.state == RunState.RUN_STATE_PAUSING
    run.log.emit(m.RunFinished(state=RunState.RUN_STATE_COMPLETED))
    run.log.emit(m.PauseRequested())
    assert run.finished
    run.log.close()


def test_a_wish_to_pause_can_be_taken_back_until_it_is_granted(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    run.log.emit(m.RunSubmitted(run_id="r", spec=_spec()))
    run.log.emit(m.RunStarted(first_round=1))
    run.pause(training=True)
    run.log.emit(m.RunStarted(first_round=1))
    assert run.log.state == RunState.RUN_STATE_PAUSING, "what goes on meanwhile does not forget it"
    run.resume(training=True)
    assert run.log.state == RunState.RUN_STATE_RUNNING
    run.log.close()
