"""What a board says of itself: the facts that a heartbeat carries."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from neurofed.v1 import fleet_pb2

THERMAL = Path("/sys/class/thermal")
PROCESS = Path("/proc/self")
_PLAUSIBLE_C = (-40.0, 150.0)
"""Drivers that have no reading yet report values far outside."""


def heartbeat(thermal: Path = THERMAL, process: Path = PROCESS, rested_s: float = 0.0) -> fleet_pb2.Heartbeat:
    """A heartbeat with the board's facts of this moment.

    Args:
        thermal: Linux's folder of thermal zones.
        process: this process in Linux's process table.
        rested_s: how long training has rested so far for the board to cool, in seconds.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return fleet_pb2.Heartbeat(
        cpu_s=usage.ru_utime + usage.ru_stime,
        rss_bytes=_resident_bytes(process, usage.ru_maxrss * 1024),
        temperature_c=temperature_c(thermal),
        rested_s=rested_s,
    )


def _resident_bytes(process: Path, most: int) -> int:
    """Resident memory now; the most there ever was where the system does not tell."""
    try:
        return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return most


def temperature_c(thermal: Path = THERMAL) -> float | None:
    """Temperature of the hottest zone, in degrees Celsius; None where no zone has a plausible one."""
    found = []
    for zone in thermal.glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):  # a zone may be switched off
            continue
    low, high = _PLAUSIBLE_C
    return max((value for value in found if low <= value <= high), default=None)
