"""FedProx and SCAFFOLD, in which workers have a part, with real processes over real gRPC."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

RUN = ("--preset", "tiny", "--seed", "3", "--workers", "2", "--rounds", "3", "--no-trace")
SCAFFOLD = (*RUN, "--strategy", "scaffold", "--set", "workload.local_epochs=6")


def _digests(federation: Any, run_id: str) -> list[str]:
    return [event.round_aggregated.model_sha256 for event in federation.events(run_id, "round_aggregated")]


def test_the_workers_part_of_a_rule_changes_the_weights(federation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(federation.folder / "state"))
    federation.start_server("--out", "runs")
    federation.start_workers(2)
    rules = {
        "plain": ("--strategy", "fedavg"),
        "prox": ("--strategy", "fedprox", "--set", "strategy.mu=0.5"),
        "scaffold": ("--strategy", "scaffold"),
    }
    for run_id, options in rules.items():
        done = federation.command("submit", "--address", federation.address, *RUN, *options, "--run-id", run_id)
        assert done.returncode == 0, done.stderr
    for run_id in rules:
        end = federation.wait_for(run_id, "run_finished").run_finished
        assert (end.exit_code, end.reason) == (0, "")
    plain, prox, scaffold = (_digests(federation, run_id) for run_id in rules)
    assert prox[0] != plain[0]
    assert scaffold[0] == plain[0], "before the first round nobody has a control"
    assert scaffold[1] != plain[1]
    reports = {run_id: federation.report(run_id) for run_id in rules}
    assert reports["prox"]["settings"] == {"strategy.mu": 0.5}
    sent = {run_id: report["rounds"][0]["bytes_down"] for run_id, report in reports.items()}
    assert 1.9 < sent["scaffold"] / sent["plain"] < 2.1, "a control is as large as the model"


def test_scaffold_goes_on_with_the_same_weights_after_everybody_was_killed(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(federation.folder / "state"))
    server = federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    for run_id in ("whole", "cut"):
        submitted = federation.command("submit", "--address", federation.address, *SCAFFOLD, "--run-id", run_id)
        assert submitted.returncode == 0, submitted.stderr
    federation.wait_for("cut", "checkpoint_written", 1)
    for process in (server, *workers):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len(federation.events("cut", "checkpoint_written")) < 3
    federation.start_server("--out", "runs", "--resume", "cut", listen=federation.address)
    federation.start_workers(2)
    end = federation.wait_for("cut", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    last = {
        event.round_aggregated.round: event.round_aggregated.model_sha256
        for event in federation.events("cut", "round_aggregated")
    }
    assert list(last.values()) == _digests(federation, "whole")
    kept = {path.parent.name for path in (federation.folder / "state").rglob("round-*.safetensors")}
    assert kept == {"control-part-00000", "control-part-00001"}
