"""`docker compose up` on a real engine: six containers, a run, and what happens to them in the field."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_docker import BLAS_CHOICE, ROOT, Compose, asked, need_engine, prometheus_image, scraped, wait_until

from neurofed.cluster import faults
from neurofed.cluster.federation import Federation, Row

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PROJECT = "neurofed-test"
LONG = ("--rounds", "4", "--set", "workload.local_epochs=8")


@pytest.fixture(scope="module")
def engine() -> Any:
    return need_engine()


@pytest.fixture(scope="module")
def compose(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The project, up and healthy."""
    compose = Compose(engine, PROJECT, tmp_path_factory.mktemp("compose"))
    compose("down", "--volumes", "--remove-orphans")
    try:
        up = compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "300", timeout=400)
        assert up.returncode == 0, up.stderr + compose("logs", "--tail", "5").stdout
        yield compose
    finally:
        compose("down", "--volumes", "--remove-orphans")


@pytest.fixture
def federation(engine: Any, compose: Compose) -> Federation:
    """Its view, with all five workers joined."""
    federation = Federation(engine, PROJECT)
    wait_until(lambda: len(_joined(federation)) == 5, "five joined workers")
    return federation


def _joined(federation: Federation) -> dict[str, Row]:
    rows = {row.worker: row for row in federation.status() if row.worker}
    return {name: row for name, row in rows.items() if row.seen not in ("", "lost")}


def _worker(federation: Federation, name: str) -> Row:
    return next(row for row in federation.status() if row.worker == name)


def _finish(compose: Compose, run_id: str) -> None:
    """The run ends, and well."""
    end = compose.wait_for(run_id, "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")


def _updates(compose: Compose, run_id: str) -> list[int]:
    return [event.round_aggregated.updates for event in compose.events(run_id, "round_aggregated")]


def _inspect(engine: Any, name: str) -> dict[str, Any]:
    attributes: dict[str, Any] = engine.containers.get(name).attrs
    return attributes


def test_six_containers_are_healthy_and_each_replica_has_its_name(federation: Federation) -> None:
    rows = federation.status()
    assert {row.container for row in rows} == {
        f"{PROJECT}-aggregator-1",
        *(f"{PROJECT}-worker-{k}" for k in range(1, 6)),
    }
    assert {row.health for row in rows} == {"healthy"}
    assert {row.seen for row in rows if row.worker} == {"idle"}
    assert all(row.rss_bytes for row in rows if row.worker)


def test_a_container_lacks_nothing(engine: Any, federation: Federation) -> None:
    done = federation.worker("worker-1").exec_run(["neurofed", "doctor", "--json", "--state-dir", "/state"], demux=True)
    levels = {finding["check"]: finding["level"] for finding in json.loads(done.output[0])["findings"]}
    assert set(levels.values()) <= {"ok", "warning"}
    assert (levels["torch"], levels["kernels"], levels["disk"]) == ("ok", "ok", "ok")


@pytest.mark.parametrize(
    ("image", "arguments", "exit_code", "hint"),
    [
        ("neurofed-worker", ["doctor", "--state-dir", "/given/state"], 61, "expected to write to /given/state as user"),
        (
            "neurofed-server",
            ["server", "--insecure", "--listen", "127.0.0.1:0", "--out", "/given/runs"],
            37,
            "/given/runs",
        ),
    ],
)
def test_a_volume_of_another_user_is_told_of(
    engine: Any, image: str, arguments: list[str], exit_code: int, hint: str
) -> None:
    container = engine.containers.run(
        image, arguments, volumes={f"{PROJECT}_of-root": {"bind": "/given"}}, detach=True,
        network_mode="none",
    )  # fmt: skip
    try:
        assert container.wait(timeout=120)["StatusCode"] == exit_code
        told = container.logs().decode()
        assert hint in told
        assert "Permission denied" in told
    finally:
        container.remove(force=True)
        engine.volumes.get(f"{PROJECT}_of-root").remove()


def test_the_containers_have_no_more_rights_than_they_need(engine: Any, federation: Federation) -> None:
    for row in federation.status():
        found = _inspect(engine, row.container)
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] == 200
        assert host["PortBindings"] in ({}, None)
    assert engine.networks.get(f"{PROJECT}_fleet").attrs["Internal"]
    keys = engine.containers.get(f"{PROJECT}-worker-1").exec_run(["ls", "/tls", "/pki"])
    assert b"ca.key" not in keys.output
    assert b"operator" not in keys.output


