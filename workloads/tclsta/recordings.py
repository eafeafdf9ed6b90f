"""Readers of event recordings, in the formats in which the field publishes them.

| set | a recording | layout of the folder |
|---|---|---|
| N-MNIST (Orchard et al. 2015) | `.bin` or `.bs2`: 5 bytes an event | `Train/DIGIT/*.bin`, `Test/DIGIT/*.bin` |
| DVS128 Gesture (Amir et al. 2017) | `.aedat`: AEDAT 3.1 | `trials_to_{train,test}.txt`, `*_labels.csv` |

What a file says is checked: one that is cut off or inconsistent is a `DataError` that names it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurofed.errors import ConfigError, DataError
from workloads.tclsta.events import Events

NMNIST_SENSOR, GESTURE_SENSOR = 34, 128
"""Rows and columns of the sensors, in pixels."""
GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
"""Names of the classes 1 to 11 of DVS128 Gesture, from the set's own table."""

_NMNIST_EVENT_BYTES = 5
_AEDAT_FIRST, _AEDAT_END = b"#!AER-DAT3.1", b"#!END-HEADER"
_PACKET = np.dtype(
    [
        ("kind", "<u2"),
        ("source", "<u2"),
        ("event_bytes", "<u4"),
        ("time_offset", "<u4"),
        ("overflows", "<u4"),
        ("capacity", "<u4"),
        ("events", "<u4"),
        ("valid", "<u4"),
    ]
)
_POLARITY = 1
_POLARITY_EVENT = np.dtype([("data", "<u4"), ("time_us", "<u4")])


class Recording(NamedTuple):
    """One labelled recording of a set, not read yet."""

    path: Path
    label: int
    """Class, from 0."""
    start_us: int = 0
    end_us: int = 1 << 62
    """The part of the file that it is, in microseconds of the file's clock; the end is excluded."""


def read_nmnist(path: Path) -> Events:
    """Read an N-MNIST recording.

    An event is 40 bits: column (8), row (8), ON (1), time in microseconds (23), big-endian.

    Raises:
        DataError: if the file is cut off or an event is outside of the sensor.
    """
    content = path.read_bytes()
    if not content or len(content) % _NMNIST_EVENT_BYTES:
        raise DataError(f"{path}: expected events of {_NMNIST_EVENT_BYTES} bytes, got {len(content)} bytes")
    raw = np.frombuffer(content, dtype=np.uint8).reshape(-1, _NMNIST_EVENT_BYTES).astype(np.int64)
    time_us = (raw[:, 2] & 0x7F) << 16 | raw[:, 3] << 8 | raw[:, 4]
    return _checked(path, Events(raw[:, 0], raw[:, 1], raw[:, 2] >= 0x80, time_us), NMNIST_SENSOR)


def read_aedat31(path: Path, sensor: int = GESTURE_SENSOR) -> Events:
    """Read the polarity events of an AEDAT 3.1 file.

    After a text header come packets: 28 bytes of header, then events of one kind. A polarity event is 32 bits of data
    (valid 1, ON 1, row 15, column 15, from the lowest) and 31 bits of time; packets count the times' overflows.

    Args:
        path: the file.
        sensor: rows and columns of the sensor, in pixels.

    Raises:
        DataError: if the file is no AEDAT 3.1, is cut off, has no polarity event, or one outside of the sensor.
    """
    content = path.read_bytes()
    parts = []
    for packet, body in _packets(path, content, _body_start(path, content)):
        if packet["kind"] != _POLARITY:
            continue
        if packet["event_bytes"] != _POLARITY_EVENT.itemsize:
            raise DataError(f"{path}: expected polarity events of 8 bytes, got {packet['event_bytes']}")
        raw = np.frombuffer(body, dtype=_POLARITY_EVENT)
        data = raw["data"][raw["data"] & 1 == 1].astype(np.int64)
        time_us = raw["time_us"][raw["data"] & 1 == 1].astype(np.int64) + (int(packet["overflows"]) << 31)
        parts.append(Events(data >> 17 & 0x7FFF, data >> 2 & 0x7FFF, (data & 2) != 0, time_us))
    if not parts:
        raise DataError(f"{path}: expected polarity events, got none")
    return _checked(path, Events(*(np.concatenate(column) for column in zip(*parts, strict=True))), sensor)


