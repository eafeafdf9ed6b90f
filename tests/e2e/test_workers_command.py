"""`neurofed workers` against a real aggregator."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]


def test_who_has_joined_is_listed(federation: Any) -> None:
    federation.start_server("--out", "runs")
    address = ("--address", federation.address)
    empty = federation.command("workers", *address, "--json")
    assert (empty.returncode, empty.stdout) == (0, "[]\n"), empty.stderr
    for worker in federation.start_workers(2):
        federation.wait_for_join(worker)
    federation.wait_until(
        lambda: all(row["rss_bytes"] for row in json.loads(federation.command("workers", *address, "--json").stdout)),
        "heartbeats",
    )
    rows = json.loads(federation.command("workers", *address, "--json").stdout)
    assert [(row["name"], row["state"], row["chip"]) for row in rows] == [
        ("worker-0", "idle", "core20_28nm"),
        ("worker-1", "idle", "core20_28nm"),
    ]
    lines = federation.command("workers", *address).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["worker-0", "idle"], ["worker-1", "idle"]]
