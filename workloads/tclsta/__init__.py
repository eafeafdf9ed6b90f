"""Two collaborating spiking streams with spatial-temporal attention (TCLSTA): what is seen, and how it moves.

After Peng, Zhao and Zhang, "Two-stream Collaborative Learning with Spatial-Temporal Attention for Video
Classification" (IEEE TCSVT 2018), with spiking backbones on the core group. `docs/explanation/workload-tclsta.md` says
component by component what the paper describes, what its authors released and what is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workloads.base import FederatedTask, Workload
from workloads.settings import from_preset
from workloads.tclsta.settings import PRESETS, Settings


@dataclass(frozen=True)
class TclstaWorkload:
    """Satisfies `workloads.base.Workload`."""

    name: str = "tclsta"
    summary: str = "video classification by a static and a motion stream that collaborate; clips or event recordings"

    @property
    def presets(self) -> Mapping[str, Settings]:
        """Named settings: `small`, `tiny`, `actions24`, `nmnist` and `dvs-gesture`."""
        return PRESETS

    def settings(self, preset: str, overrides: Mapping[str, str]) -> Settings:
        """The settings of a preset with some of them replaced; errors as in `workloads.base.Workload`."""
        return from_preset(PRESETS, preset, overrides)

    def prepare(self, settings: Settings, seed: int) -> FederatedTask:
        """Makes the task; imports torch."""
        from workloads.tclsta.task import Tclsta

        return Tclsta(settings, seed)


WORKLOAD: Workload[Settings] = TclstaWorkload()
"""What the entry point names."""