def test_the_page_shows_its_numbers_to_who_has_the_token_that_monitoring_gets(
    engine: Any, federation: Federation
) -> None:
    script = (
        "import ssl, sys, urllib.request as r\n"
        "context = ssl.create_default_context(cafile='/etc/neurofed/ca.crt')\n"
        "token = sys.argv[1] or open('/etc/neurofed/viewer-token').read().strip()\n"
        "request = r.Request('https://aggregator:8080/metrics', headers={'Authorization': 'Bearer ' + token})\n"
        "print(r.urlopen(request, context=context).read().decode())"
    )

    def scrape(token: str) -> str:
        output: bytes = engine.containers.run(
            "neurofed-worker",
            ["-c", script, token],
            entrypoint="python",
            user="65534",
            network=f"{PROJECT}_fleet",
            volumes={f"{PROJECT}_monitoring-tls": {"bind": "/etc/neurofed", "mode": "ro"}},
            remove=True,
        )
        return output.decode()

    assert "neurofed_" in scrape("")
    with pytest.raises(Exception, match="401"):
        scrape("x" * 48)


def test_a_run_gives_the_weights_of_a_run_on_this_machine(
    engine: Any, compose: Compose, federation: Federation, tmp_path: Path
) -> None:
    variables = dict(entry.split("=", 1) for entry in _inspect(engine, f"{PROJECT}-worker-1")["Config"]["Env"])
    crossover = {"NEUROFED_CROSSOVER": variables["NEUROFED_CROSSOVER"]}
    compose.submit("same", "--rounds", "3")
    watched = compose.cli("monitor", "same", "--json")
    assert watched.returncode == 0, watched.stderr
    options = ("--preset", "tiny", "--seed", "3", "--rounds", "3", "--run-id", "same", "--out", str(tmp_path), "--json")
    here = subprocess.run(
        [sys.executable, "-m", "neurofed", "run", *options],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != BLAS_CHOICE} | crossover,
    )
    there = compose.report("same")
    assert compose.digests("same") == [view["model_sha256"] for view in json.loads(here.stdout)["rounds"]]
    assert [part["name"] for part in there["rounds"][0]["workers"]] == [f"worker-{k}" for k in range(1, 6)]
    assert compose.read("/runs/same/report.html").startswith("<!doctype html>")


def test_a_killed_worker_comes_back_by_its_name_and_the_run_ends(
    engine: Any, compose: Compose, federation: Federation
) -> None:
    compose.submit("killed", *LONG)
    compose.wait_for("killed", "task_progress")
    faults.kill(federation.worker("worker-2"))
    _finish(compose, "killed")
    wait_until(lambda: "worker-2" in _joined(federation), "worker-2")
    assert _worker(federation, "worker-2").restarts >= 1
    assert _updates(compose, "killed")[-1] == 5, "who came back takes part again"
    assert {row.worker for row in federation.status() if row.worker} == {f"worker-{k}" for k in range(1, 6)}


def test_who_is_cut_off_is_lost_within_15_s_and_takes_part_again_later(
    engine: Any, compose: Compose, federation: Federation
) -> None:
    begun_s = time.monotonic()
    with faults.cut(engine, federation.worker("worker-3")):
        cut_s = time.monotonic()
        wait_until(lambda: "worker-3" not in _joined(federation), "the loss of worker-3", 15.0)
        faults.hold(30.0 - (time.monotonic() - cut_s), lambda _: None)
    assert time.monotonic() - begun_s >= 30.0
    wait_until(lambda: "worker-3" in _joined(federation), "worker-3")
    compose.submit("after-cut", "--rounds", "1")
    _finish(compose, "after-cut")
    assert _updates(compose, "after-cut") == [5]


def test_a_stalled_worker_is_not_waited_for_beyond_the_deadline(
    engine: Any, compose: Compose, federation: Federation
) -> None:
    compose.submit("stalled", *LONG, "--min-workers", "4", "--round-timeout-s", "60")
    compose.wait_for("stalled", "task_progress")
    with faults.paused(federation.worker("worker-4")):
        assert _worker(federation, "worker-4").state == "paused"
        _finish(compose, "stalled")
    assert _updates(compose, "stalled")[-1] == 4
    wait_until(lambda: "worker-4" in _joined(federation), "worker-4")


