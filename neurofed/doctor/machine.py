"""Checks of the machine alone: Python, processor, memory, disk. Tests put other facts in their place."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from neurofed.doctor.finding import Finding, failure, ok, warning
from neurofed.files import write_atomically
from neurofed.units import data

OLDEST_PYTHON = (3, 11)
IDLE_BYTES = 400_000_000
"""Below this a worker is killed as soon as it trains: idle, with torch loaded, 258 MiB were measured."""
GOOD_BYTES = 1_000_000_000
FULL_BYTES = 100_000_000
ROOMY_BYTES = 1_000_000_000
_TORCH_TIMEOUT_S = 120.0
_MACHINES_64 = ("x86_64", "amd64", "aarch64", "arm64")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of control groups, version 2 and 1."""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Is Python new enough?"""
    got = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        expected = ".".join(map(str, OLDEST_PYTHON))
        return failure("python", f"expected Python {expected} or newer, got {got}: install one beside it")
    return ok("python", got)


def check_processor(machine: str | None = None, pointer_bytes: int = struct.calcsize("P")) -> Finding:
    """Is there a torch for this kind of processor, and for the system that runs on it?"""
    machine = machine or platform.machine()
    if machine.lower() not in _MACHINES_64:
        kind = "32-bit ARM" if machine.lower().startswith("arm") else machine
        return failure(
            "processor",
            f"expected x86-64 or 64-bit ARM, got {kind} ({machine}): there is no torch for it; "
            "on a board with a 64-bit processor install a 64-bit system",
        )
    if pointer_bytes < 8:
        return failure(
            "processor",
            f"expected a 64-bit system, got a 32-bit one on {machine}: there is no torch for it; install a 64-bit one",
        )
    return ok("processor", machine)


def check_torch(program: str = "import torch; print(torch.__version__)") -> Finding:
    """Does torch load? In a process of its own, since on a processor that is too old it ends the process."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=_TORCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return failure("torch", f"expected torch to load within {_TORCH_TIMEOUT_S:g} s, got nothing: look at the disk")
    if done.returncode < 0:
        return failure(
            "torch",
            f"expected torch to load, got signal {-done.returncode}: this torch uses instructions that the processor "
            "does not have; install an older one (2.9 or newer will do)",
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return failure("torch", f"expected torch to load, got {reason}: install it again (deploy/edge/install.sh does)")
    return ok("torch", done.stdout.strip())


def check_kernels(library: Path | None, why: str) -> Finding:
    """Are there kernels for this processor, and do they load?

    Args:
        library: the kernels, or None.
        why: where they are from, or why there are none.
    """
    slow = "training works, by plain torch, slower and with other last bits"
    if library is None:
        return warning("kernels", f"expected kernels for this processor, got none ({why}): {slow}; install gcc")
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return warning("kernels", f"expected kernels that load, got: {error}: {slow}; install what it names (libgomp1)")
    return ok("kernels", why)


def check_memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> Finding:
    """Is there memory enough, on the machine and within the limit that holds for this process?"""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        available = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return warning("memory", f"expected to find out how much is free, got nothing from {meminfo}")
    limits = []
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # absent, or the word max
            limits.append(int((groups / name).read_text()))
    most = min([available, *limits])
    got = f"{data(most)} {'is the limit' if most < available else 'free'}"
    if most < IDLE_BYTES:
        return failure("memory", f"expected {data(IDLE_BYTES)}, got {got}: end other programs, or raise the limit")
    if most < GOOD_BYTES:
        return warning("memory", f"{got}: enough for small models; {data(GOOD_BYTES)} is comfortable")
    return ok("memory", got)


def check_disk(folder: Path, free_bytes: int | None = None) -> Finding:
    """Can the worker keep its state in a folder?

    Args:
        folder: where it keeps it; made if it is not there.
        free_bytes: what is free there; None finds out.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor") as temporary:
            write_atomically(Path(temporary) / "probe", b"\0" * 4096)
        free = shutil.disk_usage(folder).free if free_bytes is None else free_bytes
    except Exception as error:
        told = error.__cause__ or error
        reason = told.strerror if isinstance(told, OSError) else str(told)
        return failure(
            "disk",
            f"expected to write to {folder} as user {os.getuid()}, got: {reason}: give the folder to that user, "
            "make room, or name another with --state-dir",
        )
    if free < FULL_BYTES:
        return failure("disk", f"expected {data(FULL_BYTES)} free in {folder}, got {data(free)}: make room")
    if free < ROOMY_BYTES:
        return warning("disk", f"{data(free)} free in {folder}: {data(ROOMY_BYTES)} is comfortable")
    return ok("disk", f"{data(free)} free in {folder}")
