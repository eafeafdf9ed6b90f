"""Private runs with real processes over real gRPC."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

TINY = ("--preset", "tiny", "--seed", "3")


def test_masked_updates_lead_to_the_same_model_and_show_no_numbers_of_examples(federation: Any) -> None:
    run = ("run", *TINY, "--workers", "3", "--rounds", "2")
    masked = federation.command(*run, "--privacy", "secure-aggregation", "--run-id", "masked", "--json")
    assert masked.returncode == 0, masked.stderr
    plain = federation.command(*run, "--run-id", "open", "--json")
    assert plain.returncode == 0, plain.stderr
    hidden, seen = json.loads(masked.stdout), json.loads(plain.stdout)
    assert [r["model_sha256"] for r in hidden["rounds"]] == [r["model_sha256"] for r in seen["rounds"]]
    for view in hidden["rounds"]:
        assert [(part["state"], part["examples"]) for part in view["workers"]] == [("done", 0)] * 3
        assert all(part["energy_j"] > 0 for part in view["workers"])


def test_a_worker_killed_behind_its_mask_does_not_spoil_the_round(federation: Any) -> None:
    federation.start_server("--out", "runs")
    workers = federation.start_workers(4)
    long = ("--workers", "4", "--rounds", "2", "--set", "workload.local_epochs=8", "--privacy", "secure-aggregation")
    submitted = federation.command("submit", "--address", federation.address, *TINY, *long, "--run-id", "r")
    assert submitted.returncode == 0, submitted.stderr
    federation.wait_for("r", "task_progress")
    os.kill(workers[1].pid, signal.SIGKILL)
    end = federation.wait_for("r", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    updates = [event.round_aggregated.updates for event in federation.events("r", "round_aggregated")]
    assert updates[-1] == 3
    assert not federation.events("r", "result_rejected")
