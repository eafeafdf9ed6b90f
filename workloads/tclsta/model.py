"""The network: two spiking backbones on the core group, and heads that the host computes."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neuro_engine.engines.storage import widened
from neuro_engine.layers import Chain, MaxPool2d, SpikingConv2d, follow
from neuro_engine.network import SpikingNetwork
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import triangle
from workloads.tclsta.collaboration import CollaborationHead, Verdict
from workloads.tclsta.heads import StreamHeads, StreamView
from workloads.tclsta.settings import Collaboration
from workloads.tclsta.stages import Clock, Stage

FRAME_CHANNELS, EVENT_CHANNELS = 1, 2
"""An input's first channel is the frame; the others are its ON and OFF events."""


def backbone(inputs: int, channels: int, leak: float, *, analog: bool) -> Chain:
    """Three spiking convolutions, each with a pool: (T, B, I, S, S) to spikes (T, B, 3 C, S // 8, S // 8).

    Args:
        inputs: channels I of a frame.
        channels: channels C of the first convolution.
        leak: part of a membrane's potential that is left after one frame.
        analog: whether the input is values; events are spikes, and nothing is multiplied.
    """
    neuron = LIF(leak=leak)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for n in (1, 2, 3):
        layers[f"conv{n}"] = SpikingConv2d(
            inputs, n * channels, 3, padding=1, neuron=neuron, surrogate=triangle(), analog_input=analog and n == 1
        )
        layers[f"pool{n}"] = MaxPool2d(2)
        inputs = n * channels
    return Chain(layers)


class Backbones(nn.Module):
    """Both backbones side by side, each on its own channels of the input.

    Args:
        channels: channels of a backbone's first convolution.
        leak: part of a membrane's potential that is left after one frame.
    """

    def __init__(self, channels: int, leak: float) -> None:
        super().__init__()
        self.static = backbone(FRAME_CHANNELS, channels, leak, analog=True)
        self.motion = backbone(EVENT_CHANNELS, channels, leak, analog=False)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, 3, S, S) to spikes (2, T, B, C, H, W), those of the static stream first."""
        frames, events = x.split((FRAME_CHANNELS, EVENT_CHANNELS), 2)
        return torch.stack((self.static(frames.contiguous()), self.motion(events.contiguous())))

    def follow(self, values: bool) -> bool:
        """Frames are values, events are spikes, and so is what leaves."""
        follow(self.static, True)
        follow(self.motion, False)
        return False


class Heads(nn.Module):
    """All that the host computes.

    Args:
        static: heads of the static stream.
        motion: heads of the motion stream.
        collaboration: what joins them.
    """

    def __init__(self, static: StreamHeads, motion: StreamHeads, collaboration: CollaborationHead) -> None:
        super().__init__()
        self.static, self.motion, self.collaboration = static, motion, collaboration

    def forward(self, maps: Tensor, stage: Stage) -> View:
        """Spikes (2, T, B, C, H, W) to all scores; gradients reach what the stage trains and nothing else."""
        trains = stage.trains_backbones
        static, motion = (
            heads(part, _pass if trains else Tensor.detach)
            for heads, part in zip((self.static, self.motion), widened(maps), strict=True)
        )
        link = _pass if stage is Stage.TOGETHER else Tensor.detach
        verdict = self.collaboration(
            (link(static.features), link(motion.features)),
            # The weights are learned on scores as they are: through them, each stream would learn to lean on the other.
            (static.probability.detach(), motion.probability.detach()),
        )
        return View(static, motion, verdict)


def _pass(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, slots=True)
class View:
    """What the model makes of a batch."""

    static: StreamView
    motion: StreamView
    verdict: Verdict

    def losses(self, stage: Stage) -> Tensor:
        """Log-probabilities (B, R, K) of the R heads that a stage trains."""
        heads: list[Tensor] = []
        for stream in (self.static, self.motion):
            heads += [stream.connection, stream.saliency] if stage.trains_backbones else []
            heads += [stream.temporal] if stage.trains_temporal else []
        heads += self.verdict.losses if stage.trains_collaboration else []
        return torch.stack(heads, 1)

    @property
    def probability(self) -> Tensor:
        """(B, K): the final score."""
        return self.verdict.probability


class TwoStreams(SpikingNetwork):
    """Both streams and what joins them.

    In training it puts out what the clock's stage learns from, log-probabilities (B, R, K) of R heads; in evaluation
    the logarithms (B, K) of the final score.

    Args:
        backbones: what runs on the core group.
        heads: what the host computes.
        clock: the stage.
    """

    def __init__(self, backbones: Backbones, heads: Heads, clock: Clock) -> None:
        super().__init__({"backbones": backbones})
        self.heads, self.clock = heads, clock

    def forward(self, x: Tensor) -> Tensor:
        """Input (T, B, 3, S, S): a frame, its ON and its OFF events."""
        if not self.training:
            return self.view(x).probability.clamp_min(torch.finfo(torch.float32).tiny).log()
        stage = self.clock.stage
        return self.view(x, stage).losses(stage)

    def view(self, x: Tensor, stage: Stage = Stage.TOGETHER) -> View:
        """All that is made of an input (T, B, 3, S, S); gradients reach what the stage trains."""
        with nullcontext() if stage.trains_backbones else torch.no_grad():
            maps = self.layers(x)
        view: View = self.heads(maps, stage)
        return view


def build(
    *,
    classes: int,
    channels: int,
    hidden: int,
    leak: float,
    temporal: Literal["lstm", "attention"],
    weighted_pool: bool,
    collaboration: Collaboration,
    clock: Clock,
) -> TwoStreams:
    """Builds the network; it sees one frame in each time step and carries its membranes through the clip.

    Args:
        classes: classes K.
        channels: channels of a backbone's first convolution.
        hidden: width of the heads.
        leak: part of a membrane's potential that is left after one frame; 0 means that no state is carried.
        temporal: see `TemporalAttention`.
        weighted_pool: see `StreamHeads`.
        collaboration: see `CollaborationHead`.
        clock: tells the stage.
    """
    features = 3 * channels
    # The collaboration comes last, so that all ablations of it begin with the same streams.
    backbones = Backbones(channels, leak)
    static, motion = (
        StreamHeads(features, hidden, classes, temporal=temporal, weighted=weighted_pool) for _ in ("static", "motion")
    )
    heads = Heads(static, motion, CollaborationHead(collaboration, features, hidden, classes, clock))
    return TwoStreams(backbones, heads, clock)
