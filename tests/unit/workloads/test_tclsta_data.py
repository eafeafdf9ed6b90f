"""Events, recordings in published formats made by hand, and the second tier of clips."""

import math
import os
import struct
import tarfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofed.errors import ConfigError, DataError
from workloads.tclsta import WORKLOAD
from workloads.tclsta.actions import CLASSES, MOTIONS, Actions, draw, labels, pose
from workloads.tclsta.events import Events, changes, clips_to_inputs, events_to_input
from workloads.tclsta.recordings import dvs_gesture, nmnist, read_aedat31, read_nmnist
from workloads.tclsta.sources import Recordings, open_source

HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def nmnist_bytes(events):
    """(x, y, on, time) each, as the set's paper has it: 40 bits, big-endian."""
    return b"".join((x << 32 | y << 24 | on << 23 | time).to_bytes(5, "big") for x, y, on, time in events)


def packet(kind, events, overflows=0, event_bytes=8):
    """One AEDAT 3.1 packet of (data, time) pairs."""
    head = struct.pack("<HHIIIIII", kind, 1, event_bytes, 4, overflows, len(events), len(events), len(events))
    return head + b"".join(struct.pack("<II", data, time) for data, time in events)


def polarity(x, y, on, valid=1):
    return x << 17 | y << 2 | on << 1 | valid


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def settings(preset, **overrides):
    return WORKLOAD.settings(preset, {k: str(v) for k, v in overrides.items()})


def events(*rows):
    x, y, on, time = (np.array(column) for column in zip(*rows, strict=True))
    return Events(x, y, on.astype(bool), time)


def test_events_are_changes_of_log_intensity():
    frames = np.array([0.1, 0.3, 0.3, 0.05], dtype=np.float32).reshape(4, 1, 1, 1)
    # ln(0.4 / 0.2) = 0.693, 0, ln(0.15 / 0.4) = -0.98
    assert changes(frames, 0.6).reshape(4, 2).tolist() == [[0, 0], [1, 0], [0, 0], [0, 1]]
    assert changes(frames, 0.7).reshape(4, 2).tolist() == [[0, 0], [0, 0], [0, 0], [0, 1]]
    assert changes(frames, math.inf).sum() == 0


def test_clips_become_a_frame_and_its_events_time_first():
    clips = np.random.default_rng(0).random((2, 5, 4, 4), dtype=np.float32)
    inputs = clips_to_inputs(clips, 0.2)
    assert inputs.shape == (5, 2, 3, 4, 4)
    assert inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[:, :, 0].swapaxes(0, 1), clips)
    np.testing.assert_array_equal(inputs[:, :, 1:], changes(np.ascontiguousarray(clips.swapaxes(0, 1)), 0.2))


def test_a_recording_becomes_counts_and_spikes():
    seen = events((0, 0, 1, 100), (1, 1, 1, 101), (3, 2, 0, 149), (3, 2, 0, 150), (3, 2, 1, 199))
    inputs = events_to_input(seen, frames=2, sensor=4, size=2)
    assert inputs.shape == (2, 3, 2, 2)
    assert inputs[0].tolist() == [[[0.5, 0], [0, 0.25]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]]
    assert inputs[1].tolist() == [[[0, 0], [0, 0.5]], [[0, 0], [0, 1]], [[0, 0], [0, 1]]]


def test_a_recording_without_events_is_dark():
    empty = events((0, 0, 1, 100)).between(0, 100)
    assert events_to_input(empty, 3, 4, 2).sum() == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 33), st.integers(0, 33), st.integers(0, 1), st.integers(0, (1 << 23) - 1)), min_size=1
    )
)
def test_nmnist_files_are_read_event_by_event(tmp_path_factory, rows):
    path = write(tmp_path_factory.getbasetemp() / "one.bin", nmnist_bytes(rows))
    got = read_nmnist(path)
    assert list(zip(got.x, got.y, got.on, got.time_us, strict=True)) == rows


def test_nmnist_by_hand(tmp_path):
    got = read_nmnist(write(tmp_path / "one.bin", bytes([3, 33, 0x80 | 0x01, 0x02, 0x03])))
    assert (got.x[0], got.y[0], got.on[0], got.time_us[0]) == (3, 33, True, 0x010203)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "got 0 bytes"),
        (b"1234567", "events of 5 bytes, got 7 bytes"),
        (bytes([34, 0, 0, 0, 0]), "expected a column below 34, got 34"),
        (bytes([0, 200, 0, 0, 0]), "expected a row below 34, got 200"),
    ],
)
def test_a_damaged_nmnist_file_is_named(tmp_path, content, says):
    path = write(tmp_path / "bad.bin", content)
    with pytest.raises(DataError, match=says) as caught:
        read_nmnist(path)
    assert str(path) in str(caught.value)


