"""Watching and letting go, over real sockets."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

import pytest

from neurofed import spec
from neurofed.client import AggregatorClient
from neurofed.errors import LinkError

pytestmark = pytest.mark.e2e


def test_viewers_that_do_not_read_hold_nobody_up_and_a_drained_worker_leaves(federation: Any) -> None:
    federation.start_server("--http", "0")
    federation.address, url = federation.address.split("\n")
    workers = federation.start_workers(2)
    run = spec.default_spec()
    run.preset, run.workers, run.min_workers, run.rounds = "tiny", 2, 1, 4
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    with AggregatorClient(federation.address) as client:
        client.submit(run, "r")
        frozen = []
        for _ in range(5):
            viewer = socket.create_connection((host, int(port)))
            viewer.sendall(f"GET /api/runs/r/events?after=0 HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            frozen.append(viewer)  # and reads nothing
        unread = client.watch("r")
        next(unread)
        federation.wait_for("r", "checkpoint_written")
        client.drain("worker-1")
        assert workers[1].wait(60) is not None
        assert federation.wait_for("r", "worker_drained").worker_drained.name == "worker-1"
        assert federation.wait_for("r", "run_finished").run_finished.exit_code == 0
        with pytest.raises(LinkError, match="connected"):
            client.drain("nobody")
        with urllib.request.urlopen(f"{url}metrics") as response:
            numbers = response.read().decode()
        for viewer in frozen:
            viewer.close()
    assert "neurofed_rounds_total 4.0" in numbers
    assert 'neurofed_worker_up{worker="worker-0"} 1.0' in numbers
    assert 'neurofed_worker_up{worker="worker-1"} 0.0' in numbers
