"""MovingActions, second tier: 24 classes, of the same digits going round and growing as well as going straight.

A class is a group of digits and one of eight motions, in four order pairs: the second motion of a pair is the first one
played backwards, so both have the same frames and a model without memory is at chance between them. What holds of
`workloads.moving_actions` holds here: scans are not shared between splits, and a clip is a pure function of (seed,
split, index, take).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workloads.moving_actions import GROUPS, Floats, Split, scan_numbers

MOTIONS = ("left", "right", "up", "down", "clockwise", "counter-clockwise", "in", "out")
"""Motions 2n and 2n + 1 are an order pair. Up is towards row 0; "in" grows."""
CLASSES = tuple(f"{''.join(map(str, group))}-{motion}" for group in GROUPS for motion in MOTIONS)
"""Names of the classes: class `8 * group + motion`."""

_SPLITS: tuple[Split, ...] = ("train", "test", "calibration")
_PIXELS = 8
_NOISE = 0.04


def labels(indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of each clip: the classes take turns."""
    return np.asarray(indices, dtype=np.int64) % len(CLASSES)


@functools.cache
def _images() -> Floats:
    from sklearn.datasets import load_digits

    images: Floats = (load_digits().images / 16.0).astype(np.float32)
    images.flags.writeable = False
    return images


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a digit is and how large, in units of the frame's side; 0 is the frame's centre."""

    x: Floats
    y: Floats
    scale: Floats
    """Side of the digit."""


def pose(motion: int, speed: float, place: tuple[float, float], phase: float, frames: int) -> Pose:
    """The path of a digit, (T,) each; times are symmetric about the middle, so order pairs visit the same places.

    Args:
        motion: index of `MOTIONS`.
        speed: way from the first frame to the last, in sides of the frame; a circle has two thirds of it for its
            radius' arc, and a zoom that many times e.
        place: column and row in the middle of the clip, or of a circle's centre.
        phase: angle on the circle in the middle of the clip, in turns.
        frames: T.
    """
    time = (np.arange(frames, dtype=np.float32) - (frames - 1) / 2) / max(1, frames - 1)
    x: Floats
    y: Floats
    scale: Floats
    sign, axis = (-1, 1)[motion % 2], motion // 2
    way = (sign * speed * time).astype(np.float32)
    x, y, scale = np.zeros_like(way), np.zeros_like(way), np.full_like(way, 0.5)
    if axis == 0:
        x = way
    elif axis == 1:
        y = way
    elif axis == 2:
        # Rows grow downwards, so an angle that grows goes clockwise on the screen.
        angle = 2 * np.pi * phase - 1.5 * way * np.pi
        x, y = (0.2 * np.cos(angle)).astype(np.float32), (0.2 * np.sin(angle)).astype(np.float32)
    else:
        scale = np.exp(-2 * way).astype(np.float32) * np.float32(0.45)
    return Pose(x + np.float32(place[0]), y + np.float32(place[1]), scale)


def draw(digit: Floats, path: Pose, size: int) -> Floats:
    """Draws a digit (8, 8) along a path by bilinear interpolation: (T, S, S) without noise."""
    pixel = np.arange(_PIXELS, dtype=np.float32) - (_PIXELS - 1) / 2
    frame = (np.arange(size, dtype=np.float32) - (size - 1) / 2) / size

    def triangles(centre: Floats) -> Floats:
        distance = (frame[:, None] - centre[:, None, None]) * (_PIXELS / path.scale[:, None, None]) - pixel
        weights: Floats = np.maximum(0, 1 - np.abs(distance)).astype(np.float32)
        return weights

    drawn = triangles(path.y) @ digit @ triangles(path.x).swapaxes(-1, -2)
    return drawn.astype(np.float32, copy=False)


@dataclass(frozen=True, slots=True)
class Actions:
    """The set of clips of one seed."""

    seed: int
    frames: int
    size: int

    def clips(self, split: Split, indices: Sequence[int] | NDArray[np.int64], take: int = 0) -> Floats:
        """Makes some clips; arguments and result as of `MovingActions.clips`."""
        return np.stack([self._clip(split, int(index), take) for index in indices])

    def _clip(self, split: Split, index: int, take: int) -> Floats:
        group, motion = divmod(int(labels([index])[0]), len(MOTIONS))
        key = (self.seed, len(CLASSES), _SPLITS.index(split), index)
        scan = np.random.default_rng(key).choice(scan_numbers(split, group))
        rng = np.random.default_rng((*key, take + 1))
        x, y, phase, pace, light = rng.random(5, dtype=np.float32)
        place = ((x - 0.5) * 0.16, (y - 0.5) * 0.16)
        path = pose(motion, 0.33 + 0.17 * float(pace), place, float(phase), self.frames)
        clip = draw(_images()[scan], path, self.size) * (np.float32(0.6) + np.float32(0.4) * light)
        noise = rng.standard_normal((self.frames + 1, self.size, self.size), dtype=np.float32)
        # The first noise image is the background, which stays; the others are the sensor's.
        noisy: Floats = np.clip(clip + np.float32(_NOISE) * (noise[:1] + noise[1:]), 0, 1)
        return noisy
