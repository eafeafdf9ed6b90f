"""Federated video classification with a spiking network: which digits, and where do they go?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads.base import FederatedTask, Workload
from workloads.settings import from_preset
from workloads.video_classification.settings import PRESETS, Settings


@dataclass(frozen=True)
class VideoClassificationWorkload:
    """Satisfies `workloads.base.Workload`."""

    name: str = "video-classification"
    summary: str = "12 classes of moving handwritten digits, told by shape and direction of motion"

    @property
    def presets(self) -> Mapping[str, Settings]:
        """Named settings: `small` and `tiny`."""
        return PRESETS

    def settings(self, preset: str, overrides: Mapping[str, str]) -> Settings:
        """The settings of a preset with some of them replaced; errors as in `workloads.base.Workload`."""
        return from_preset(PRESETS, preset, overrides)

    def prepare(self, settings: Settings, seed: int) -> FederatedTask:
        """Makes the task; imports torch."""
        from workloads.video_classification.task import VideoClassification

        return VideoClassification(settings, seed)


WORKLOAD: Workload[Settings] = VideoClassificationWorkload()
"""What the entry point names."""
