"""What a worker tells systemd, as its unit's type `notify` needs it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]


def test_a_worker_says_that_it_runs_what_it_does_and_that_it_lives(
    federation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"{tmp_path}/notify")
        listener.settimeout(90)
        server = federation.start_server("--out", "runs")
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        (worker,) = federation.start_workers(1)
        told = [listener.recv(1024).decode()]
        assert told == ["READY=1\n"]
        while "WATCHDOG=1\n" not in told:
            told.append(listener.recv(1024).decode())
        assert f"STATUS=joined {federation.address} as worker-0\n" in told
        os.kill(server.pid, 9)
        while f"STATUS=no aggregator at {federation.address}\nWATCHDOG=1\n" not in told:
            told.append(listener.recv(1024).decode())
        worker.terminate()
        while told[-1] != "STOPPING=1\n":
            told.append(listener.recv(1024).decode())
