"""Samples go into the run's folder and an event, bounded, and never stop a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurofed.v1 import monitor_pb2 as m
from server.samples import KEPT_ROUNDS, publish_samples
from workloads.samples import MAX_CAPTION_CHARS, MAX_SAMPLES, Sample

PICTURE = np.full((2, 3), 7, np.uint8)


class Task:
    """Shows what it is told to."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def samples(self, model: object) -> Any:
        if isinstance(self._samples, Exception):
            raise self._samples
        return self._samples


def published(task: object, folder: Path, round_number: int = 1) -> list[m.SamplesPublished]:
    events: list[Any] = []
    publish_samples(task, None, round_number, folder, events.append)  # type: ignore[arg-type]
    return events


def test_pictures_and_captions(tmp_path: Path) -> None:
    (event,) = published(Task([Sample("a <b>\nnew line", PICTURE), Sample("x" * 999, PICTURE)]), tmp_path)
    assert event.round == 1
    assert [sample.file for sample in event.samples] == ["samples/000001-0.png", "samples/000001-1.png"]
    assert event.samples[0].caption == "a <b> new line"
    assert len(event.samples[1].caption) == MAX_CAPTION_CHARS
    assert all((tmp_path / sample.file).read_bytes().startswith(b"\x89PNG") for sample in event.samples)


def test_too_many_and_too_large_are_left_out(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    (event,) = published(Task([Sample("large", noise), *[Sample("s", PICTURE)] * 20]), tmp_path)
    assert len(event.samples) == MAX_SAMPLES - 1
    assert all(sample.caption == "s" for sample in event.samples)


def test_old_pictures_go(tmp_path: Path) -> None:
    for round_number in range(1, 12):
        published(Task([Sample("s", PICTURE)]), tmp_path, round_number)
    kept = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert kept == [f"{number:06}-0.png" for number in range(12 - KEPT_ROUNDS, 12)]


@pytest.mark.parametrize("samples", [RuntimeError("no"), [Sample("bad", np.zeros(3, np.uint8))], None, [1]])
def test_a_workload_that_fails_has_no_samples(tmp_path: Path, samples: Any) -> None:
    assert published(Task(samples), tmp_path) == []


def test_a_workload_without_samples_is_not_asked(tmp_path: Path) -> None:
    assert published(object(), tmp_path) == []
    assert not (tmp_path / "samples").exists()
