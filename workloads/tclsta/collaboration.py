"""How the two streams collaborate: alternating co-attention, and weights of fusion that are learned for each class."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.tclsta.heads import classifier
from workloads.tclsta.settings import Collaboration
from workloads.tclsta.stages import Clock

_KEPT = 0.5


class Dropout(nn.Module):
    """In training, half of the values are zeroed and the others doubled; the clock's noise decides.

    Args:
        clock: has the noise.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training:
            return x
        return x * torch.empty_like(x).bernoulli_(_KEPT, generator=self.clock.noise).div_(_KEPT)


class Guided(nn.Module):
    """Attention over frames: h = tanh(W X + V guide), a = softmax_t(w . dropout(h)), and the mean of X by a.

    Args:
        features: features D of a frame, and of the guide.
        clock: see `Dropout`.
        guided: False leaves V out.
    """

    def __init__(self, features: int, clock: Clock, *, guided: bool) -> None:
        super().__init__()
        self.key = nn.Linear(features, features)
        self.guide = nn.Linear(features, features, bias=False) if guided else None
        self.query = nn.Linear(features, 1, bias=False)
        self.dropout = Dropout(clock)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames (T, B, D) and a guide (B, D) to the attended frame (B, D) and the attention (T, B)."""
        current = self.key(x)
        if self.guide is not None and guide is not None:
            current = current + self.guide(guide)
        attention = self.query(self.dropout(torch.tanh(current))).squeeze(2).softmax(0)
        return torch.einsum("tb,tbd->bd", attention, x), attention


class CoAttention(nn.Module):
    """Alternating co-attention (Lu et al. 2016), as the authors released it, with D features for their 2048.

    Motion attends to itself; what it finds guides the static stream; what that finds guides motion again. The two
    findings are added and classified.

    Args:
        features: features of a frame in both streams.
        hidden: D.
        classes: classes K.
        clock: see `Dropout`.
    """

    def __init__(self, features: int, hidden: int, classes: int, clock: Clock) -> None:
        super().__init__()
        self.static_in, self.motion_in = nn.Linear(features, hidden), nn.Linear(features, hidden)
        self.motion_self = Guided(hidden, clock, guided=False)
        self.static_by_motion = Guided(hidden, clock, guided=True)
        self.motion_by_static = Guided(hidden, clock, guided=True)
        self.hidden = nn.Linear(hidden, hidden)
        self.out = classifier(hidden, classes)
        self.dropout = Dropout(clock)

    def forward(self, static: Tensor, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features (T, B, C) of both streams to logits (B, K) and both last attentions (T, B), the static one first."""
        s = self.dropout(torch.tanh(self.static_in(static)))
        m = self.dropout(torch.tanh(self.motion_in(motion)))
        first, _ = self.motion_self(m)
        seen, static_attention = self.static_by_motion(s, first)
        moved, motion_attention = self.motion_by_static(m, seen)
        joined = self.dropout(torch.tanh(self.hidden(self.dropout(seen + moved))))
        return self.out(joined), static_attention, motion_attention


class Fusion(nn.Module):
    """score_c = w_c p_static(c) + (1 - w_c) p_motion(c), normalised, with w = sigmoid(logits), 0.5 at first.

    Two weights on the simplex are one number: the softmax of a pair is the sigmoid of its difference.

    Args:
        weights: how many are learned: K, one for all classes, or 0 for 0.5 for ever.
    """

    def __init__(self, weights: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(weights)) if weights else None

    @property
    def static_weight(self) -> Tensor:
        """w, the weight of the static stream (K,) or (1,)."""
        return torch.full((1,), 0.5) if self.logits is None else torch.sigmoid(self.logits)

    def forward(self, static: Tensor, motion: Tensor) -> Tensor:
        """Probabilities (B, K) of both streams to probabilities (B, K)."""
        mixed = torch.lerp(motion, static, self.static_weight)
        return mixed / mixed.sum(1, keepdim=True)


class Verdict(NamedTuple):
    """What the collaboration says of a batch."""

    probability: Tensor
    """(B, K): the final score."""
    losses: list[Tensor]
    """Log-probabilities (B, K) of each part that has something to learn; its loss is the cross-entropy."""


class CollaborationHead(nn.Module):
    """Both parts, or the one that an ablation leaves.

    Args:
        kind: which parts there are.
        features: features of a frame.
        hidden: width of the co-attention.
        classes: classes K.
        clock: see `Dropout`.
    """

    def __init__(self, kind: Collaboration, features: int, hidden: int, classes: int, clock: Clock) -> None:
        super().__init__()
        lengths: dict[str, int | None] = {"fixed": 0, "global": 1, "co-attention": None}
        weights = lengths.get(kind, classes)
        self.fusion = None if weights is None else Fusion(weights)
        self.coattention = CoAttention(features, hidden, classes, clock) if kind in ("co-attention", "both") else None

    def forward(self, features: tuple[Tensor, Tensor], probabilities: tuple[Tensor, Tensor]) -> Verdict:
        """Features (T, B, C) and probabilities (B, K) of both streams, the static one first, to the final score.

        With both parts it is the mean of their probabilities.
        """
        parts, losses = [], []
        if self.fusion is not None:
            parts.append(self.fusion(*probabilities))
            if self.fusion.logits is not None:
                losses.append(parts[-1].clamp_min(torch.finfo(torch.float32).tiny).log())
        if self.coattention is not None:
            losses.append(F.log_softmax(self.coattention(*features)[0], 1))
            parts.append(losses[-1].exp())
        return Verdict(torch.stack(parts).mean(0), losses)
