"""Bounds a worker's memory: a task that needs more fails and says so, instead of the kernel killing the worker."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

from neurofed.errors import ConfigError, UnfitError
from neurofed.rope import Buffer, Rope
from neurofed.v1 import records_pb2
from worker.jobs import Execute, RunningTask

_MIB = 1 << 20
_LEAST_FREE_MIB = 128
"""Less than this above an idle worker's and no task fits: the smallest one took some 200 MiB."""


def bound(limit_mib: int, status: Path = Path("/proc/self/status")) -> None:
    """Let the kernel refuse this process's data to grow beyond a limit (RLIMIT_DATA of setrlimit(2)).

    What is mapped from files is not counted: libraries, of which some 60 MiB were resident when measured.

    Args:
        limit_mib: the most, in MiB.
        status: where Linux tells how much there is now.

    Raises:
        ConfigError: if no task would fit.
    """
    used_mib = int(status.read_text().partition("VmData:")[2].split()[0]) // 1024
    if limit_mib < used_mib + _LEAST_FREE_MIB:
        raise ConfigError(
            f"--memory-limit-mib: expected at least {used_mib + _LEAST_FREE_MIB}, got {limit_mib}: "
            f"an idle worker holds {used_mib} MiB of data, and training needs more"
        )
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit_mib * _MIB
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def told(execute: Execute, limit_mib: int) -> Execute:
    """The same function, which says in our words that a task does not fit."""

    def executed(running: RunningTask) -> tuple[records_pb2.Content, Buffer | Rope]:
        try:
            return execute(running)
        except (MemoryError, OSError, RuntimeError) as error:
            if not _is_shortage(error):
                raise
            raise UnfitError(
                f"expected the task to fit into {limit_mib} MiB, got a task that does not: smaller batches, fewer "
                "time steps, or a larger --memory-limit-mib"
            ) from error

    return executed


def _is_shortage(error: Exception) -> bool:
    """Memory ran out, as Python, the system or torch's allocator says it."""
    by_system = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return by_system or isinstance(error, MemoryError) or "can't allocate memory" in str(error)
