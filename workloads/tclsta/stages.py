"""The staged schedule: which parts of the model a round trains.

| stage | trains | by |
|---|---|---|
| SPATIAL | backbones, connection heads, class-activation maps | loss_c + loss_s |
| TEMPORAL | temporal heads | loss_t |
| JOINT | each stream as a whole | loss_c + loss_s + loss_t |
| COLLABORATION | co-attention and fusion weights, on the streams as they are | loss of the collaboration |
| TOGETHER | everything | all of them |

A part that is not trained gets no gradient at all, so optimizers leave it alone and the core group does no BP and WG.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from workloads.tclsta.settings import Settings

if TYPE_CHECKING:
    import torch


class Stage(Enum):
    """What a round trains."""

    SPATIAL = "spatial"
    TEMPORAL = "temporal"
    JOINT = "joint"
    COLLABORATION = "collaboration"
    TOGETHER = "together"

    @property
    def trains_backbones(self) -> bool:
        """Whether backbones, connection heads and class-activation maps are trained."""
        return self in (Stage.SPATIAL, Stage.JOINT, Stage.TOGETHER)

    @property
    def trains_temporal(self) -> bool:
        """Whether temporal heads are trained."""
        return self in (Stage.TEMPORAL, Stage.JOINT, Stage.TOGETHER)

    @property
    def trains_collaboration(self) -> bool:
        """Whether co-attention and fusion weights are trained."""
        return self in (Stage.COLLABORATION, Stage.TOGETHER)


def stage_of(settings: Settings, round_number: int) -> Stage:
    """The stage of a federated round: a function of its number, so that all workers agree and a resumed run goes on.

    Args:
        settings: lengths of the stages. With `collaboration` "fixed" nothing is left to learn in the fourth stage, and
            the third one lasts.
        round_number: from 1.
    """
    if settings.schedule == "together":
        return Stage.TOGETHER
    last = Stage.JOINT if settings.collaboration == "fixed" else Stage.COLLABORATION
    end = 0
    for stage, rounds in (
        (Stage.SPATIAL, settings.spatial_rounds),
        (Stage.TEMPORAL, settings.temporal_rounds),
        (Stage.JOINT, settings.joint_rounds),
    ):
        end += rounds
        if round_number <= end:
            return stage
    return last


def _generator() -> torch.Generator:
    import torch

    return torch.Generator()


@dataclass(slots=True)
class Clock:
    """What a model has to know of the round in which it is trained, shared by a task and the models that it builds.

    A model maps inputs to outputs and is not told of rounds. Drawing a round's training batches sets the clock.
    """

    stage: Stage = Stage.TOGETHER
    """What is trained."""
    noise: torch.Generator = field(default_factory=_generator)
    """Where dropout draws from: seeded for each round, so that a round done twice gives the same bits."""
