"""A worker for 64-bit ARM, emulated by qemu, in a federation with an aggregator of this machine. Only on request.

    NEUROFED_ARM64=1 pytest tests/e2e/test_arm64.py

Emulation shows that it works, and nothing of a board's speed or energy.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("NEUROFED_ARM64"), reason="takes minutes: NEUROFED_ARM64=1 asks for it"),
]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def emulated() -> Path:
    """A userland for ARM, made where it is absent."""
    done = subprocess.run([ROOT / "deploy/ci/arm64.sh"], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    return Path(done.stdout.strip())


@pytest.fixture
def python(emulated: Path, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a Python for ARM that has this checkout."""
    metadata = next(path for path in importlib.metadata.files("neurofed") or () if path.name == "entry_points.txt")
    folder = Path(str(metadata.locate())).parent
    shutil.copytree(folder, tmp_path / "installed" / folder.name)
    path = (tmp_path / "installed", ROOT, emulated / "opt/site")
    environment = {
        "PATH": "/nonexistent",  # no compiler of this machine: its kernels would be none for ARM
        "HOME": str(tmp_path),
        "PYTHONHOME": str(emulated / "usr"),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }
    qemu = shutil.which("qemu-aarch64-static")
    assert qemu is not None
    return [qemu, "-L", str(emulated), str(emulated / "usr/bin/python3.11")], environment


def _wait_until(holds: Callable[[], bool]) -> None:
    """Emulation is some ninety times slower, so patience is greater than elsewhere."""
    deadline_s = time.monotonic() + 900
    while not holds():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.2)


def test_an_arm_worker_trains_a_round_for_an_aggregator_of_another_kind(
    federation: Any, python: tuple[list[str], dict[str, str]]
) -> None:
    command, environment = python
    told = subprocess.run(
        [*command, "-c", "import platform, torch; print(platform.machine(), torch.__version__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["aarch64", "2.9.1+cpu"]
    federation.start_server("--out", "runs", "--grace-s", "30")
    log = federation.folder / "arm.log"
    join = ["-m", "neurofed", "worker", "join", federation.address, "--name", "arm"]
    with log.open("w") as file:
        worker = subprocess.Popen([*command, *join], env=environment, stdout=file, stderr=file, start_new_session=True)
    federation.processes.append(worker)
    _wait_until(lambda: "joined the aggregator" in log.read_text() or worker.poll() is not None)
    assert worker.poll() is None, log.read_text()
    run = ("--preset", "tiny", "--rounds", "1", "--workers", "1", "--run-id", "r")
    submitted = federation.command("submit", "--address", federation.address, *run)
    assert submitted.returncode == 0, submitted.stderr
    _wait_until(lambda: bool(federation.events("r", "run_finished")) or worker.poll() is not None)
    assert worker.poll() is None, log.read_text()
    end = federation.wait_for("r", "run_finished").run_finished
    assert (end.exit_code, end.reason) == (0, "")
    assert [event.round_aggregated.updates for event in federation.events("r", "round_aggregated")] == [1]
