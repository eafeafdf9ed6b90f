"""How the two processes begin, are looked at, end and come back."""

from __future__ import annotations

import os
import signal
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(170)]

TINY = ("--preset", "tiny", "--seed", "3", "--workers", "2")
SERVICES = {"neurofed.v1.FleetService", "neurofed.v1.ControlService", "neurofed.v1.MonitorService"}


def _services(address: str) -> set[str]:
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (answer,) = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20
        )
        return {service.name for service in answer.list_services_response.service}


def test_each_service_tells_of_its_health(federation: Any) -> None:
    federation.start_server("--out", "runs")
    with grpc.insecure_channel(federation.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICES):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_is_there_for_those_who_ask_for_it(federation: Any) -> None:
    federation.start_server("--out", "runs")
    with pytest.raises(grpc.RpcError) as refused:
        _services(federation.address)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    federation.start_server("--out", "others", "--reflection")
    assert _services(federation.address) >= SERVICES


def test_an_aggregator_and_its_workers_end_in_order_and_the_run_goes_on_with_the_same_weights(federation: Any) -> None:
    server = federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    options = ("--rounds", "4", "--set", "workload.local_epochs=8")
    for run_id in ("whole", "cut"):
        done = federation.command("submit", "--address", federation.address, *TINY, *options, "--run-id", run_id)
        assert done.returncode == 0, done.stderr
    federation.wait_for("cut", "checkpoint_written", 2)
    federation.wait_for("cut", "task_progress")
    server.send_signal(signal.SIGTERM)
    assert server.wait(100) == 0, federation.log_of(server)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(100) == 0, federation.log_of(worker)
    federation.start_server("--out", "runs", "--resume", "cut")
    federation.start_workers(2)
    end = federation.wait_for("cut", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    digests = [[view["model_sha256"] for view in federation.report(run_id)["rounds"]] for run_id in ("whole", "cut")]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 4


def test_a_worker_that_is_to_end_does_not_finish_its_task_first(federation: Any) -> None:
    federation.start_server("--out", "runs")
    workers = federation.start_workers(2)
    long = ("--rounds", "1", "--set", "workload.local_epochs=400")
    done = federation.command("submit", "--address", federation.address, *TINY, *long, "--run-id", "r")
    assert done.returncode == 0, done.stderr
    federation.wait_for("r", "task_progress", 2)
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert [worker.wait(100) for worker in workers] == [0, 0]


def test_a_killed_worker_that_is_started_again_in_time_changes_nothing(federation: Any) -> None:
    federation.start_server("--out", "runs", "--grace-s", "100")
    workers = federation.start_workers(2)
    options = ("--rounds", "3", "--set", "workload.local_epochs=8")
    for run_id in ("whole", "hurt"):
        done = federation.command("submit", "--address", federation.address, *TINY, *options, "--run-id", run_id)
        assert done.returncode == 0, done.stderr
    for kills in (1, 2):
        federation.wait_for("hurt", "checkpoint_written", kills)
        seen = len(federation.events("hurt", "task_progress"))
        federation.wait_for("hurt", "task_progress", seen + 1)
        os.kill(workers[0].pid, signal.SIGKILL)
        workers[0].wait()
        workers[0] = federation.start("worker", "join", federation.address, "--name", "worker-0")
    end = federation.wait_for("hurt", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    assert federation.events("hurt", "worker_lost") == []
    digests = [[view["model_sha256"] for view in federation.report(run_id)["rounds"]] for run_id in ("whole", "hurt")]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 3
