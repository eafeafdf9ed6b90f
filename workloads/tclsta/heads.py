"""The three heads of a stream, which the host computes in fp32: connection, spatial attention, temporal attention.

Last layers begin at zero: a head that no stage has trained yet scores all classes alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CAM_GAIN = 4.0
"""Of the CAM's fresh convolution: torch's own initial weights are for inputs of unit spread, spikes are sparse."""


def classifier(features: int, classes: int) -> nn.Linear:
    """A last layer: (..., F) to logits (..., K), zero at first."""
    layer = nn.Linear(features, classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Saliency(nn.Module):
    """Spatial-level attention: the class-activation map (CAM) of a small convolutional branch.

    F_k = relu(conv3x3(L)), logits_s = W mean_ij F + b, and for the class c that scores highest, from the frame alone,
    A(i, j) = sum_k W_ck F_k(i, j).

    Args:
        channels: channels C of the maps L.
        filters: filters of the convolution.
        classes: classes K.
    """

    def __init__(self, channels: int, filters: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, padding=1)
        self.out = classifier(filters, classes)
        with torch.no_grad():
            self.conv.weight *= _CAM_GAIN

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) to logits (N, K) and the map A (N, H, W) of the class that scores highest."""
        activation = F.relu(self.conv(maps))
        logits = self.out(activation.mean((2, 3)))
        weights = self.out.weight[logits.argmax(1)]
        return logits, torch.einsum("nf,nfhw->nhw", weights, activation)


def weighted_pool(maps: Tensor, saliency: Tensor) -> Tensor:
    """Maps L (N, C, H, W) and a map A (N, H, W) to features g = sum_ij softmax(A)_ij L_ij (N, C)."""
    attention = saliency.flatten(1).softmax(1)
    return torch.einsum("np,ncp->nc", attention, maps.flatten(2))


class TemporalAttention(nn.Module):
    """Temporal-level attention: alpha_t = softmax_t(u . tanh(V h_t)), logits = W sum_t alpha_t h_t + b.

    Args:
        features: features C of a frame.
        hidden: width of LSTM and attention.
        classes: classes K.
        kind: "lstm" has h_t from an LSTM over the frames; "attention" has h_t = g_t, so that their order is lost.
    """

    def __init__(self, features: int, hidden: int, classes: int, kind: Literal["lstm", "attention"]) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, hidden) if kind == "lstm" else None
        width = hidden if kind == "lstm" else features
        self.key = nn.Linear(width, hidden)
        self.query = nn.Linear(hidden, 1, bias=False)
        self.out = classifier(width, classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (T, B, C) to logits (B, K) and attention (T, B), which sums to 1 over the frames."""
        states = features if self.lstm is None else self.lstm(features)[0]
        attention = self.query(torch.tanh(self.key(states))).squeeze(2).softmax(0)
        return self.out(torch.einsum("tb,tbc->bc", attention, states)), attention


class StreamView(NamedTuple):
    """What the heads of a stream make of a batch; all scores are log-probabilities (B, K)."""

    features: Tensor
    """(T, B, C): the frames' pooled features g, in units of their spread."""
    connection: Tensor
    """Mean over frames of the connection head's: its negative is the mean over frames of the cross-entropy loss_c."""
    saliency: Tensor
    """The same of the spatial head: loss_s."""
    temporal: Tensor
    """The temporal head's: loss_t."""
    spatial_attention: Tensor
    """(T, B, H, W): weight of each position, 1 in sum over a map."""
    temporal_attention: Tensor
    """(T, B): weight of each frame, 1 in sum over a clip."""
    probability: Tensor
    """(B, K): the stream's score, the mean of its heads' probabilities over heads and frames."""


class StreamHeads(nn.Module):
    """The heads of one stream.

    Args:
        channels: channels C of the backbone's maps.
        hidden: width of the heads.
        classes: classes K.
        temporal: see `TemporalAttention`.
        weighted: whether positions are weighted by the class-activation map; False takes their mean.
    """

    def __init__(
        self, channels: int, hidden: int, classes: int, *, temporal: Literal["lstm", "attention"], weighted: bool
    ) -> None:
        super().__init__()
        self.weighted = weighted
        self.saliency = Saliency(channels, hidden, classes)
        self.connection = classifier(channels, classes)
        self.temporal = TemporalAttention(channels, hidden, classes, temporal)

    def forward(self, maps: Tensor, frozen: Callable[[Tensor], Tensor]) -> StreamView:
        """Maps (T, B, C, H, W) to all scores; `frozen` is what features go through on their way to the temporal head.

        It is `Tensor.detach` where the temporal head alone is trained.
        """
        frames = maps.shape[:2]
        flat = maps.flatten(0, 1)
        logits_s, activation = self.saliency(flat)
        if not self.weighted:
            activation = torch.zeros_like(activation)
        pooled = weighted_pool(flat, activation)
        # Rates of spikes are small and alike; in units of their own spread, last layers learn them in fewer rounds.
        pooled = F.layer_norm(pooled, pooled.shape[1:])
        by_frame = [F.log_softmax(logits, 1).unflatten(0, frames) for logits in (self.connection(pooled), logits_s)]
        features = pooled.unflatten(0, frames)
        logits_t, attention = self.temporal(frozen(features))
        temporal = F.log_softmax(logits_t, 1)
        heads = [*(scores.exp().mean(0) for scores in by_frame), temporal.exp()]
        return StreamView(
            features,
            by_frame[0].mean(0),
            by_frame[1].mean(0),
            temporal,
            activation.flatten(1).softmax(1).view(*frames, *activation.shape[1:]),
            attention,
            torch.stack(heads).mean(0),
        )