def test_aedat_by_hand(tmp_path):
    first = packet(1, [(polarity(5, 7, 1), 10), (polarity(127, 0, 0), 20), (polarity(1, 1, 1, valid=0), 30)])
    other = packet(0, [(0, 0)])  # another kind of event: left out
    late = packet(1, [(polarity(0, 127, 0), 5)], overflows=1)
    got = read_aedat31(write(tmp_path / "one.aedat", HEADER + first + other + late))
    assert got.x.tolist() == [5, 127, 0]
    assert got.y.tolist() == [7, 0, 127]
    assert got.on.tolist() == [True, False, False]
    assert got.time_us.tolist() == [10, 20, (1 << 31) + 5]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#!AER-DAT2.0\r\n", "expected AEDAT 3.1"),
        (b"#!AER-DAT3.1\r\n", "expected AEDAT 3.1"),
        (HEADER, "expected polarity events, got none"),
        (HEADER + b"\x01\x00", "expected a packet's header of 28 bytes"),
        (HEADER + packet(1, [(1, 1)])[:-1], "expected 8 bytes of events at [0-9]+, got 7"),
        (HEADER + packet(1, [(1, 1)] * 2, event_bytes=4), "expected polarity events of 8 bytes, got 4"),
        (HEADER + packet(1, [(polarity(128, 0, 1), 1)]), "expected a column below 128, got 128"),
    ],
)
def test_a_damaged_aedat_file_is_named(tmp_path, content, says):
    path = write(tmp_path / "bad.aedat", content)
    with pytest.raises(DataError, match=says) as caught:
        read_aedat31(path)
    assert str(path) in str(caught.value)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_aedat_reader_fail_otherwise(tmp_path_factory, tail):
    path = write(tmp_path_factory.getbasetemp() / "fuzz.aedat", HEADER + tail)
    try:
        got = read_aedat31(path)
    except DataError:
        return
    assert all(value < 128 for value in (*got.x, *got.y))


def gesture_folder(folder, table="class,startTime_usec,endTime_usec\n2,0,50\n11,50,101\n"):
    rows = [(polarity(10, 20, 1), 10), (polarity(30, 40, 0), 60), (polarity(30, 40, 0), 100), (polarity(1, 1, 0), 200)]
    for split in ("train", "test"):
        write(folder / f"trials_to_{split}.txt", f"user_{split}.aedat\n\n".encode())
        write(folder / f"user_{split}.aedat", HEADER + packet(1, rows))
        write(folder / f"user_{split}_labels.csv", table.encode())
    return folder


def test_gestures_are_the_labelled_parts_of_a_file(tmp_path):
    source = open_source(settings("dvs-gesture", folder=gesture_folder(tmp_path), frames=2), 0)
    assert source.labels("train").tolist() == [1, 10]
    inputs = source.inputs("train", [0, 1])
    assert inputs.shape == (2, 2, 3, 32, 32)
    assert np.argwhere(inputs[:, 0, 1:]).tolist() == [[0, 0, 5, 2]]  # one ON event at (10, 20) of 128 pixels
    assert np.argwhere(inputs[:, 1, 1:]).tolist() == [[0, 1, 10, 7], [1, 1, 10, 7]]


@pytest.mark.parametrize("row", ["0,0,50", "12,0,50", "3,50,50", "3,4", "a,b,c"])
def test_a_wrong_label_is_a_data_error(tmp_path, row):
    folder = gesture_folder(tmp_path, f"class,startTime_usec,endTime_usec\n{row}\n")
    with pytest.raises(DataError, match=r"user_train_labels\.csv: expected"):
        dvs_gesture(folder, "train")


def nmnist_folder(folder, per_digit=2):
    for split in ("Train", "Test"):
        for digit in range(10):
            for n in range(per_digit):
                write(
                    folder / split / str(digit) / f"{n:05}.bin",
                    nmnist_bytes([(10 + digit, 12 + n, 1, 10), (20, 20, 0, 99)]),
                )
    return folder


def test_nmnist_is_found_by_its_folders(tmp_path):
    found = nmnist(nmnist_folder(tmp_path), "test")
    assert [r.label for r in found] == [d for d in range(10) for _ in range(2)]
    source = open_source(settings("nmnist", folder=tmp_path), 0)
    assert source.labels("train").tolist() == [r.label for r in found]
    assert source.classes == tuple("0123456789")
    assert source.inputs("train", [3]).shape == (8, 1, 3, 17, 17)


def test_a_damaged_recording_is_skipped_counted_and_named(tmp_path, caplog):
    folder = nmnist_folder(tmp_path)
    bad = write(folder / "Train" / "4" / "00000.bin", b"123")
    source = Recordings(settings("nmnist", folder=folder))
    assert np.bincount(source.labels("train")).tolist() == [2, 2, 2, 2, 1, 2, 2, 2, 2, 2]
    assert source.skipped == [bad]
    assert str(bad) in caplog.text


def test_another_take_of_a_recording_is_shifted(tmp_path):
    source = open_source(settings("nmnist", folder=nmnist_folder(tmp_path)), 0)
    plain = source.inputs("train", range(20))
    takes = [source.inputs("train", range(20), take) for take in (1, 1, 2)]
    np.testing.assert_array_equal(takes[0], takes[1])
    assert not np.array_equal(takes[0], takes[2])
    for n in range(20):
        moves = [(r, c) for r in range(-2, 3) for c in range(-2, 3)]
        shifted = [np.roll(plain[0, n, 1], move, (0, 1)) for move in moves]
        assert any(np.array_equal(takes[0][0, n, 1], s) for s in shifted)


