"""Settings and presets of TCLSTA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

from workloads.settings import Range

Collaboration: TypeAlias = Literal["fixed", "global", "per-class", "co-attention", "both"]
"""How the streams' scores become one: equal weights, one learned pair of weights, a learned pair for each class,
co-attention alone, or co-attention together with a pair for each class."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be set with `--set workload.KEY=VALUE`; the defaults are the preset `small`."""

    rounds: Annotated[int, Range(1)] = 18
    """Federated rounds, unless the run says otherwise."""
    data: Literal["actions12", "actions24", "nmnist", "dvs-gesture"] = "actions12"
    """Moving digits of 12 or 24 classes, made on the spot, or event recordings from `folder`."""
    folder: str = ""
    """Where the recordings are: the folder with `Train` and `Test` (N-MNIST) or `trials_to_train.txt` (DVS-Gesture)."""
    train_clips: Annotated[int, Range(1)] = 1200
    """Training clips of the whole federation; recordings are as many as there are."""
    test_clips: Annotated[int, Range(1)] = 480
    """Test clips; recordings are as many as there are."""
    frames: Annotated[int, Range(2)] = 8
    """Frames of a clip, and time steps of the network."""
    size: Annotated[int, Range(16)] = 24
    """Rows and columns of a frame, in pixels."""
    channels: Annotated[int, Range(1)] = 16
    """Channels of a backbone's first convolution; the second has two times as many, the third three times."""
    hidden: Annotated[int, Range(1)] = 64
    """Width of the heads on the host: CAM filters, LSTM and attention."""
    carry_state: bool = True
    """Whether membranes keep their state from frame to frame; false sets every leak to 0."""
    leak: Annotated[float, Range(0.0, 1.0)] = 0.5
    """Part of a membrane's potential that is left after one frame."""
    event_threshold: Annotated[float, Range(1e-3)] = 0.2
    """Change of log-intensity between frames, in nats, that is an ON or OFF event of the motion stream."""
    weighted_pool: bool = True
    """Whether positions are pooled with the weights of the class-activation map, as in the paper; false is the mean."""
    temporal: Literal["lstm", "attention"] = "lstm"
    """What attends to frames: attention over an LSTM's outputs, or over the frames' features (blind to their order)."""
    collaboration: Collaboration = "both"
    """How the streams' scores become one."""
    schedule: Literal["staged", "together"] = "staged"
    """The authors' stages one after the other, or all heads from the first round."""
    spatial_rounds: Annotated[int, Range(0)] = 8
    """Rounds of the first stage: backbones, connection heads and class-activation maps."""
    temporal_rounds: Annotated[int, Range(0)] = 2
    """Rounds of the second stage: the temporal heads alone."""
    joint_rounds: Annotated[int, Range(0)] = 6
    """Rounds of the third stage: each stream as a whole. All later rounds are the fourth: the collaboration alone."""
    joint_lr_factor: Annotated[float, Range(0.0)] = 0.5
    """Learning rate of the third stage, in learning rates."""
    augment: bool = True
    """Whether each pass sees another take: new positions, speeds and noise of clips, shifted recordings."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or stochastic gradient descent with momentum 0.9."""
    lr: Annotated[float, Range(0.0)] = 5e-3
    """Learning rate."""
    batch_size: Annotated[int, Range(1)] = 10
    """Clips of a training batch."""
    precision: Literal["fp16", "fp16-stochastic", "fp32", "bf16"] = "fp16"
    """Number format of the core group; fp16 is the chip's. The host's heads are always fp32."""
    local_epochs: Annotated[int, Range(1)] = 2
    """Passes over its clips that a worker makes in a round."""
    partition: Literal["iid", "dirichlet"] = "iid"
    """How the training clips are divided over the workers."""
    alpha: Annotated[float, Range(1e-3)] = 0.3
    """Concentration of the Dirichlet partition: the smaller, the fewer classes a worker sees."""


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "small": Settings(),
        "tiny": Settings(
            rounds=4,
            train_clips=240,
            test_clips=48,
            frames=4,
            size=16,
            channels=4,
            hidden=8,
            lr=1e-2,
            batch_size=8,
            local_epochs=1,
            spatial_rounds=1,
            temporal_rounds=1,
            joint_rounds=1,
        ),
        "actions24": Settings(data="actions24", train_clips=2400, test_clips=960),
        "nmnist": Settings(data="nmnist", size=17),
        "dvs-gesture": Settings(data="dvs-gesture", size=32, frames=16),
    }
)
"""`small` is the default; `tiny` is for tests: seconds, and it learns little. The last two need `folder`."""
