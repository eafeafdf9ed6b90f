"""Settings and presets of the video classification workload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from workloads.settings import Range


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set with `--set KEY=VALUE`; the defaults are the preset `small`."""

    rounds: Annotated[int, Range(1)] = 10
    """Federated rounds, unless the run says otherwise."""
    train_clips: Annotated[int, Range(1)] = 1200
    """Training clips of the whole federation."""
    test_clips: Annotated[int, Range(1)] = 480
    """Test clips."""
    frames: Annotated[int, Range(2)] = 8
    """Frames of a clip, and time steps of the network."""
    size: Annotated[int, Range(16)] = 24
    """Rows and columns of a frame, in pixels."""
    channels: Annotated[int, Range(1)] = 16
    """Channels of the first convolution; the second has two times as many, the third three times."""
    carry_state: bool = True
    """Whether membranes keep their state from frame to frame; false sets every leak to 0."""
    leak: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Part of a membrane's potential that is left after one frame."""
    augment: bool = True
    """Whether each pass sees another recording of the same clips (position, speed, brightness, noise)."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum 0.9."""
    lr: Annotated[float, Range(0.0)] = 5e-3
    """Learning rate."""
    batch_size: Annotated[int, Range(1)] = 10
    """Clips of a training batch."""
    precision: Literal["fp16", "fp16-stochastic", "fp32", "bf16"] = "fp16"
    """Number format in which workers train; fp16 is the chip's."""
    local_epochs: Annotated[int, Range(1)] = 2
    """Passes over its clips that a worker makes in a round."""
    partition: Literal["iid", "dirichlet", "classes"] = "iid"
    """How the training clips are divided over the workers."""
    alpha: Annotated[float, Range(1e-3)] = 0.3
    """Concentration of the Dirichlet partition: the smaller, the fewer classes a worker sees."""
    classes_per_worker: Annotated[int, Range(1)] = 2
    """About how many classes a worker sees in the partition by classes."""


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "small": Settings(),
        "tiny": Settings(
            rounds=2, train_clips=240, test_clips=48, frames=4, size=16, channels=4, lr=1e-2, batch_size=8
        ),
    }
)
"""`small` reaches about 0.9 in ten rounds, a minute of one core; `tiny` is for tests: seconds, and it learns little."""
