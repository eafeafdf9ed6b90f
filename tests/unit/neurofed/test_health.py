"""The health probe against a real aggregator's health service, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


@pytest.fixture
def servicer() -> Iterator[tuple[str, health.HealthServicer]]:
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        server.stop(None).wait()


def _probe(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "neurofed.health", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_who_serves_is_well(servicer: tuple[str, health.HealthServicer]) -> None:
    address, service = servicer
    service.set("", health_pb2.HealthCheckResponse.SERVING)
    service.set("neurofed.v1.FleetService", health_pb2.HealthCheckResponse.SERVING)
    assert _probe(address) == (0, "")
    assert _probe(address, "--service", "neurofed.v1.FleetService") == (0, "")


def test_who_is_going_down_is_not(servicer: tuple[str, health.HealthServicer]) -> None:
    address, service = servicer
    service.enter_graceful_shutdown()
    code, line = _probe(address)
    assert code == 1
    assert line == f"neurofed: expected the aggregator at {address} to serve, got NOT_SERVING\n"


def test_nobody_there_is_one_line() -> None:
    code, line = _probe("127.0.0.1:1", "--timeout-s", "3")
    assert code == 1
    assert "nobody answered" in line
    assert line.count("\n") == 1


def test_plain_text_off_this_machine_is_refused() -> None:
    code, line = _probe("192.0.2.1:9050")
    assert (code, line.count("\n")) == (1, 1)
    assert "expected TLS for 192.0.2.1" in line


def test_it_loads_neither_torch_nor_flwr() -> None:
    source = "import sys, runpy; sys.argv = ['health', '127.0.0.1:1', '--timeout-s', '1']\ntry:\n"
    source += "    runpy.run_module('neurofed.health', run_name='__main__')\n"
    source += "finally:\n    print({'torch', 'flwr', 'click', 'cryptography', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "set()\n", done.stderr
