"""Finds installed workloads through the entry-point group `neurofed.workloads`.

The built-in ones are registered by the same door as any other:

    [project.entry-points."neurofed.workloads"]
    video-classification = "workloads.video_classification:WORKLOAD"
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from neurofed.errors import ConfigError, UnknownNameError, nearest
from workloads.base import Workload

GROUP = "neurofed.workloads"
"""The entry-point group."""


def available() -> Mapping[str, EntryPoint]:
    """Entry points of the installed workloads by name, in alphabetical order; none of them is imported."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def load(name: str) -> Workload[Any]:
    """Imports one workload.

    Args:
        name: the name of its entry point.

    Raises:
        UnknownNameError: if no installed package has such a workload.
        ConfigError: if the package has it, but it cannot be imported or is no workload.
    """
    points = available()
    if name not in points:
        raise UnknownNameError(f"no workload {name!r} is installed: {nearest(name, points)}")
    point = points[name]
    try:
        workload = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"workload {name!r} ({point.value}) cannot be imported: {error}") from error
    if not isinstance(workload, Workload):
        raise ConfigError(
            f"workload {name!r}: expected {point.value} to be a workloads.base.Workload, got {type(workload).__name__}"
        )
    return workload