@pytest.mark.parametrize(
    ("preset", "overrides", "says"),
    [
        ("nmnist", {}, "needs the folder with its recordings, got ''"),
        ("nmnist", {"folder": "/no/such/folder"}, "got '/no/such/folder'; set workload.folder"),
        ("nmnist", {"folder": ".", "size": 35}, "at most the sensor's 34 pixels, got 35"),
    ],
)
def test_a_wrong_folder_is_a_config_error(preset, overrides, says):
    with pytest.raises(ConfigError, match=says):
        open_source(settings(preset, **overrides), 0)


def test_an_empty_folder_is_a_config_error(tmp_path):
    source = open_source(settings("nmnist", folder=tmp_path), 0)
    with pytest.raises(ConfigError, match=r"Train/0\.\.9/\*\.bin, found none"):
        source.labels("train")
    source = open_source(settings("dvs-gesture", folder=tmp_path), 0)
    with pytest.raises(ConfigError, match=r"trials_to_train\.txt, found none"):
        source.labels("train")


def test_real_recordings_are_read(tmp_path):
    archive = Path(os.environ.get("NEUROFED_DATA", "absent")) / "video" / "nmnist_small" / "train.tar.gz"
    if not archive.is_file():
        pytest.skip("needs N-MNIST recordings in NEUROFED_DATA")
    with tarfile.open(archive) as tar:
        for _, member in zip(range(20), (m for m in tar if m.name.endswith(".bs2")), strict=False):
            write(tmp_path / "Train" / "0" / Path(member.name).name, tar.extractfile(member).read())
    source = Recordings(settings("nmnist", folder=tmp_path))
    inputs = source.inputs("train", range(20))
    assert source.skipped == []
    # A saccade moves a digit over the sensor: everywhere some pixels see it, and nowhere most.
    density = inputs[:, :, 1:].mean((0, 2, 3, 4))
    assert (density > 0.01).all()
    assert (density < 0.4).all()


def path_of(motion, frames=9, phase=0.1):
    return pose(MOTIONS.index(motion), 0.4, (0.0, 0.0), phase, frames)


def test_the_second_tier_has_24_balanced_classes():
    assert len(CLASSES) == 24
    assert np.bincount(labels(range(240))).tolist() == [10] * 24
    assert CLASSES[0] == "012-left"
    assert CLASSES[13] == "347-counter-clockwise"


@pytest.mark.parametrize("pair", range(4))
def test_motions_of_an_order_pair_are_each_other_played_backwards(pair):
    there, back = (path_of(MOTIONS[2 * pair + k]) for k in (0, 1))
    for name in ("x", "y", "scale"):
        np.testing.assert_allclose(getattr(there, name)[::-1], getattr(back, name), atol=1e-6)
    assert max(np.abs(getattr(there, n) - getattr(back, n)).max() for n in ("x", "y", "scale")) > 0.1


def test_motions_go_where_their_names_say():
    assert np.all(np.diff(path_of("left").x) < 0)
    assert np.all(np.diff(path_of("right").x) > 0)
    assert np.all(np.diff(path_of("up").y) < 0)
    assert np.all(np.diff(path_of("down").y) > 0)
    assert np.all(np.diff(path_of("in").scale) > 0)
    assert np.all(np.diff(path_of("out").scale) < 0)
    for motion, sign in (("clockwise", 1), ("counter-clockwise", -1)):
        path = path_of(motion)
        # From x to y, and rows grow downwards: a positive turn is clockwise on the screen.
        turn = path.x[:-1] * path.y[1:] - path.y[:-1] * path.x[1:]
        assert np.all(np.sign(turn) == sign)


def test_a_digit_is_drawn_where_its_pose_is_and_as_large():
    digit = np.ones((8, 8), dtype=np.float32)
    image = draw(digit, pose(MOTIONS.index("right"), 0.0, (0.125, 0.0), 0.0, 2), 16)[0]
    # A square of half the frame's side, two pixels to the right of the middle.
    np.testing.assert_allclose(image[5:11, 7:13], 1)
    assert image[:, :5].sum() == 0
    assert (image > 0).sum() <= 64 + 36


def test_clips_of_the_second_tier_depend_on_their_numbers_only():
    data = Actions(3, 4, 16)
    some = data.clips("train", [77, 5])
    np.testing.assert_array_equal(some, data.clips("train", range(78))[[77, 5]])
    assert some.shape == (2, 4, 16, 16)
    assert some.dtype == np.float32
    assert some.min() >= 0
    assert some.max() <= 1
    variants = [
        Actions(s, 4, 16).clips(split, [i], take).tobytes()
        for s, split, i, take in [(3, "train", 77, 0), (4, "train", 77, 0), (3, "test", 77, 0), (3, "train", 77, 1)]
    ]
    assert all(a != b for a, b in combinations(variants, 2))
