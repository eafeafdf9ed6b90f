"""What a federation costs before it trains, natively and in containers, and how soon faults are seen and healed.

Natively: processes of this machine. In containers: `neurofed cluster`, on the engine that DOCKER_HOST names and with
images built beforehand; without an engine those numbers are missing, and printed as missed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, finish, must
from benchmarks.drills import drill
from neurofed.cluster import faults
from neurofed.cluster.engine import connect, in_our_words
from neurofed.cluster.federation import Federation
from neurofed.cluster.layout import Plan
from neurofed.errors import EngineError

_NAME = "neurofed-benchmark"
_IMAGES = ("neurofed-server", "neurofed-worker")
_PATIENCE_S = 300.0
_SETTLE_S = 5.0
_SEED = 3
_CUT_S = 30.0

_DRILLS = {
    "worker killed: updates of the last round": 5,
    "worker paused: updates of the last round": 4,
    "aggregator killed: rounds with the models of a whole run": 4,
    "a link of 2 Mbit/s: updates of the last round": 5,
    "out of memory: told": 1,
}
"""What is to come of each drill."""

Numbers = dict[str, float | None]


def _wait(holds: Callable[[], bool], what: str) -> float:
    """Poll until something holds; returns how long it took, in seconds."""
    begun_s = time.monotonic()
    while not holds():
        if time.monotonic() - begun_s > _PATIENCE_S:
            raise TimeoutError(f"waited {_PATIENCE_S:g} s for {what}")
        time.sleep(0.05)
    return time.monotonic() - begun_s


def _neurofed(folder: Path, log: str, *words: str) -> subprocess.Popen[bytes]:
    with (folder / log).open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", "neurofed", *words], stdout=file, stderr=file, cwd=folder)


def _native(starts: int) -> list[dict[str, Any]]:
    """Start a worker on this machine a few times: seconds until it has joined, and its memory when idle."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        address = folder / "address"
        server = _neurofed(folder, "server.log", "server", "--listen", "127.0.0.1:0", "--address-file", str(address))
        try:
            _wait(address.exists, "the aggregator")
            for number in range(starts):
                log = folder / f"{number}.log"
                worker = _neurofed(
                    folder, log.name, "worker", "join", address.read_text(), "--name", "w", "--state-dir", "state"
                )
                try:
                    joined_s = _wait(lambda log=log: "joined the aggregator" in log.read_text(), "a worker")  # type: ignore[misc]
                    time.sleep(_SETTLE_S)
                    status = Path(f"/proc/{worker.pid}/status").read_text()
                    rss_bytes = int(status.partition("VmRSS:")[2].split()[0]) * 1024
                finally:
                    worker.terminate()
                    worker.wait()
                rows.append({"what": "native worker", "start_to_joined_s": joined_s, "idle_rss_bytes": rss_bytes})
        finally:
            server.terminate()
            server.wait()
    return rows


def _in_containers(rounds: int, *, drills: bool) -> Numbers:
    """Bring six containers up, train, do faults to them, and take all down again."""
    client = connect()
    with in_our_words("measuring the images"):
        numbers: Numbers = {f"{image} image": float(client.images.get(image).attrs["Size"]) for image in _IMAGES}
    plan = Plan(_NAME)
    federation = Federation(client, _NAME)
    federation.down(volumes=True)
    try:
        begun_s = time.monotonic()
        federation.up(plan)
        numbers["six containers healthy after, s"] = time.monotonic() - begun_s
        _wait(lambda: len(_joined(federation)) == plan.workers, "the workers")
        numbers["largest idle worker, as it says"] = max(float(row.rss_bytes or 0) for row in federation.status())
        numbers["equal models of rounds"] = _equal_rounds(federation, plan, rounds)
        with faults.cut(client, federation.worker("worker-3")):
            numbers["cut off: lost after, s"] = _wait(lambda: "worker-3" not in _joined(federation), "the loss")
            faults.hold(max(0.0, _CUT_S - (numbers["cut off: lost after, s"] or 0)), lambda _: None)
        numbers["cut off: back after, s"] = _wait(lambda: "worker-3" in _joined(federation), "its return")
        before = federation.worker("worker-2").attrs["RestartCount"]
        faults.kill(federation.worker("worker-2"))
        numbers["killed: back after, s"] = _wait(
            lambda: (
                federation.worker("worker-2").attrs["RestartCount"] > before
                and _joined(federation).get("worker-2", 99.0) < 2.0
            ),
            "its return",
        )
        if drills:
            numbers |= drill(client, federation, plan)
    finally:
        federation.down(volumes=True)
    return numbers


