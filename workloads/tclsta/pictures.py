"""Pictures of what the model makes of a clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workloads.samples import Sample
from workloads.tclsta.heads import StreamView
from workloads.tclsta.model import View

_STRIP = 3
"""Rows of a strip of attention, in pixels."""
_GREY, _FULL = 96, 255


def show(inputs: Tensor, view: View, classes: Sequence[str], targets: NDArray[np.int64]) -> list[Sample]:
    """One sample for each clip.

    From top to bottom: the frames, times the static stream's attention to positions; a strip that is brighter the more
    the static stream attends to the frame; the events, ON in green and OFF in red; the motion stream's strip.

    Args:
        inputs: (T, B, 3, S, S).
        view: what the model makes of them.
        classes: names of the classes.
        targets: (B,) class numbers.
    """
    sure, named = view.probability.max(1)
    return [
        Sample(_caption(classes[target], classes[int(named[n])], float(sure[n])), _film(inputs[:, n], view, n))
        for n, target in enumerate(targets)
    ]


def _caption(true: str, said: str, probability: float) -> str:
    verdict = "right" if said == true else f"wrong, it is {true}"
    return f"{said} at {100 * probability:.0f} %: {verdict}"


def _film(clip: Tensor, view: View, n: int) -> NDArray[np.uint8]:
    frames = np.clip(clip[:, 0].numpy(), 0, 1)
    seen = np.repeat(frames[..., None], 3, axis=3)
    # Blue is dimmed where the stream does not look, so that what it looks at is white and the rest yellow.
    seen[..., 2] *= _spread(view.static.spatial_attention[:, n].numpy(), frames.shape[-1])
    events = clip[:, 1:].numpy()
    moved = np.stack((events[:, 1], events[:, 0], np.zeros_like(frames)), axis=3)
    rows = [seen, _strip(view.static, n, frames), moved, _strip(view.motion, n, frames)]
    columns = np.concatenate(rows, axis=1) * _FULL
    framed = np.pad(columns.astype(np.uint8), ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=_GREY)
    return np.hstack(list(framed))[:, :-1]


def _spread(attention: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Attention (T, H, W) as shares of each frame's largest, on (T, S, S)."""
    index = np.arange(size) * attention.shape[-1] // size
    shares: NDArray[np.float32] = attention / attention.max((1, 2), keepdims=True)
    return shares[:, index][:, :, index]


def _strip(stream: StreamView, n: int, frames: NDArray[np.float32]) -> NDArray[np.float32]:
    attention = stream.temporal_attention[:, n].numpy()
    strip: NDArray[np.float32] = np.broadcast_to(
        (attention / attention.max())[:, None, None, None], (len(frames), _STRIP, frames.shape[-1], 3)
    )
    return strip
