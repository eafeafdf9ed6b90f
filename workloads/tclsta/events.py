"""From frames to events, and from event recordings to frames: the inputs (T, B, 3, S, S) of both streams.

Channel 0 is what the static stream sees, a frame of values in [0, 1]; channels 1 and 2 are what the motion stream
sees, ON and OFF events as spikes. The motion stream multiplies nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_DARK = 0.1
"""Added to intensities before the logarithm: a sensor's dark current, below which it sees no contrast."""
_FULL_COUNT = 4.0
"""Events of a pixel and frame that are full brightness."""


class Events(NamedTuple):
    """A recording of an event camera; N values each, in the order of the file."""

    x: Integers
    """Column, from 0."""
    y: Integers
    """Row, from 0."""
    on: NDArray[np.bool_]
    """True where the pixel became brighter."""
    time_us: Integers
    """Time in microseconds."""

    def between(self, start_us: int, end_us: int) -> Events:
        """Those at times from `start_us` up to `end_us`, which is excluded."""
        chosen = (self.time_us >= start_us) & (self.time_us < end_us)
        return Events(self.x[chosen], self.y[chosen], self.on[chosen], self.time_us[chosen])


def changes(frames: Floats, threshold: float) -> Floats:
    """ON and OFF events of an emulated event camera: where log-intensity changed by the threshold between frames.

    As a camera with one comparison a frame and pixel; the first frame has no events.

    Args:
        frames: (T, B, S, S) intensities in [0, 1].
        threshold: change in nats, above 0.

    Returns:
        (T, B, 2, S, S) of 0.0 and 1.0: ON, then OFF.
    """
    change = np.diff(np.log(frames + np.float32(_DARK)), axis=0)
    events = np.zeros((*frames.shape[:2], 2, *frames.shape[2:]), dtype=np.float32)
    events[1:, :, 0] = change >= threshold
    events[1:, :, 1] = change <= -threshold
    return events


def clips_to_inputs(clips: Floats, threshold: float) -> Floats:
    """Clips (B, T, S, S) in [0, 1] to inputs (T, B, 3, S, S)."""
    frames = np.ascontiguousarray(clips.swapaxes(0, 1))
    return np.concatenate((frames[:, :, None], changes(frames, threshold)), axis=2)


def events_to_input(events: Events, frames: int, sensor: int, size: int) -> Floats:
    """One recording as frames of equal time.

    The motion stream gets where events of either polarity happened, the static stream how many of both there were: an
    event camera has no frames, and counts of events show edges.

    Args:
        events: a recording; its time is from its first to its last event.
        frames: T.
        sensor: rows and columns of the sensor, in pixels.
        size: rows and columns S of a frame, at most `sensor`; several pixels of the sensor may share one.

    Returns:
        (T, 3, S, S).
    """
    counts = np.zeros((frames, 2, size, size), dtype=np.float32)
    if len(events.time_us):
        start_us, end_us = int(events.time_us.min()), int(events.time_us.max()) + 1
        frame = (events.time_us - start_us) * frames // (end_us - start_us)
        row, column = events.y * size // sensor, events.x * size // sensor
        np.add.at(counts, (frame, np.where(events.on, 0, 1), row, column), 1)
    brightness = np.minimum(counts.sum(1, keepdims=True) / np.float32(_FULL_COUNT), 1)
    return np.concatenate((brightness, counts > 0), axis=1, dtype=np.float32)