def test_a_killed_aggregator_goes_on_with_the_weights_it_would_have_had(
    engine: Any, compose: Compose, federation: Federation
) -> None:
    compose.submit("whole", *LONG)
    _finish(compose, "whole")
    compose.submit("resumed", *LONG)
    compose.wait_for("resumed", "checkpoint_written")
    faults.kill(engine.containers.get(f"{PROJECT}-aggregator-1"))
    _finish(compose, "resumed")
    assert len(compose.events("resumed", "run_started")) == 2, "it was resumed"
    assert compose.digests("resumed") == compose.digests("whole")


def test_a_worker_without_memory_enough_is_told_of(engine: Any, federation: Federation) -> None:
    like = federation.worker("worker-1")
    labels = {**like.labels, "com.docker.compose.container-number": "99"}
    container = engine.containers.run(
        "neurofed-worker", ["worker"], name=f"{PROJECT}-worker-99", labels=labels, mem_limit="48m", memswap_limit="48m",
        tmpfs={"/tmp": ""}, network=f"{PROJECT}_fleet", environment={"NEUROFED_INSECURE": "1"}, detach=True,
    )  # fmt: skip
    try:
        assert container.wait(timeout=120)["StatusCode"] == 137
        assert _worker(federation, "worker-99").state == "out of memory"
    finally:
        container.remove(force=True)


def test_a_worker_on_2_mbit_takes_part(engine: Any, compose: Compose, federation: Federation) -> None:
    with faults.slowed(engine, federation.worker("worker-5"), 2000):
        compose.submit("slow", "--rounds", "2")
        _finish(compose, "slow")
    assert _updates(compose, "slow") == [5, 5]


def test_a_worker_on_a_trickle_is_left_behind_at_the_deadline(
    engine: Any, compose: Compose, federation: Federation
) -> None:
    with faults.slowed(engine, federation.worker("worker-5"), 8):
        # an update of this preset has some 100 kB, more than a minute and a half of such a link
        slow = ("--preset", "small", "--rounds", "1", "--min-workers", "4", "--round-timeout-s", "60")
        compose.submit("trickle", *slow)
        _finish(compose, "trickle")
    assert _updates(compose, "trickle") == [4]
    wait_until(lambda: "worker-5" in _joined(federation), "worker-5")


def test_prometheus_sees_the_aggregator_and_each_worker(
    engine: Any, compose: Compose, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROFED_PROMETHEUS_IMAGE", prometheus_image(engine))
    up = compose("--profile", "monitoring", "up", "--detach", "--no-build", "--pull", "never", "prometheus")
    assert up.returncode == 0, up.stderr
    prometheus = engine.containers.get(f"{PROJECT}-prometheus-1")
    try:
        wait_until(lambda: scraped(prometheus) == {"neurofed": ["up"], "neurofed-worker": ["up"] * 5}, "all six")
        compose.submit("watched", "--rounds", "1")
        _finish(compose, "watched")
        steps = 'sum(neurofed_worker_steps_total{job="neurofed-worker"})'
        wait_until(lambda: asked(prometheus, "query", steps)["result"] != [], "steps")
        groups = asked(prometheus, "rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        assert {rule["type"] for group in groups for rule in group["rules"]} == {"alerting", "recording"}
    finally:
        compose("--profile", "monitoring", "rm", "--stop", "--force", "prometheus")


def test_who_is_revoked_is_put_out(compose: Compose, federation: Federation) -> None:
    done = compose("run", "--rm", "--no-TTY", "provision", "provision", "revoke", "worker-1")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "worker-1" not in _joined(federation), "worker-1 to be put out")
    assert len(_joined(federation)) == 4


def test_the_file_is_what_compose_understands() -> None:
    need_engine()
    for files in (["compose.yaml"], ["compose.yaml", "compose.publish.yaml"]):
        named = [word for name in files for word in ("--file", str(ROOT / "deploy" / name))]
        done = subprocess.run(
            ["docker", "compose", *named, "--profile", "*", "config", "--quiet"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
