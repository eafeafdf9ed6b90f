"""What watches a run from outside of the browser: a real terminal of 80 by 24, and the notebook's few lines."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import need, need_program
from support_monitor import Stage, a_round, a_spec, wait_until

from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ["board-1", "board-2"]
STARTED = m.RunStarted(first_round=1, model_bytes=40, parameters=10, workers=WORKERS)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path / "runs") as stage:
        stage.submit("field-trial", a_spec())
        stage.play("field-trial", STARTED, *a_round(1, WORKERS, accuracy=0.625))
        yield stage


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Commands to a tmux of our own, ended with all that runs in it."""
    need_program("tmux")
    socket = str(tmp_path / "tmux")

    def command(*arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", socket, "-f", "/dev/null", *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    yield command
    with contextlib.suppress(subprocess.CalledProcessError):  # it has ended with its last window
        command("kill-server")


def test_a_terminal_of_80_by_24_shows_the_run_and_takes_keys(stage: Stage, tmux: Callable[..., str]) -> None:
    need("textual", "tui")
    monitor = shlex.join([sys.executable, "-m", "neurofed", "monitor", stage.address])
    # The shell stays for a moment, so that what the monitor leaves behind can be read.
    script = f"env TERM=screen-256color LC_ALL=C.UTF-8 {monitor}; echo left with $?; exec sleep 100"
    tmux("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", script)

    def screen() -> str:
        return tmux("capture-pane", "-p")

    wait_until(lambda: "62.5 %" in screen() and "board-2" in screen(), "the run on the screen")
    shown = screen()
    assert "field-trial" in shown.splitlines()[0]
    assert "running" in shown.splitlines()[0]
    assert re.search(r"board-1\s+done", shown)
    assert "round 1 is safe on disk" in shown
    assert max(map(len, shown.splitlines())) <= 80

    stage.play("field-trial", m.RoundStarted(round=2, workers=WORKERS), m.WorkerLost(name="board-2", reason="gone"))
    wait_until(lambda: re.search(r"board-2\s+lost", screen()), "the lost worker")
    tmux("send-keys", "q")
    wait_until(lambda: "left with 0" in screen(), "the shell")
    assert "field-trial" not in screen()  # the screen is given back as it was


def test_the_lines_for_a_notebook_do_what_the_guide_says(stage: Stage) -> None:
    stage.play("field-trial", m.RunFinished(state=c.RUN_STATE_COMPLETED))
    guide = (ROOT / "docs" / "how-to" / "monitor-a-federation.md").read_text()
    (lines,) = (block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "AggregatorClient" in block)
    told = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(told):
        exec(lines.replace("127.0.0.1:9050", stage.address), names)
    assert told.getvalue().startswith("1 {")
    assert "'accuracy': 0.625" in told.getvalue()
    assert [(row["round"], row["accuracy"], row["bytes_up"]) for row in names["rounds"]] == [(1, 0.625, 2000)]
