"""Interpolation of decimated images by weighted sparse coding with nonlocal linear regression.

`workloads.interpolation.api.interpolate` is the solver. The workload gathers, over workers with private images, the
statistics that make dictionaries for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads.base import FederatedTask, Workload
from workloads.interpolation.settings import PRESETS, Settings
from workloads.settings import from_preset


@dataclass(frozen=True)
class InterpolationWorkload:
    """Satisfies `workloads.base.Workload`."""

    name: str = "interpolation"
    summary: str = "dictionaries of image patches for interpolation, from statistics of private images"

    @property
    def presets(self) -> Mapping[str, Settings]:
        """Named settings: `small` and `tiny`."""
        return PRESETS

    def settings(self, preset: str, overrides: Mapping[str, str]) -> Settings:
        """The settings of a preset with some of them replaced; errors as in `workloads.base.Workload`."""
        return from_preset(PRESETS, preset, overrides)

    def prepare(self, settings: Settings, seed: int) -> FederatedTask:
        """Makes the task; imports torch."""
        from workloads.interpolation.task import Interpolation

        return Interpolation(settings, seed)


WORKLOAD: Workload[Settings] = InterpolationWorkload()
"""What the entry point names."""