def _joined(federation: Federation) -> Mapping[str, float]:
    """Time since the last sign of life of each worker that is there, in seconds."""
    rows = [row for row in federation.status() if row.seen not in ("", "lost")]
    return {row.worker: row.heartbeat_age_s or 0.0 for row in rows}


def _equal_rounds(federation: Federation, plan: Plan, rounds: int) -> float:
    """Rounds whose global model is bit for bit that of `neurofed run` on this machine."""
    run = ["--preset", "tiny", "--rounds", str(rounds), "--seed", str(_SEED), "--run-id", "run"]
    image = federation.worker("worker-1").attrs["Config"]["Env"]
    crossover = {"NEUROFED_CROSSOVER": dict(entry.split("=", 1) for entry in image)["NEUROFED_CROSSOVER"]}
    # as in the containers, the kernels of OpenBLAS, which make the clips, are those of this processor
    variables = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"} | crossover
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-m", "neurofed", "run", *run, "--out", out, "--json"]
        here = json.loads(subprocess.run(words, capture_output=True, check=True, env=variables).stdout)["rounds"]
    for words in (["submit", *run], ["monitor", "run", "--json"]):
        code, output = federation.command(plan, words)
        if code:
            raise RuntimeError(f"{words} ended with {code}: {b''.join(output)[-500:]!r}")
    events = [json.loads(line) for line in b"".join(output).splitlines() if line.startswith(b"{")]
    there = [event["round_aggregated"]["model_sha256"] for event in events if "round_aggregated" in event]
    return float(sum(view["model_sha256"] == digest for view, digest in zip(here, there, strict=True)))


def main() -> None:
    """Measure, and say what was promised."""
    options = arguments(__doc__)
    starts, rounds = (1, 1) if options.quick else (5, 3)
    rows = _native(starts)
    try:
        numbers = _in_containers(rounds, drills=not options.quick)
    except EngineError as error:
        numbers = {}
        rows.append({"what": "containers", "missing": str(error)})
    rows += [{"what": name, "value": value} for name, value in numbers.items()]
    native = rows[:starts]
    joined_s = statistics.median(row["start_to_joined_s"] for row in native)
    equal, lost_s = numbers.get("equal models of rounds"), numbers.get("cut off: lost after, s")
    idle = numbers.get("largest idle worker, as it says")
    musts = [
        must("native: start to joined, median, s", joined_s, "<=", 6),
        must("native: idle worker, most, MiB", max(row["idle_rss_bytes"] for row in native) / 2**20, "<=", 300),
        must("containers: idle worker, most, MiB", _over(idle, 2**20), "<=", 300),
        must("containers: rounds equal to those of `neurofed run`", equal, "==", rounds),
        must("containers: cut off, lost after, s", lost_s, "<=", 15),
    ]
    for image in _IMAGES:
        musts.append(must(f"image {image}, GB", _over(numbers.get(f"{image} image"), 1e9), "<=", 1.3))
    for name, expected in {} if options.quick else _DRILLS.items():
        musts.append(must(f"containers: {name}", numbers.get(name), "==", expected))
    musts.append(must("CI: from nothing to an engine with images, s", _ready_s(), "<=", 600))
    finish("deploy", options, [_SEED], rows, musts)


def _ready_s() -> float | None:
    """How long .ci/run took on this machine to install and start an engine and to build images; None if it did not."""
    file = Path(os.environ.get("NEUROFED_ENGINE_DIR", "/var/tmp/neurofed-engine")) / "ready_s"  # noqa: S108 (.ci/run's)
    return float(file.read_text()) if file.exists() else None


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


if __name__ == "__main__":
    main()
