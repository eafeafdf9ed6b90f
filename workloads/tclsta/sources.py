"""Where a task's examples come from: clips made on the spot, or event recordings of a folder."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neurofed.errors import ConfigError, DataError
from workloads import moving_actions
from workloads.moving_actions import MovingActions, Split
from workloads.settings import require
from workloads.tclsta import actions
from workloads.tclsta.events import Floats, clips_to_inputs, events_to_input
from workloads.tclsta.recordings import FORMATS, Recording
from workloads.tclsta.settings import Settings

Indices = Sequence[int] | NDArray[np.int64]
_log = logging.getLogger(__name__)
_SHIFT = 2
"""Largest shift of a recording in another take, in pixels of the frame."""


class Source(Protocol):
    """Labelled examples."""

    classes: tuple[str, ...]

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Class of each example of "train" or "test"."""

    def inputs(self, split: Split, indices: Indices, take: int = 0) -> Floats:
        """Examples (T, B, 3, S, S); another take shows the same examples varied."""


class _Makes(Protocol):
    def clips(self, split: Split, indices: Indices, take: int = 0) -> Floats: ...


class Clips:
    """Clips made on the spot.

    Args:
        settings: of the task.
        seed: of the task.
    """

    def __init__(self, settings: Settings, seed: int) -> None:
        tiers: dict[str, tuple[tuple[str, ...], _Makes, Callable[[Indices], NDArray[np.int64]]]] = {
            "actions12": (
                moving_actions.CLASSES,
                MovingActions(seed, settings.frames, settings.size),
                moving_actions.labels,
            ),
            "actions24": (actions.CLASSES, actions.Actions(seed, settings.frames, settings.size), actions.labels),
        }
        self.classes, self._clips, self._label = tiers[settings.data]
        self._counts: dict[Split, int] = {"train": settings.train_clips, "test": settings.test_clips}
        self._threshold = settings.event_threshold

    def labels(self, split: Split) -> NDArray[np.int64]:
        """See `Source`."""
        return self._label(range(self._counts[split]))

    def inputs(self, split: Split, indices: Indices, take: int = 0) -> Floats:
        """See `Source`; "calibration" has clips without number."""
        return clips_to_inputs(self._clips.clips(split, indices, take), self._threshold)


class Recordings:
    """Event recordings; a file that cannot be read is left out, counted and named in the log.

    Args:
        settings: of the task; `folder` has the recordings.

    Raises:
        ConfigError: if there is no such folder, no recording in it, or frames would be larger than the sensor.
    """

    def __init__(self, settings: Settings) -> None:
        self._format = FORMATS[settings.data]
        require(
            settings.size <= self._format.sensor,
            f"setting 'size': expected at most the sensor's {self._format.sensor} pixels, got {settings.size}",
        )
        self._folder = Path(settings.folder).expanduser()
        require(
            settings.folder != "" and self._folder.is_dir(),
            f"setting 'folder': data {settings.data!r} needs the folder with its recordings, got {settings.folder!r}; "
            "set workload.folder",
        )
        self.classes = self._format.classes
        self._frames, self._size = settings.frames, settings.size
        self.skipped: list[Path] = []
        """Files that could not be read."""

    def labels(self, split: Split) -> NDArray[np.int64]:
        """See `Source`; reads the whole split."""
        return self._load(split)[1]

    def inputs(self, split: Split, indices: Indices, take: int = 0) -> Floats:
        """See `Source`; another take is shifted by up to two pixels."""
        chosen = self._load(split)[0][np.asarray(indices, dtype=np.int64)].astype(np.float32)
        if take:
            chosen = np.stack([_shifted(example, (int(n), take)) for n, example in zip(indices, chosen, strict=True)])
        return np.ascontiguousarray(chosen.swapaxes(0, 1))

    @functools.cache  # noqa: B019 - a source lives as long as its task
    def _load(self, split: Split) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        examples, classes = [], []
        for path, group in _by_file(self._format.listed(self._folder, split)):
            try:
                events = self._format.read(path)
            except (DataError, OSError) as error:
                self.skipped.append(path)
                _log.warning("skipped recording %d, %s: %s", len(self.skipped), path, error)
                continue
            for part in group:
                chosen = events.between(part.start_us, part.end_us)
                examples.append(events_to_input(chosen, self._frames, self._format.sensor, self._size))
                classes.append(part.label)
        if not examples:
            raise ConfigError(f"setting 'folder': none of {self._folder}'s {split} recordings can be read")
        return np.stack(examples).astype(np.float16), np.array(classes, dtype=np.int64)


def _by_file(recordings: Sequence[Recording]) -> list[tuple[Path, list[Recording]]]:
    """Recordings by file, in order, so that each file is read once."""
    files: dict[Path, list[Recording]] = {}
    for recording in recordings:
        files.setdefault(recording.path, []).append(recording)
    return list(files.items())


def _shifted(example: Floats, key: tuple[int, int]) -> Floats:
    """An example (T, 3, S, S) moved by whole pixels; what comes in is empty."""
    rows, columns = np.random.default_rng(key).integers(-_SHIFT, _SHIFT + 1, 2)
    padded = np.pad(example, ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)))
    size = example.shape[-1]
    return padded[:, :, _SHIFT - rows : _SHIFT - rows + size, _SHIFT - columns : _SHIFT - columns + size]


def open_source(settings: Settings, seed: int) -> Source:
    """The source that the setting `data` names."""
    return Recordings(settings) if settings.data in FORMATS else Clips(settings, seed)
