"""Codecs with real processes: whoever is killed, the weights are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from typing import Any

import pytest
import torch

from benchmarks.codecs_federation.federation import RUN_ID, WORKERS, Federation

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

OPTIONS = (
    "--preset", "tiny", "--seed", "3", "--workers", "2", "--rounds", "4", "--set", "workload.local_epochs=8",
    "--no-trace", "--set", "codec.down=top-k",
)  # fmt: skip


def _digests(report: dict[str, Any]) -> list[str]:
    return [view["model_sha256"] for view in report["rounds"]]


def _bytes(report: dict[str, Any], direction: str) -> list[int]:
    return [part[direction] for view in report["rounds"] for part in view["workers"]]


def _join(federation: Any, name: str) -> subprocess.Popen[str]:
    state = str(federation.folder / "state" / name)
    worker: subprocess.Popen[str] = federation.start(
        "worker", "join", federation.address, "--name", name, "--state-dir", state
    )
    return worker


@pytest.mark.parametrize(
    ("codec", "loses_state"),
    [
        pytest.param(("--codec", "top-k"), False, id="top-k, the worker's state survives"),
        pytest.param(("--codec", "dense"), True, id="changes down only, the worker's state is lost"),
    ],
)
def test_a_killed_aggregator_and_a_killed_worker_change_no_bits(
    federation: Any, codec: tuple[str, ...], loses_state: bool
) -> None:
    server = federation.start_server("--out", "runs")
    _, second = _join(federation, "worker-0"), _join(federation, "worker-1")
    for run_id in ("whole", "cut"):
        command = ("submit", "--address", federation.address, *OPTIONS, *codec, "--run-id", run_id)
        submitted = federation.command(*command)
        assert submitted.returncode == 0, submitted.stderr
    federation.wait_for("cut", "checkpoint_written", 2)
    for process in (server, second):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    if loses_state:
        shutil.rmtree(federation.folder / "state" / "worker-1")
    federation.start_server("--out", "runs", "--resume", "cut", listen=federation.address)
    _join(federation, "worker-1")
    end = federation.wait_for("cut", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    whole, cut = federation.report("whole"), federation.report("cut")
    assert len(_digests(whole)) == 4
    assert _digests(cut) == _digests(whole)
    for kind in ("result_rejected", "worker_quarantined", "task_failed"):
        assert not federation.events("cut", kind)
    model_bytes = whole["model_bytes"]
    assert max(_bytes(whole, "bytes_down")) < model_bytes / 2
    if loses_state:
        asked_twice = [size for size in _bytes(cut, "bytes_down") if size > model_bytes]
        assert len(asked_twice) == 1, "once the change, which it could not use, then the model"
    else:
        assert max(_bytes(cut, "bytes_up")) < model_bytes / 10


def test_what_the_benchmark_says_of_a_run_is_what_real_processes_do(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(federation.folder / "state"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker: sums over threads have other bits
    try:
        ours = Federation("tiny", "top-k", {"down": "top-k"}, 3, federation.folder / "in-process").run(2, 2)
    finally:
        torch.set_num_threads(threads)
    options = ("--preset", "tiny", "--seed", "3", "--codec", "top-k", "--set", "codec.down=top-k")
    done = federation.command("run", *options, "--run-id", RUN_ID, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["final"]["accuracy"] == ours.accuracies[2]
    assert sum(_bytes(report, "bytes_down")) == pytest.approx(ours.bytes_down, rel=0.01)
    tasks = 2 * WORKERS
    assert sum(_bytes(report, "bytes_up")) == pytest.approx(ours.bytes_up, abs=24 * tasks), "times deflate as they come"
