"""`neurofed monitor` where there is no terminal, and the choice between lines and the full screen."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support_monitor import Stage, a_round, a_spec, wait_until

from neurofed.cli import remote
from neurofed.cli.remote import monitor
from neurofed.eventlog import to_json_line
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

WORKERS = ["a", "b"]
STARTED = m.RunStarted(first_round=1, workers=WORKERS)
FAILED = m.RunFinished(state=c.RUN_STATE_FAILED, reason="out of\nluck", exit_code=34)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        yield stage


def finished(stage: Stage, run_id: str) -> list[m.Event]:
    """Plays a run to its bad end; returns its events."""
    stage.submit(run_id, a_spec())
    stage.play(run_id, STARTED, *a_round(1, WORKERS), FAILED)
    return list(stage.runs.get(run_id).log.read())


def watched(*arguments: str) -> Result:
    return CliRunner().invoke(monitor, arguments)


def test_json_is_one_object_for_each_event_and_the_exit_code_is_the_runs(stage: Stage) -> None:
    events = finished(stage, "r")
    done = watched(stage.address, "r", "--json")
    assert done.stdout.splitlines() == [to_json_line(event) for event in events]
    assert (done.stderr, done.exit_code) == ("neurofed: out of luck\n", 34)


def test_lines_are_printed_where_there_is_no_terminal(stage: Stage) -> None:
    finished(stage, "r")
    done = watched(stage.address)
    assert (
        "round 1/3: accuracy 50.0 %, loss 1.000, up 2.00 kB, down 4.00 kB, energy 4 J (modelled), 1.50 s" in done.stdout
    )
    assert done.exit_code == 34


@pytest.mark.parametrize(
    "arguments", [["{address}", "r"], ["r", "--address", "{address}"], ["--address", "{address}"], ["{address}"]]
)
def test_the_aggregator_may_be_named_either_way_and_the_run_left_out(stage: Stage, arguments: list[str]) -> None:
    finished(stage, "r")
    done = watched(*(word.format(address=stage.address) for word in arguments), "--json")
    assert json.loads(done.stdout.splitlines()[0])["run_submitted"]["run_id"] == "r"


def test_more_than_address_and_run_is_a_mistake() -> None:
    assert watched("127.0.0.1:1", "r", "more").exit_code == 2
    assert watched("r", "more").exit_code == 2


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[m.Event]:
    """The events that have come so far."""
    events: list[m.Event] = []

    def print_and_note(event: m.Event) -> str:
        events.append(event)
        return to_json_line(event)

    monkeypatch.setattr(remote, "to_json_line", print_and_note)
    return events


def test_scripts_get_every_event_once_over_a_restart(stage: Stage, told: list[m.Event]) -> None:
    stage.submit("r", a_spec())
    stage.play("r", STARTED, *a_round(1, WORKERS))
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(watched(stage.address, "--json")))
    thread.start()
    wait_until(lambda: told, "the first event")
    stage.submit("newer", a_spec())  # what "the newest" means has changed when the connection is opened again
    stage.down()
    stage.up()
    stage.play("r", m.RunStarted(first_round=2, workers=WORKERS), *a_round(2, WORKERS), FAILED)
    wait_until(lambda: not thread.is_alive(), "the end of the watching")
    assert results[0].stdout.splitlines() == [to_json_line(event) for event in stage.runs.get("r").log.read()]
    assert "lost, retrying" in results[0].stderr


def test_who_stays_away_for_too_long_is_given_up(stage: Stage, told: list[m.Event]) -> None:
    stage.submit("r", a_spec())
    results: list[Result] = []
    asked = (stage.address, "r", "--json", "--give-up-after-s", "0.1")
    thread = threading.Thread(target=lambda: results.append(watched(*asked)))
    thread.start()
    wait_until(lambda: told, "the first event")
    stage.down()
    wait_until(lambda: not thread.is_alive(), "the end of the patience")
    stage.up()
    assert "lost, retrying" in results[0].stderr
    assert type(results[0].exception).__name__ in ("UnreachableError", "LinkError")


def test_a_reader_that_has_had_enough_is_no_error(stage: Stage) -> None:
    finished(stage, "r")
    command = [sys.executable, "-m", "neurofed", "monitor", stage.address, "r", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, "")


class Terminal:
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_without_textual_a_note_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not remote._full_screen_possible()
    assert capsys.readouterr().err == "neurofed: for the full-screen monitor: pip install 'neurofed[tui]'\n"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert remote._full_screen_possible()
    monkeypatch.setenv("TERM", "dumb")
    assert not remote._full_screen_possible()
    assert capsys.readouterr().err == ""


def test_the_command_line_starts_without_the_full_screens_library() -> None:
    code = (
        "import sys, neurofed.cli.remote, neurofed.cli.compare, neurofed.cli.export, neurofed.cli.feed\n"
        "print([name for name in ('textual', 'rich', 'torch', 'flwr', 'tensorboard', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
