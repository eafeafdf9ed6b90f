"""MovingActions: short clips of handwritten digits that move, made on the spot.

A class is a group of digits and a direction: {0, 1, 2}, {3, 4, 7} or {5, 6, 8} going left, right, up or down. To name
the group a network has to see shape; to name the direction it has to remember earlier frames, because a clip that goes
left is a clip that goes right, played backwards: both have the same frames, so a model without memory is at chance
between them (it can still tell the axis).

The digits are scikit-learn's 8x8 scans of real handwriting. Training, test and calibration clips never share a scan,
and that division does not depend on the seed. Each clip is a pure function of (seed, split, index, take): a worker
makes its own part of the data and nobody ships any.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Split: TypeAlias = Literal["train", "test", "calibration"]
Floats: TypeAlias = NDArray[np.float32]

GROUPS = ((0, 1, 2), (3, 4, 7), (5, 6, 8))
"""The digits of each group; 9 is not used, so that the groups are of one size."""
MOTIONS = ("left", "right", "up", "down")
"""The directions; up is towards row 0."""
CLASSES = tuple(f"{''.join(map(str, group))}-{motion}" for group in GROUPS for motion in MOTIONS)
"""Names of the classes: class `4 * group + motion`."""

_SPLITS: tuple[Split, ...] = ("train", "test", "calibration")
_SPLIT_ENDS = (0.70, 0.95, 1.0)
_SPLIT_SEED = 1797
_PIXELS = 8
_NOISE = 0.04


def labels(indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each clip: the classes take turns, so any run of 12 clips is balanced."""
    return np.asarray(indices, dtype=np.int64) % len(CLASSES)


@functools.cache
def scan_numbers(split: Split, group: int) -> NDArray[np.int64]:
    """Which of scikit-learn's scans a split may use for a group, read-only.

    Args:
        split: `train` has 70 % of the scans, `test` 25 %, `calibration` 5 %.
        group: an index of `GROUPS`.
    """
    _, digits = _scans()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits))
    ends = [0, *(round(end * len(digits)) for end in _SPLIT_ENDS)]
    part = _SPLITS.index(split)
    mine = np.sort(order[ends[part] : ends[part + 1]])
    chosen = mine[np.isin(digits[mine], GROUPS[group])]
    chosen.flags.writeable = False
    return chosen


@functools.cache
def _scans() -> tuple[Floats, NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images / 16.0).astype(np.float32)
    images.flags.writeable = False
    return images, data.target.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Track:
    """How N digits move: N values each; positions in pixels of the frame."""

    motion: NDArray[np.int64]
    """Index of `MOTIONS`."""
    speed: Floats
    """Pixels a frame."""
    centre_x: Floats
    """Column of the digit's centre half-way through the clip."""
    centre_y: Floats
    """Row of the digit's centre half-way through the clip."""

    def centres(self, frames: int) -> tuple[Floats, Floats]:
        """Columns and rows of the digits' centres, (N, frames) each."""
        step_x = np.array([-1, 1, 0, 0], dtype=np.float32)[self.motion] * self.speed
        step_y = np.array([0, 0, -1, 1], dtype=np.float32)[self.motion] * self.speed
        # Times are symmetric about the middle, so opposite directions visit the same places.
        time = np.arange(frames, dtype=np.float32) - (frames - 1) / 2
        return (
            self.centre_x[:, None] + step_x[:, None] * time,
            self.centre_y[:, None] + step_y[:, None] * time,
        )


def render(digits: Floats, track: Track, frames: int, size: int, scale: float) -> Floats:
    """Draws moving digits at sub-pixel positions, without noise.

    Bilinear interpolation of an image is separable: rows and columns are each weighted by a triangle of one digit pixel
    around the point that is sampled, hence two small matrix products for a frame.

    Args:
        digits: (N, 8, 8) in [0, 1].
        track: how each moves.
        frames: frames of a clip, T.
        size: rows and columns of a frame, S.
        scale: pixels of the frame for a pixel of the digit.

    Returns:
        (N, T, S, S) in [0, 1].
    """
    x, y = track.centres(frames)
    rows, columns = _triangles(y, size, scale), _triangles(x, size, scale)
    return (rows @ digits[:, None] @ columns.swapaxes(-1, -2)).astype(np.float32, copy=False)


def _triangles(centre: Floats, size: int, scale: float) -> Floats:
    frame = np.arange(size, dtype=np.float32)[:, None]
    digit = np.arange(_PIXELS, dtype=np.float32) - (_PIXELS - 1) / 2
    distance = (frame - centre[..., None, None]) / np.float32(scale) - digit
    weight: Floats = np.maximum(0, 1 - np.abs(distance)).astype(np.float32)
    return weight


@dataclass(frozen=True, slots=True)
class MovingActions:
    """The set of clips of one seed."""

    seed: int
    frames: int = 8
    """Frames of a clip, T."""
    size: int = 24
    """Rows and columns of a frame, S, in pixels."""

    def clips(self, split: Split, indices: Sequence[int] | NDArray[np.int64], take: int = 0) -> Floats:
        """Makes some clips.

        Args:
            split: which scans of digits to draw from.
            indices: numbers of the clips, from 0; clip i is of class `labels([i])[0]`.
            take: which recording of the clip: another take shows the same scan with another position, speed,
                brightness and noise.

        Returns:
            (N, T, S, S) float32 in [0, 1].
        """
        label = labels(indices)
        images, _ = _scans()
        key = (self.seed, _SPLITS.index(split))
        scans = np.empty(len(label), dtype=np.int64)
        numbers = np.empty((len(label), 4), dtype=np.float32)
        noise = np.empty((len(label), self.frames + 1, self.size, self.size), dtype=np.float32)
        for n, index in enumerate(indices):
            scans[n] = np.random.default_rng([*key, index]).choice(scan_numbers(split, label[n] // len(MOTIONS)))
            # A seed sequence ends in endless zeros, so a fourth number of 0 would repeat the stream above.
            rng = np.random.default_rng([*key, index, take + 1])
            rng.random(out=numbers[n], dtype=np.float32)
            rng.standard_normal(out=noise[n], dtype=np.float32)
        return self._record(images[scans], label % len(MOTIONS), numbers, noise)

    def _record(self, digits: Floats, motion: NDArray[np.int64], numbers: Floats, noise: Floats) -> Floats:
        """Turns uniform numbers (N, 4) and normal noise (N, 1 + T, S, S) into clips."""
        unit, middle = self.size / 24, (self.size - 1) / 2
        centre = _between(middle - 2 * unit, middle + 2 * unit, numbers[:, :2])
        # From end to end it is a third to a half of the frame, whatever the number of frames.
        steps = max(1, self.frames - 1)
        speed = _between(8 * unit / steps, 12 * unit / steps, numbers[:, 2])
        brightness = _between(0.6, 1.0, numbers[:, 3, None, None])
        track = Track(motion, speed, centre[:, 0], centre[:, 1])
        clips = render(digits * brightness, track, self.frames, self.size, scale=1.5 * unit)
        # The first noise image is the background, which stays; the others are the sensor's, one a frame.
        clips += np.float32(_NOISE) * noise[:, :1]
        clips += np.float32(_NOISE) * noise[:, 1:]
        return np.clip(clips, 0, 1, out=clips)


def _between(low: float, high: float, uniform: Floats) -> Floats:
    scaled: Floats = np.float32(low) + np.float32(high - low) * uniform
    return scaled
