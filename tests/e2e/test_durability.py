"""What survives: kills, restarts, pauses, damaged checkpoints, full disks, results that come twice."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TINY = ("--preset", "tiny", "--seed", "3", "--workers", "2")
SLOW = ("--set", "workload.local_epochs=4")


def _submit(federation: Any, run_id: str, *options: str) -> None:
    done = federation.command("submit", "--address", federation.address, *TINY, *options, "--run-id", run_id)
    assert done.returncode == 0, done.stderr


def _ask(federation: Any, command: str, run_id: str) -> Any:
    return federation.command(command, run_id, "--address", federation.address)


def _states(federation: Any) -> dict[str, str]:
    listed = federation.command("runs", "--address", federation.address, "--json")
    assert listed.returncode == 0, listed.stderr
    return {row["run_id"]: row["state"] for row in json.loads(listed.stdout)}


def _digests(federation: Any, run_id: str) -> list[str]:
    federation.wait_until(
        lambda: federation.report(run_id)["state"] == "completed", f"the completed report of {run_id}"
    )
    return [view["model_sha256"] for view in federation.report(run_id)["rounds"]]


def _restart(federation: Any, server: Any, number: int) -> Any:
    os.kill(server.pid, number)
    server.wait()
    return federation.start_server("--out", "runs", listen=federation.address)


def test_an_aggregator_killed_again_and_again_gives_the_same_weights(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    _submit(federation, "whole", "--rounds", "5", *SLOW)
    federation.wait_for("whole", "run_finished")
    _submit(federation, "cut", "--rounds", "5", *SLOW)
    chance = random.Random(5)
    kinds = ("round_started", "task_sent", "task_progress", "result_received", "round_aggregated", "checkpoint_written")
    for kind in chance.sample(kinds, 4):
        federation.wait_for("cut", kind, len(federation.events("cut", kind)) + 1)
        server = _restart(federation, server, signal.SIGKILL)
    end = federation.wait_for("cut", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    assert _digests(federation, "cut") == _digests(federation, "whole")
    assert [worker.poll() for worker in workers] == [None, None], "the same processes came back"
    counted: set[tuple[int, str]] = set()
    for event in federation.events("cut"):
        if event.WhichOneof("payload") == "run_started":
            counted.clear()  # what an earlier aggregator received is gone with it, or part of a checkpoint
        elif event.WhichOneof("payload") == "result_received":
            result = (event.result_received.round, event.result_received.worker)
            assert result not in counted
            counted.add(result)
    assert all(event.round_aggregated.updates == 2 for event in federation.events("cut", "round_aggregated"))


def test_a_worker_killed_in_a_round_comes_back_and_gives_the_same_weights(federation: Any) -> None:
    federation.start_server("--out", "runs", "--grace-s", "60")
    workers = federation.start_workers(2)
    _submit(federation, "whole", "--rounds", "3", *SLOW)
    federation.wait_for("whole", "run_finished")
    _submit(federation, "cut", "--rounds", "3", *SLOW)
    for kind in ("task_progress", "round_aggregated"):
        federation.wait_for("cut", kind)
        os.kill(workers[1].pid, signal.SIGKILL)
        workers[1].wait()
        workers[1] = federation.start("worker", "join", federation.address, "--name", "worker-1")
        federation.wait_for_join(workers[1])
    assert _digests(federation, "cut") == _digests(federation, "whole")


def test_a_queue_with_a_paused_run_outlives_its_aggregator(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    for run_id in ("first", "second", "third"):
        _submit(federation, run_id, "--rounds", "3", *SLOW)
    federation.wait_for("first", "task_progress")
    assert _ask(federation, "pause", "first").returncode == 0
    federation.wait_for("second", "task_progress")
    paused = [event.WhichOneof("payload") for event in federation.events("first")]
    assert paused[-2:] == ["checkpoint_written", "run_paused"], "its round was brought to an end"
    server = _restart(federation, server, signal.SIGTERM)
    assert [event.run_finished for event in federation.events("second", "run_finished")] == []
    federation.wait_for("third", "task_progress")
    assert _states(federation) == {"third": "running", "second": "completed", "first": "paused"}
    server = _restart(federation, server, signal.SIGKILL)
    federation.wait_for("third", "run_finished")
    assert _states(federation)["first"] == "paused"
    assert _ask(federation, "resume", "first").returncode == 0
    assert _digests(federation, "first") == _digests(federation, "second") == _digests(federation, "third")
    assert [worker.poll() for worker in workers] == [None, None], "the workers stayed joined"
    refused = _ask(federation, "pause", "first")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (36, 1), refused.stderr
    assert _ask(federation, "pause", "nothing").returncode == 32


def test_a_waiting_or_paused_run_can_be_stopped(federation: Any) -> None:
    federation.start_server("--out", "runs")
    for run_id in ("a", "b", "c"):
        _submit(federation, run_id, "--rounds", "2")
    assert _ask(federation, "pause", "b").returncode == 0
    for run_id in ("b", "c", "a"):
        assert _ask(federation, "stop", run_id).returncode == 0
        federation.wait_for(run_id, "run_finished")
        assert _ask(federation, "monitor", run_id).returncode == 35
    assert set(_states(federation).values()) == {"stopped"}


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_taken(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    federation.start_workers(2)
    for run_id in ("whole", "cut"):
        _submit(federation, run_id, "--rounds", "5", *SLOW)
    federation.wait_for("cut", "checkpoint_written", 3)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    *_, newest = sorted((federation.runs / "cut" / "checkpoints").glob("round-*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0x10
    newest.write_bytes(data)
    federation.start_server("--out", "runs", listen=federation.address)
    skipped = federation.wait_for("cut", "checkpoint_skipped").checkpoint_skipped
    assert skipped.file == f"checkpoints/{newest.name}"
    federation.wait_for("cut", "run_finished")
    starts = [event.run_started.first_round for event in federation.events("cut", "run_started")]
    assert starts == [1, int(newest.stem.partition("-")[2])]
    assert _digests(federation, "cut") == _digests(federation, "whole")


def test_a_full_disk_ends_the_run_with_a_reason_and_spoils_nothing(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    _submit(federation, "whole", "--rounds", "3", *SLOW)
    federation.wait_for("whole", "run_finished")
    _submit(federation, "cut", "--rounds", "3", *SLOW)
    federation.wait_for("cut", "checkpoint_written")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (federation.runs / "cut" / "events.jsonl").stat().st_size
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size + 300, hard))  # no file may grow beyond that
    watched = _ask(federation, "monitor", "cut")
    assert watched.returncode == 37, watched.stderr
    assert "expected the disk to take" in watched.stderr.splitlines()[-1]
    assert server.poll() is None
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert _ask(federation, "resume", "cut").returncode == 0
    assert _digests(federation, "cut") == _digests(federation, "whole")
    assert [worker.poll() for worker in workers] == [None, None], "the streams did not suffer"


def test_a_run_file_gives_options_that_environment_and_flags_overrule(
    federation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation.start_server("--out", "runs")
    file = federation.folder / "run.toml"
    file.write_text(
        'run-id = "r"\npreset = "tiny"\nrounds = 7\nseed = 5\nmin-workers = 1\ntrace = false\n'
        "[settings]\nlr = 0.5\nlocal_epochs = 3\n"
    )
    monkeypatch.setenv("NEUROFED_SUBMIT_SEED", "6")
    monkeypatch.setenv("NEUROFED_SUBMIT_ROUNDS", "8")
    flags = ("--rounds", "9", "--set", "workload.lr=0.25", "--address", federation.address)
    done = federation.command("submit", "run.toml", *flags)
    assert (done.returncode, done.stdout) == (0, "r\n"), done.stderr
    spec = federation.wait_for("r", "run_submitted").run_submitted.spec
    assert (spec.preset, spec.rounds, spec.seed, spec.min_workers, spec.workers) == ("tiny", 9, 6, 1, 5)
    assert (spec.trace, dict(spec.settings)) == (False, {"lr": "0.25", "local_epochs": "3"})
    for text, code, hint in (
        ("round = 3", 11, "did you mean 'rounds'?"),
        ("rounds = ", 10, "run.toml"),
        ("settings = 3", 10, "[settings]"),
        ("[settings]\nlrr = 1", 13, "lrr"),
        ("workers = 0", 10, "workers"),
    ):
        file.write_text(text)
        wrong = federation.command("submit", "run.toml", "--address", federation.address)
        assert wrong.returncode == code, wrong.stderr
        assert hint in wrong.stderr.splitlines()[-1]
    assert federation.command("submit", "no.toml", "--address", federation.address).returncode == 10
