"""A workload's samples, kept as files in the run's folder and told of as an event.

They are for people only: whatever goes wrong with them is logged, and the run goes on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message as Payload

from neurofed.files import make_folder, write_atomically
from neurofed.runstate import one_line
from neurofed.v1 import monitor_pb2
from workloads.samples import MAX_CAPTION_CHARS, MAX_PNG_BYTES, MAX_SAMPLES, Sample, ShowsSamples, png

if TYPE_CHECKING:
    from torch import nn

_LOG = logging.getLogger(__name__)
FOLDER: Final = "samples"
NAME: Final = re.compile(r"[0-9]{6,9}-[0-9]\.png")
"""What a picture is called: its round and its number."""
KEPT_ROUNDS: Final = 8
"""Rounds whose pictures are kept: a page may ask for one a little later."""


def publish_samples(
    task: object, model: nn.Module, round_number: int, folder: Path, emit: Callable[[Payload], object]
) -> None:
    """Publish the samples of a task that has some, in place of the round's before.

    Args:
        task: the workload's task.
        model: the global model.
        round_number: the round it is of.
        folder: the run's.
        emit: takes the event.
    """
    if not isinstance(task, ShowsSamples):
        return
    try:
        samples = _write(task.samples(model)[:MAX_SAMPLES], round_number, folder)
    except Exception:
        _LOG.exception("round %d has no samples", round_number)
        return
    emit(monitor_pb2.SamplesPublished(round=round_number, samples=samples))


def _write(samples: Sequence[Sample], round_number: int, folder: Path) -> list[monitor_pb2.Sample]:
    make_folder(folder / FOLDER)
    written = []
    for number, sample in enumerate(samples):
        content = png(sample.picture)
        if len(content) > MAX_PNG_BYTES:
            _LOG.warning("a sample is left out: expected at most %d bytes, got %d", MAX_PNG_BYTES, len(content))
            continue
        file = f"{FOLDER}/{round_number:06}-{number}.png"
        write_atomically(folder / file, content)
        written.append(monitor_pb2.Sample(file=file, caption=one_line(sample.caption, MAX_CAPTION_CHARS)))
    _forget(folder / FOLDER, round_number - KEPT_ROUNDS)
    return written


def _forget(folder: Path, last_round: int) -> None:
    for path in folder.glob("*.png"):
        if NAME.fullmatch(path.name) and int(path.name.partition("-")[0]) <= last_round:
            path.unlink(missing_ok=True)
