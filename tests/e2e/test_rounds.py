"""Rounds that do not wait for everybody, with real processes over real gRPC."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support_fleet import ScriptedWorker

from neurofed.v1 import fleet_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

TINY = ("--preset", "tiny", "--seed", "3")
LONG = ("--set", "workload.local_epochs=4")


def _submit(federation: Any, *options: str, run_id: str = "r") -> None:
    done = federation.command("submit", "--address", federation.address, *TINY, *options, "--run-id", run_id)
    assert done.returncode == 0, done.stderr


def _end(federation: Any, run_id: str = "r") -> tuple[int, str]:
    finished = federation.wait_for(run_id, "run_finished").run_finished
    return finished.exit_code, finished.reason


def _of(federation: Any, kind: str, run_id: str = "r") -> list[Any]:
    return [getattr(event, kind) for event in federation.events(run_id, kind)]


@pytest.fixture
def slow(federation: Any) -> Iterator[ScriptedWorker]:
    """A worker that answers when the test says so; beside it two real ones."""
    federation.start_server("--out", "runs")
    for worker in federation.start_workers(2):
        federation.wait_for_join(worker)
    with ScriptedWorker(federation.address, "worker-2") as worker:
        worker.open()
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(1.0):
                worker.send(heartbeat=fleet_pb2.Heartbeat())

        heart = threading.Thread(target=beat)
        heart.start()
        yield worker
        ended.set()
        heart.join()


def test_a_round_with_enough_updates_does_not_wait_for_a_frozen_worker(federation: Any) -> None:
    federation.start_server("--out", "runs", "--grace-s", "100")  # silent, yet not lost before the round ends
    workers = federation.start_workers(3)
    for worker in workers:
        federation.wait_for_join(worker)
    os.kill(workers[2].pid, signal.SIGSTOP)
    _submit(federation, "--workers", "3", "--updates", "2", "--rounds", "3")
    assert _end(federation) == (0, "")
    assert [event.updates for event in _of(federation, "round_aggregated")] == [2, 2, 2]
    assert _of(federation, "round_started")[0].workers == ["worker-0", "worker-1", "worker-2"]
    withdrawn = _of(federation, "task_withdrawn")
    assert ("worker-2", 1) in [(event.worker, event.round) for event in withdrawn]
    assert _of(federation, "worker_quarantined") == []


def test_overlapping_rounds_go_on_without_a_slow_worker_and_count_it_late(federation: Any, slow: Any) -> None:
    _submit(federation, *LONG, "--workers", "3", "--buffer", "2", "--rounds", "12", "--max-staleness", "12")
    task, model = slow.task()
    federation.wait_for("r", "round_aggregated", 2)
    verdict = slow.answer(task, {name: array + np.float32(1e-3) for name, array in model.items()}, loss=0.5)
    assert (verdict.accepted, verdict.reason) == (True, "")
    newer, _ = slow.task()
    assert (task.round, newer.round >= 3) == (1, True)
    assert _end(federation) == (0, "")
    rounds = _of(federation, "round_aggregated")
    assert [event.round for event in rounds] == list(range(1, 13))
    assert {event.updates for event in rounds} == {2}
    late = [event.train_metrics["staleness"] for event in rounds if "staleness" in event.train_metrics]
    assert max(late) >= 1.0, "one of two updates was at least two rounds late"
    assert slow.receive("cancel").task_id == newer.task_id


def test_an_update_that_is_too_late_is_dropped_and_its_worker_goes_on(federation: Any, slow: Any) -> None:
    _submit(federation, *LONG, "--workers", "3", "--buffer", "2", "--rounds", "6", "--max-staleness", "1")
    task, _ = slow.task()
    assert slow.receive("cancel").task_id == task.task_id
    newer, _ = slow.task()
    assert newer.round == 3
    assert _end(federation) == (0, "")
    (first, *_) = _of(federation, "task_withdrawn")
    assert (first.worker, first.round) == ("worker-2", 1)
    assert first.reason == "expected an update at most 1 rounds late, it is 2 by now"


def test_overlapping_rounds_go_on_after_the_aggregator_was_killed(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    federation.start_workers(3)
    _submit(federation, *LONG, "--workers", "3", "--buffer", "2", "--rounds", "8")
    federation.wait_for("r", "checkpoint_written", 2)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    done = len(federation.events("r", "checkpoint_written"))
    federation.start_server("--out", "runs", listen=federation.address)
    assert _end(federation) == (0, "")
    assert [event.first_round for event in _of(federation, "run_started")] == [1, done + 1]
    assert [view["round"] for view in federation.report("r")["rounds"]] == list(range(1, 9))
    assert _of(federation, "worker_quarantined") == []


def test_a_worker_that_joins_in_mid_run_gets_a_part_and_one_that_stands_by_replaces_a_lost_one(federation: Any) -> None:
    federation.start_server("--out", "runs")
    (first,) = federation.start_workers(1)
    federation.wait_for_join(first)
    _submit(federation, "--workers", "2", "--min-workers", "1", "--join-timeout-s", "1", "--rounds", "100000")
    federation.wait_for("r", "checkpoint_written")
    assert {tuple(event.workers) for event in _of(federation, "round_started")} == {("worker-0",)}
    others = [federation.start("worker", "join", federation.address, "--name", name) for name in ("later", "spare")]
    for worker in others:
        federation.wait_for_join(worker)
    federation.wait_until(lambda: _of(federation, "round_aggregated")[-1].updates == 2, "a round of two")
    names = set(_of(federation, "round_started")[-1].workers)
    (newcomer,) = names - {"worker-0"}
    os.kill(others[("later", "spare").index(newcomer)].pid, signal.SIGKILL)
    both = {"worker-0", "later", "spare"} - {newcomer}
    federation.wait_until(lambda: set(_of(federation, "round_started")[-1].workers) == both, "the stand-by's part")
    assert federation.command("stop", "r", "--address", federation.address).returncode == 0
    assert _end(federation)[0] == 35
