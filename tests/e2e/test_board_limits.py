"""A worker with bounded memory: what does not fit fails and is told of, and the worker goes on."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

_LIMIT_MIB = 700


def test_a_task_that_does_not_fit_fails_and_the_worker_stays(federation: Any) -> None:
    federation.start_server("--out", "runs")
    worker = federation.start(
        "worker", "join", federation.address, "--name", "board", "--memory-limit-mib", str(_LIMIT_MIB)
    )
    federation.wait_for_join(worker)
    run = ("submit", "--address", federation.address, "--workers", "1", "--rounds", "1", "--run-id")
    large = ("--preset", "tiny", "--set", "workload.batch_size=240", "--set", "workload.channels=128")
    federation.command(*run, "large", *large)
    assert federation.wait_for("large", "run_finished").run_finished.exit_code == 31
    (failed,) = federation.events("large", "task_failed")
    assert failed.task_failed.worker == "board"
    assert f"expected the task to fit into {_LIMIT_MIB} MiB" in failed.task_failed.reason
    federation.command(*run, "little", "--preset", "tiny")
    assert federation.wait_for("little", "run_finished").run_finished.exit_code == 0
    assert worker.poll() is None


def test_a_limit_that_is_too_small_for_any_task_is_refused(federation: Any) -> None:
    done = federation.command("worker", "join", "127.0.0.1:1", "--memory-limit-mib", "64")
    assert done.returncode == 10
    assert "--memory-limit-mib: expected at least" in done.stderr
