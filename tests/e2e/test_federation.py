"""The main job and its faults, with real processes over real gRPC."""

from __future__ import annotations

import json
import os
import signal
import socket
from typing import Any

import grpc
import pytest

import neurofed
from neurofed.v1 import fleet_pb2
from neurofed.v1.fleet_pb2_grpc import FleetServiceStub

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

TINY = ("--preset", "tiny", "--seed", "3")


def _digests(report: dict[str, Any]) -> list[str]:
    return [view["model_sha256"] for view in report["rounds"]]


def test_one_command_trains_on_five_workers_and_prints_the_bill(federation: Any) -> None:
    done = federation.command("run", *TINY, "--json", "--run-id", "first")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == federation.report("first")
    assert (federation.runs / "first" / "report.html").read_text().startswith("<!doctype html>")
    assert [view["round"] for view in report["rounds"]] == [1, 2]
    for view in report["rounds"]:
        assert [part["name"] for part in view["workers"]] == [f"worker-{k}" for k in range(5)]
        for part in view["workers"]:
            assert part["state"] == "done"
            assert part["examples"] == 48
            for figure in ("energy_j", "dram_bytes", "cycles", "bytes_up", "bytes_down", "spike_rate"):
                assert part[figure] > 0, figure
    plain = federation.command("run", *TINY, "--no-trace", "--run-id", "bare")
    assert plain.returncode == 0, plain.stderr
    bare = federation.report("bare")
    assert _digests(bare) == _digests(report), "counting changed the weights"
    assert bare["final"]["energy_j"] is None, "nothing was counted, so nothing may be billed"


