"""What may happen to an aggregator's disk and clock: damaged checkpoints, a full disk, a clock that jumps."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.fleet import skewed
from benchmarks.fleet.kills import Undisturbed
from benchmarks.fleet.processes import Fleet
from neurofed.v1.control_pb2 import RunState

_DISK_BYTES = 24 << 20
_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped in the middle": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :]
    ),
    "a bit flipped in the header": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "the second half missing": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "zeros": lambda data: bytes(len(data)),
}


def damaged_checkpoints(fleet: Fleet, kinds: int, known: Undisturbed) -> dict[str, Any]:
    """Kill the aggregator, damage its newest checkpoint, start it again; one run for each kind of damage."""
    equal = told = 0
    for name, damage in list(_DAMAGES.items())[:kinds]:
        run_id = f"damaged-{name.replace(' ', '-')}"
        fleet.submit(run_id, known.run)
        fleet.wait_for(run_id, "checkpoint_written", 5)
        fleet.aggregator.kill()
        newest = max((fleet.runs / run_id / "checkpoints").glob("round-*"))
        newest.write_bytes(damage(newest.read_bytes()))
        fleet.start_aggregator()
        equal += fleet.finish(run_id) == known.digests
        told += any(entry.body["file"].endswith(newest.name) for entry in fleet.events(run_id, "checkpoint_skipped"))
    return {"count": kinds, "runs": kinds, "equal": equal, "told": told}


def full_disk(fleet: Fleet, known: Undisturbed) -> dict[str, Any]:
    """Fill the disk in the middle of a run, free it when the run has failed, and let the run go on."""
    row: dict[str, Any] = {"count": 1, "runs": 1}
    if os.geteuid() != 0:
        return {**row, "skipped": "mounting a small disk needs root"}
    usual = fleet.runs
    small = fleet.folder / "small"
    with _small_disk(small) as mounted:
        if not mounted:
            return {**row, "skipped": "no small disk can be mounted here"}
        fleet.use_folder(small)
        try:
            fleet.submit("full", known.run)
            fleet.wait_for("full", "checkpoint_written", 3)
            ballast = small / "ballast"
            _fill(ballast)
            fleet.wait_until(
                lambda: fleet.listed("full").state == RunState.RUN_STATE_FAILED, "the full disk to be told"
            )
            row["reason"] = fleet.listed("full").reason
            row["told"] = int("disk" in row["reason"])
            ballast.unlink()
            fleet.resume("full")
            fleet.wait_for("full", "run_resumed")
            row["equal"] = int(fleet.finish("full") == known.digests)
        finally:
            fleet.use_folder(usual)
    return row


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "neurofed-chaos", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def clock_jumps(fleet: Fleet, known: Undisturbed) -> dict[str, Any]:
    """Let the aggregator's clock jump a day ahead and then two back, in the middle of a run.

    Python's clock: the C library of gRPC has its own, which a process cannot be lied to about without a library that
    is not everywhere.
    """
    offset = fleet.folder / "clock"
    offset.write_text("0")
    fleet.restart_aggregator(module=(skewed.__name__, str(offset)))
    try:
        fleet.submit("clock", known.run)
        for hours in (24, -24):
            fleet.wait_for("clock", "checkpoint_written", fleet.count("clock", "checkpoint_written") + 3)
            skewed.set_offset(offset, hours * 3600.0)
        digests = fleet.finish("clock")
    finally:
        fleet.restart_aggregator()
    times = [entry.time_s for entry in fleet.events("clock")]
    return {
        "count": 2,
        "runs": 1,
        "equal": int(digests == known.digests),
        "largest_step_of_event_times_h": max(abs(b - a) for a, b in itertools.pairwise(times)) / 3600,
    }