def _body_start(path: Path, content: bytes) -> int:
    end = content.find(_AEDAT_END)
    if not content.startswith(_AEDAT_FIRST) or end < 0:
        raise DataError(f"{path}: expected AEDAT 3.1, from {_AEDAT_FIRST!r} to {_AEDAT_END!r}, got {content[:12]!r}")
    return content.index(b"\n", end) + 1 if b"\n" in content[end:] else len(content)


def _packets(path: Path, content: bytes, start: int) -> Iterator[tuple[NDArray[np.void], bytes]]:
    while start < len(content):
        body = start + _PACKET.itemsize
        if body > len(content):
            raise DataError(f"{path}: expected a packet's header of {_PACKET.itemsize} bytes at {start}, got the end")
        header = np.frombuffer(content, dtype=_PACKET, count=1, offset=start)[0]
        start = body + int(header["events"]) * int(header["event_bytes"])
        if start > len(content):
            raise DataError(f"{path}: expected {start - body} bytes of events at {body}, got {len(content) - body}")
        yield header, content[body:start]


def _checked(path: Path, events: Events, sensor: int) -> Events:
    for name, values in (("column", events.x), ("row", events.y)):
        if len(values) and int(values.max()) >= sensor:
            raise DataError(f"{path}: expected a {name} below {sensor}, got {int(values.max())}")
    return events


def nmnist(folder: Path, split: str) -> list[Recording]:
    """The recordings of N-MNIST.

    Args:
        folder: has `Train` and `Test`.
        split: "train" or "test".

    Raises:
        ConfigError: if there are none.
    """
    base = folder / split.capitalize()
    found = [
        Recording(path, digit)
        for digit in range(10)
        for path in sorted((base / str(digit)).glob("*"))
        if path.suffix in (".bin", ".bs2")
    ]
    if not found:
        raise ConfigError(f"setting 'folder': expected N-MNIST's recordings as {base}/0..9/*.bin, found none")
    return found


def dvs_gesture(folder: Path, split: str) -> list[Recording]:
    """The recordings of DVS128 Gesture: the labelled parts of the files that a list names.

    Args:
        folder: has `trials_to_train.txt` and `trials_to_test.txt`, and beside each `NAME.aedat` a `NAME_labels.csv`
            with lines "class,startTime_usec,endTime_usec", the classes from 1 to 11.
        split: "train" or "test".

    Raises:
        ConfigError: if the list is missing or empty.
        DataError: if a table of labels cannot be read.
    """
    names = folder / f"trials_to_{split}.txt"
    if not names.is_file():
        raise ConfigError(f"setting 'folder': expected DVS128 Gesture's list {names}, found none")
    found = [
        Recording(folder / name, *row)
        for name in sorted(filter(None, map(str.strip, names.read_text().splitlines())))
        for row in _labels(folder / f"{Path(name).stem}_labels.csv")
    ]
    if not found:
        raise ConfigError(f"setting 'folder': expected recordings in {names}, found none")
    return found


def _labels(path: Path) -> list[tuple[int, int, int]]:
    try:
        with path.open(newline="") as file:
            rows = [tuple(map(int, row[:3])) for row in list(csv.reader(file))[1:] if row]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected lines of class, start and end: {error}") from error
    for row in rows:
        if len(row) != 3 or not 1 <= row[0] <= len(GESTURES) or row[1] >= row[2]:
            raise DataError(f"{path}: expected a class from 1 to {len(GESTURES)}, a start and a later end, got {row}")
    return [(label - 1, start_us, end_us) for label, start_us, end_us in rows]


class Format(NamedTuple):
    """A set of recordings."""

    classes: tuple[str, ...]
    sensor: int
    """Rows and columns, in pixels."""
    listed: Callable[[Path, str], list[Recording]]
    """Lists the recordings of a folder and split."""
    read: Callable[[Path], Events]
    """Reads a file."""


FORMATS = {
    "nmnist": Format(tuple(map(str, range(10))), NMNIST_SENSOR, nmnist, read_nmnist),
    "dvs-gesture": Format(GESTURES, GESTURE_SENSOR, dvs_gesture, read_aedat31),
}
"""By the name of the setting `data`."""
