"""`neurofed cluster` on a real engine, and without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from support import need
from support_docker import ROOT, need_engine

from neurofed.cluster.layout import Plan, worker_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NAME = "neurofed-cluster-test"


def _cluster(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurofed", "cluster", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=env)


def test_without_an_engine_it_says_what_to_do() -> None:
    need("docker", "docker")
    done = _cluster("status", DOCKER_HOST="unix:///nowhere/docker.sock")
    assert done.returncode == 62
    assert "start Docker, set DOCKER_HOST" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_container_names_its_worker() -> None:
    assert worker_of("neurofed-worker-3") == "worker-3"
    assert worker_of("a-project_worker_12") == "worker-12"
    assert worker_of("worker") == ""


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    """An engine, with nothing of ours left on it afterwards."""
    client = need_engine()
    _cluster("down", "--name", NAME, "--volumes")
    try:
        yield client
    finally:
        _cluster("down", "--name", NAME, "--volumes")


def _rows(*arguments: str) -> dict[str, dict[str, Any]]:
    done = _cluster(*arguments, "--name", NAME, "--json")
    assert done.returncode == 0, done.stderr
    return {row["container"]: row for row in json.loads(done.stdout)}


def test_a_federation_comes_up_trains_grows_shrinks_and_goes(engine: Any) -> None:
    rows = _rows("up", "--workers", "2", "--worker-memory", "900m")
    assert set(rows) == {f"{NAME}-aggregator-1", f"{NAME}-worker-1", f"{NAME}-worker-2"}
    assert {row["health"] for row in rows.values()} == {"healthy"}
    run = ("submit", "--preset", "tiny", "--rounds", "1", "--workers", "2", "--run-id", "r")
    submitted = _cluster("do", "--name", NAME, *run)
    assert (submitted.returncode, submitted.stdout) == (0, "r\n"), submitted.stderr
    watched = _cluster("do", "--name", NAME, "monitor", "r", "--json")
    assert watched.returncode == 0, watched.stdout
    grown = _rows("scale", "3")
    assert f"{NAME}-worker-3" in grown
    limits = {engine.containers.get(f"{NAME}-worker-{k}").attrs["HostConfig"]["Memory"] for k in (1, 2, 3)}
    assert limits == {900 << 20}, "a new worker is like the others"
    assert set(_rows("scale", "1")) == {f"{NAME}-aggregator-1", f"{NAME}-worker-1"}
    gone = _cluster("fault", "kill", "worker-2", "--name", NAME)
    assert gone.returncode == 10
    assert "did you mean 'worker-1'" in gone.stderr
    assert _cluster("down", "--name", NAME).returncode == 0
    assert _cluster("status", "--name", NAME).returncode == 62


def test_the_containers_are_those_that_compose_makes(engine: Any) -> None:
    """deploy/compose.yaml and `neurofed.cluster.layout` say the same."""
    compose = ["docker", "compose", "--file", str(ROOT / "deploy/compose.yaml"), "--project-name", "neurofed"]
    done = subprocess.run([*compose, "config", "--format", "json"], capture_output=True, text=True, check=True)
    services = json.loads(done.stdout)["services"]
    plan = Plan()
    for ours, theirs in ((plan.worker(1), services["worker"]), (plan.aggregator(), services["aggregator"])):
        assert ours["image"] == theirs["image"]
        assert ours["command"] == theirs["command"]
        assert ours["read_only"] == theirs["read_only"]
        assert ours["cap_drop"] == theirs["cap_drop"]
        assert ours["security_opt"] == theirs["security_opt"]
        assert ours["pids_limit"] == theirs["pids_limit"]
        assert ours["restart_policy"]["Name"] == theirs["restart"]
        assert ours["log_config"]["config"] == theirs["logging"]["options"]
        assert [f"{path}:{options}" for path, options in ours["tmpfs"].items()] == theirs["tmpfs"]
        assert int(ours["mem_limit"].rstrip("g")) << 30 == int(theirs["mem_limit"])
        assert ours["nano_cpus"] == int(theirs["cpus"] * 1e9)
        mounts = {f"neurofed_{v['source']}": (v["target"], v.get("read_only", False)) for v in theirs["volumes"]}
        assert {n: (m["bind"], m["mode"] == "ro") for n, m in ours["volumes"].items()} == mounts
