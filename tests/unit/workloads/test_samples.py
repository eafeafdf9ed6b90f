"""Pictures as PNG files, and the samples of video-classification."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workloads import registry
from workloads.samples import MAX_CAPTION_CHARS, MAX_PNG_BYTES, MAX_SAMPLES, ShowsSamples, png


def decoded(data: bytes) -> np.ndarray:
    """The picture in a PNG without filters, by the specification (ISO/IEC 15948)."""
    assert data[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, kind, *methods = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, methods) == (8, [0, 0, 0])
    channels = {0: 1, 2: 3}[kind]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width) if kind == 0 else (height, width, 3))


shapes = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))
)


@given(hnp.arrays(np.uint8, shapes))
def test_a_picture_survives(picture: np.ndarray) -> None:
    assert np.array_equal(decoded(png(picture)), picture)


@pytest.mark.parametrize("shape", [(3,), (2, 2, 4), (0, 3), (1, 1, 1, 1)])
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="uint8"):
        png(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="float32"):
        png(np.zeros((2, 2), np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize("clips", ["1", "5", "480"])
def test_video_classification_shows_what_it_was_given_and_what_it_said(clips: str) -> None:
    workload = registry.load("video-classification")
    task = workload.prepare(workload.settings("tiny", {"test_clips": clips}), 0)
    assert isinstance(task, ShowsSamples)
    model = task.build_model()
    task.calibrate(model)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    samples = task.samples(model)
    assert 0 < len(samples) <= min(MAX_SAMPLES, int(clips))
    assert [s.caption for s in samples] == [s.caption for s in task.samples(model)]
    for sample in samples:
        assert len(sample.caption) <= MAX_CAPTION_CHARS
        assert " at " in sample.caption
        assert len(png(sample.picture)) <= MAX_PNG_BYTES
        assert sample.picture.max() > 150
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_first_frame_is_top_left() -> None:
    workload = registry.load("video-classification")
    task = workload.prepare(workload.settings("tiny", {}), 0)
    model = task.build_model()
    task.calibrate(model)
    frame = next(iter(task.test_batches())).inputs[0, 0, 0]
    size = frame.shape[0]
    expected = (frame.clamp(0, 1) * 255).byte().numpy()
    assert np.array_equal(task.samples(model)[0].picture[:size, :size], expected)
