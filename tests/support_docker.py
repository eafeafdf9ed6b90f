"""A federation in real containers, for tests: found or skipped, looked at, and cleaned away."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import need, need_program

from neurofed.cluster.engine import connect
from neurofed.errors import EngineError
from neurofed.eventlog import read_events
from neurofed.v1.monitor_pb2 import Event

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 240.0
"""Only a hang is ever as slow as this."""
IMAGES = ("neurofed-server", "neurofed-worker")
BLAS_CHOICE = "OPENBLAS_CORETYPE"
"""Says which kernels OpenBLAS takes, and so the last bits of clips. Without it they are the processor's own, as in a
container."""


def need_engine() -> Any:
    """A client of an engine that has our images; without one the test is skipped, or fails: see `support.need`."""
    need("docker", "docker")
    try:
        client = connect()
        absent = [name for name in IMAGES if not client.images.list(name)]
        if absent:
            client.close()
    except EngineError as error:
        reason = str(error)
    else:
        if not absent:
            return client
        reason = f"needs the images {absent}: deploy/ci/image.sh, or docker compose -f deploy/compose.yaml build"
    required = "docker" in os.environ.get("NEUROFED_REQUIRE", "").split(",")
    (pytest.fail if required else pytest.skip)(reason)


def wait_until(holds: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until something holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.5)


def prometheus_image(engine: Any) -> str:
    """An image of Prometheus: the one of compose.yaml, where the engine has it, else Debian's program in our base."""
    published, made = "prom/prometheus:v3.5.0", "neurofed-prometheus"
    if engine.images.list(published):
        return published
    need_program("prometheus")
    program = shutil.which("prometheus")
    assert program is not None
    recipe = (
        "FROM python:3.11-slim\n"
        "COPY prometheus /usr/local/bin/\n"
        "RUN install -d -o 65534 -g 65534 /prometheus\n"
        'USER 65534:65534\nENTRYPOINT ["prometheus"]\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(program, Path(folder) / "prometheus")
        (Path(folder) / "Dockerfile").write_text(recipe)
        engine.images.build(path=folder, tag=made, rm=True)
    return made


def asked(prometheus: Any, what: str, query: str = "") -> dict[str, Any]:
    """What Prometheus answers to a question of its API, from within its container."""
    program = (
        "import sys, urllib.parse as p, urllib.request as r\n"
        "query = '?' + p.urlencode({'query': sys.argv[2]}) if sys.argv[2] else ''\n"
        "print(r.urlopen('http://127.0.0.1:9090/api/v1/' + sys.argv[1] + query).read().decode())"
    )
    done = prometheus.exec_run(["python", "-c", program, what, query], demux=True)
    data: dict[str, Any] = json.loads(done.output[0])["data"] if done.exit_code == 0 else {}
    return data


def scraped(prometheus: Any) -> dict[str, list[str]]:
    """How each target of each job is."""
    found: dict[str, list[str]] = {}
    for target in asked(prometheus, "targets").get("activeTargets", ()):
        found.setdefault(target["labels"]["job"], []).append(target["health"])
    return found


class Compose:
    """`docker compose` on deploy/compose.yaml, as a project of its own."""

    def __init__(self, engine: Any, project: str, folder: Path) -> None:
        self.engine, self.project, self.folder = engine, project, folder

    def __call__(self, *arguments: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run a command of Compose to its end."""
        command = ["docker", "compose", "--file", str(ROOT / "deploy/compose.yaml"), "--project-name", self.project]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of neurofed inside, as the operator."""
        return self("run", "--rm", "--no-TTY", "cli", *arguments)

    def submit(self, run_id: str, *options: str) -> None:
        """Submit a run."""
        done = self.cli("submit", "--run-id", run_id, "--preset", "tiny", "--seed", "3", *options)
        assert done.returncode == 0, done.stderr

    def read(self, path: str) -> str:
        """A file of the aggregator's; empty while it is not there, or the aggregator is not."""
        container = self.engine.containers.get(f"{self.project}-aggregator-1")
        if container.status != "running":
            return ""
        done = container.exec_run(["cat", path], demux=True)
        return (done.output[0] or b"").decode() if done.exit_code == 0 else ""

    def events(self, run_id: str, kind: str) -> list[Event]:
        """The run's events of a kind so far."""
        path = self.folder / "events.jsonl"
        path.write_text(self.read(f"/runs/{run_id}/events.jsonl"))
        return [event for event in read_events(path) if event.WhichOneof("payload") == kind]

    def wait_for(self, run_id: str, kind: str, count: int = 1) -> Event:
        """Wait for the `count`-th event of a kind."""
        wait_until(lambda: len(self.events(run_id, kind)) >= count, f"{count} {kind} of {run_id}")
        return self.events(run_id, kind)[count - 1]

    def report(self, run_id: str) -> dict[str, Any]:
        """The report of a run, once it is on the volume."""
        wait_until(lambda: bool(self.read(f"/runs/{run_id}/report.json")), f"the report of {run_id}")
        report: dict[str, Any] = json.loads(self.read(f"/runs/{run_id}/report.json"))
        return report

    def digests(self, run_id: str) -> list[str]:
        """Each round's global model."""
        return [view["model_sha256"] for view in self.report(run_id)["rounds"]]