def test_a_worker_killed_in_a_round_is_told_of_and_the_others_finish(federation: Any) -> None:
    federation.start_server("--out", "runs")
    workers = federation.start_workers(3)
    long = ("--workers", "3", "--rounds", "3", "--set", "workload.local_epochs=8")
    submitted = federation.command("submit", "--address", federation.address, *TINY, *long, "--run-id", "r")
    assert submitted.returncode == 0, submitted.stderr
    federation.wait_for("r", "task_progress")
    os.kill(workers[1].pid, signal.SIGKILL)
    end = federation.wait_for("r", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    assert [event.worker_lost.name for event in federation.events("r", "worker_lost")] == ["worker-1"]
    updates = [event.round_aggregated.updates for event in federation.events("r", "round_aggregated")]
    assert updates[-1] == 2
    assert len(updates) == 3


def test_a_killed_aggregator_resumes_at_the_next_round_with_the_same_weights(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    options = ("--workers", "2", "--rounds", "4", "--set", "workload.local_epochs=8")
    for run_id in ("whole", "cut"):
        command = ("submit", "--address", federation.address, *TINY, *options, "--run-id", run_id)
        assert federation.command(*command).returncode == 0
    federation.wait_for("cut", "checkpoint_written", 2)
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    done = len(federation.events("cut", "checkpoint_written"))
    federation.start_server("--out", "runs", "--resume", "cut", listen=federation.address)
    end = federation.wait_for("cut", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    starts = [event.run_started.first_round for event in federation.events("cut", "run_started")]
    assert starts == [1, done + 1]
    assert [worker.poll() for worker in workers] == [None, None], "the same processes came back"
    whole, cut = federation.report("whole"), federation.report("cut")
    assert len(_digests(whole)) == 4
    assert _digests(cut) == _digests(whole)


def test_too_few_workers_is_one_clear_line(federation: Any) -> None:
    federation.start_server("--out", "runs")
    for worker in federation.start_workers(3):
        federation.wait_for_join(worker)
    wish = ("--workers", "5", "--join-timeout-s", "3", "--run-id", "r")
    assert federation.command("submit", "--address", federation.address, *TINY, *wish).returncode == 0
    watched = federation.command("monitor", "r", "--address", federation.address)
    assert watched.returncode == 31
    reason = federation.report("r")["reason"]
    assert reason.startswith("expected 5 workers within 3 s, 3 joined (worker-0, worker-1, worker-2)")


def test_monitor_says_why_a_run_failed(federation: Any) -> None:
    federation.start_server("--out", "runs")
    wish = ("--workers", "2", "--join-timeout-s", "1", "--run-id", "r")
    assert federation.command("submit", "--address", federation.address, *TINY, *wish).returncode == 0
    watched = federation.command("monitor", "r", "--address", federation.address)
    assert "expected 2 workers within 1 s, 0 joined (none)" in watched.stderr
    followed = federation.command("monitor", "r", "--address", federation.address, "--json")
    assert followed.returncode == watched.returncode == 31


def test_ctrl_c_stops_cleanly_and_the_run_can_go_on(federation: Any) -> None:
    run = federation.start("run", *TINY, "--workers", "2", "--rounds", "40", "--run-id", "r")
    federation.wait_for("r", "checkpoint_written", 2)
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(60) == 35, federation.log_of(run)
    assert federation.report("r")["state"] == "stopped"
    assert federation.children_of(run) == []
    resumed = federation.command("run", "--resume", "r")
    assert resumed.returncode == 0, resumed.stderr
    report = federation.report("r")
    assert report["state"] == "completed"
    assert [view["round"] for view in report["rounds"]] == list(range(1, 41))


def test_ctrl_c_while_workers_are_awaited_stops_the_same_way(federation: Any) -> None:
    run = federation.start("run", *TINY, "--workers", "2", "--run-id", "r")
    federation.wait_for("r", "workers_awaited")
    os.kill(run.pid, signal.SIGINT)
    assert run.wait(60) == 35, federation.log_of(run)
    assert federation.report("r")["state"] == "stopped"
    assert federation.children_of(run) == []


def test_processes_end_when_their_launcher_is_killed(federation: Any) -> None:
    run = federation.start("run", *TINY, "--workers", "2", "--rounds", "500", "--run-id", "r")
    federation.wait_for("r", "round_aggregated")
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    federation.wait_until(lambda: not federation.children_of(run), "the orphans' end")
    assert federation.report("r")["state"] == "stopped"


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        (("--workload", "video-clasification"), 11, "'video-classification'"),
        (("--preset", "smal"), 11, "'small'"),
        (("--chip", "core20_28"), 12, "'core20_28nm'"),
        (("--set", "workload.carry_stat=1"), 13, "'carry_state'"),
        (("--set", "workload.lr=fast"), 10, "lr"),
        (("--workers", "0"), 10, "workers"),
        (("--strategy", "fedavgg"), 11, "'fedavg'"),
        (("--worker", "3"), 2, "--workers"),
    ],
)
def test_a_wrong_name_ends_before_anything_starts(
    federation: Any, options: tuple[str, ...], code: int, hint: str
) -> None:
    done = federation.command("run", *options)
    assert done.returncode == code, done.stderr
    assert hint in done.stderr
    assert not federation.runs.exists()


def test_a_taken_port_is_named(federation: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for command in (("server", "--listen", address), ("run", *TINY, "--listen", address)):
            done = federation.command(*command)
            assert done.returncode == 21, done.stderr
            assert address in done.stderr.splitlines()[-1]


def test_strangers_are_turned_away_with_a_reason(federation: Any) -> None:
    federation.start_server("--out", "runs")
    (first,) = federation.start_workers(1)
    with grpc.insecure_channel(federation.address) as channel:
        stub = FleetServiceStub(channel)
        with pytest.raises(grpc.RpcError) as old:
            stub.Join(fleet_pb2.JoinRequest(name="old", version="9.9.9", newest_protocol=1), timeout=20)
        assert old.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert "'9.9.9'" in old.value.details()
        assert f"neurofed=={neurofed.__version__}" in old.value.details()
    federation.wait_for_join(first)
    twin = federation.command("worker", "join", federation.address, "--name", "worker-0")
    assert twin.returncode == 24, twin.stderr
    assert "'worker-0'" in twin.stderr.splitlines()[-1]
    assert first.poll() is None


def test_nobody_at_the_address_is_said(federation: Any) -> None:
    done = federation.command("worker", "join", "127.0.0.1:1", "--give-up-after-s", "0.5")
    assert done.returncode == 22, done.stderr
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]
