"""Stock Flower on the loopback interface: a SuperLink, SuperNodes, and an app that moves a model to and fro."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.fleet.processes import free_port

_APP = Path(__file__).with_name("flower_app")
_BIN = Path(sys.executable).parent
_PYPROJECT = """\
[project]
name = "move"
version = "1.0.0"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "neurofed"
fab-format-version = 0
[tool.flwr.app.components]
serverapp = "flower_app.server_app:app"
clientapp = "flower_app.client_app:app"
[tool.flwr.app.config]
out = ""
nodes = 1
rounds = 1
model-bytes = 4
"""


class FlowerError(Exception):
    """Flower did not do what was asked of it in time."""


def round_times_s(folder: Path, nodes: int, model_bytes: int, rounds: int, patience_s: float) -> list[float]:
    """Times of the rounds of a run on a fresh federation; the time before the first round's begin is in none.

    Args:
        folder: empty; for logs and state.
        nodes: SuperNodes.
        model_bytes: what goes down to each node and up again.
        rounds: how many; the first one, with its fresh caches, is not reported unless it is the only one.
        patience_s: for starting, and for each round.

    Raises:
        FlowerError: if it does not finish.
    """
    environment = {
        **os.environ,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    port = free_port()
    app, out = folder / "app", folder / "rounds.txt"
    shutil.copytree(_APP, app / _APP.name, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "pyproject.toml").write_text(_PYPROJECT)
    cli = folder / "cli"
    cli.mkdir()
    link = f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (cli / "config.toml").write_text(link)
    with _processes(folder, environment) as start:
        start("superlink", "flower-superlink", "--insecure", "--disable-runtime-dependency-installation",
              "--host", "127.0.0.1", "--port", str(port))  # fmt: skip
        _await(lambda: _answers(port), patience_s, "the SuperLink")
        for number in range(nodes):
            start(f"node-{number}", "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}",
                  "--host", "127.0.0.1", "--port", str(free_port()))  # fmt: skip
        logs = [folder / f"node-{number}.log" for number in range(nodes)]
        _await(lambda: all("SuperNode ID" in log.read_text() for log in logs), patience_s, "the SuperNodes")
        config = f'out="{out}" nodes={nodes} rounds={rounds} model-bytes={model_bytes}'
        command = [str(_BIN / "flwr"), "run", str(app), "bench", "--run-config", config]
        done = subprocess.run(
            command, env={**environment, "FLWR_HOME": str(cli)}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise FlowerError(f"flwr run: {done.stdout[-500:]}{done.stderr[-500:]}")
        _await(lambda: len(_ends(out)) > rounds, patience_s * (rounds + 1), f"{rounds} rounds")
    ends = _ends(out)
    times = [after - before for before, after in itertools.pairwise(ends)]
    return times[1:] or times


def _ends(out: Path) -> list[float]:
    """When the initial model was evaluated, and when each round ended."""
    return [float(line.split()[1]) for line in out.read_text().splitlines()] if out.exists() else []


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
            return True
    except (OSError, urllib.error.URLError):
        return False


def _await(holds: Callable[[], bool], patience_s: float, what: str) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise FlowerError(f"waited {patience_s:g} s in vain for {what}")
        time.sleep(0.05)


@contextlib.contextmanager
def _processes(folder: Path, environment: dict[str, str]) -> Iterator[Callable[..., None]]:
    """A function that starts a process with a home below `folder`; at the end all are killed, and their children."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, program: str, *arguments: str) -> None:
        home = folder / f"home-{name}"
        home.mkdir()
        with (folder / f"{name}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [str(_BIN / program), *arguments],
                    env={**environment, "FLWR_HOME": str(home)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=folder,
                )
            )

    try:
        yield start
    finally:
        mark = f"FLWR_HOME={folder}{os.sep}home-".encode()
        while pids := _with_environment(mark):  # they start others while they are being killed
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in started:
                process.wait()
            time.sleep(0.1)


def _with_environment(mark: bytes) -> list[int]:
    """Processes started with this text in their environment: Flower's own children and theirs inherit it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found
