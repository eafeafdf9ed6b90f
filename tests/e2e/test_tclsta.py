"""TCLSTA federated stage by stage, with real processes over real gRPC."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TINY = ("--workload", "tclsta", "--preset", "tiny", "--workers", "2", "--seed", "3", "--set", "workload.train_clips=48")


def test_a_run_goes_through_all_stages_and_twice_gives_the_same_model(federation: Any) -> None:
    digests = []
    for run_id in ("first", "second"):
        done = federation.command("run", *TINY, "--json", "--run-id", run_id)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        digests.append([view["model_sha256"] for view in report["rounds"]])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 4, "every stage trains something"
    spatial, temporal, joint, collaboration = (
        sum(part["energy_j"] for part in view["workers"]) for view in report["rounds"]
    )
    # With frozen backbones the core group does the forward pass alone.
    assert 0 < temporal < 0.7 * spatial
    assert 0 < collaboration < 0.7 * joint
    evaluated = federation.events("first", "model_evaluated")
    assert "accuracy/motion/temporal" in evaluated[-1].model_evaluated.metrics
    assert evaluated[-1].model_evaluated.metrics["host-macs/joint"] > 0
