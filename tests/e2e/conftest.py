"""Real processes on the loopback interface: started here, and ended here whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neurofed.eventlog import read_events
from neurofed.v1.monitor_pb2 import Event

PATIENCE_S = 100.0
"""Only a hang is ever as slow as this."""


class Federation:
    """Starts `neurofed` processes in one folder and looks at what they write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.processes: list[subprocess.Popen[str]] = []
        self.address = ""

    def command(self, *arguments: str, timeout: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        command = [sys.executable, "-m", "neurofed", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=self.folder, check=False)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command and go on."""
        log = (self.folder / f"process-{len(self.processes)}.log").open("w")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "neurofed", *arguments],
                stdout=log,
                stderr=log,
                text=True,
                cwd=self.folder,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_server(self, *options: str, listen: str = "127.0.0.1:0") -> subprocess.Popen[str]:
        """Start an aggregator and wait until it answers."""
        file = self.folder / "address"
        file.unlink(missing_ok=True)
        server = self.start("server", "--listen", listen, "--address-file", str(file), "--grace-s", "1", *options)
        self.wait_until(lambda: file.exists() or server.poll() is not None, "an aggregator")
        assert server.poll() is None, self.log_of(server)
        self.address = file.read_text()
        return server

    def start_workers(self, count: int) -> list[subprocess.Popen[str]]:
        """Start `count` workers of the aggregator."""
        return [self.start("worker", "join", self.address, "--name", f"worker-{k}") for k in range(count)]

    def wait_for_join(self, worker: subprocess.Popen[str]) -> None:
        """Wait until a worker says that it has joined."""
        self.wait_until(lambda: "joined the aggregator" in self.log_of(worker), "a worker")

    def log_of(self, process: subprocess.Popen[str]) -> str:
        """What a process wrote."""
        return (self.folder / f"process-{self.processes.index(process)}.log").read_text()

    def events(self, run_id: str, kind: str = "") -> list[Event]:
        """The run's events so far, all or of one kind."""
        path = self.runs / run_id / "events.jsonl"
        found = read_events(path) if path.exists() else ()
        return [event for event in found if kind in ("", event.WhichOneof("payload"))]

    def wait_for(self, run_id: str, kind: str, count: int = 1) -> Event:
        """Wait for the `count`-th event of a kind."""
        self.wait_until(lambda: len(self.events(run_id, kind)) >= count, f"{count} {kind} of {run_id}")
        return self.events(run_id, kind)[count - 1]

    def report(self, run_id: str) -> dict[str, Any]:
        """The run's report."""
        self.wait_until((self.runs / run_id / "report.json").exists, f"the report of {run_id}")
        report: dict[str, Any] = json.loads((self.runs / run_id / "report.json").read_text())
        return report

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.05)

    def children_of(self, process: subprocess.Popen[str]) -> list[int]:
        """Processes that were told that `process` is their parent: they live in sessions of their own."""
        mark = f"\0--parent-pid\0{process.pid}\0"
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    if mark in (entry / "cmdline").read_text():
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        """End every process, and what it started."""
        for process in self.processes:
            children = self.children_of(process)
            for pid in (process.pid, *children) if process.poll() is None else children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path)
    try:
        yield federation
    finally:
        federation.close()
