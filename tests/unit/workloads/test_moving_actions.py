import hashlib
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest

from workloads.moving_actions import CLASSES, GROUPS, MOTIONS, MovingActions, Track, labels, render, scan_numbers

SPLITS = ("train", "test", "calibration")


@pytest.fixture(scope="module")
def clips():
    return MovingActions(seed=3).clips("train", range(120))


def digest(seed, split, indices, take=0):
    return hashlib.sha256(MovingActions(seed).clips(split, indices, take).tobytes()).hexdigest()


def centres_of_mass(frames):
    """(..., S, S) to rows and columns, counting what stands out from the noise."""
    mass = np.where(frames > 0.2, frames, 0)
    axis = np.arange(frames.shape[-1])
    total = mass.sum((-1, -2))
    return (mass.sum(-1) * axis).sum(-1) / total, (mass.sum(-2) * axis).sum(-1) / total


def track(motion, speed=1.3, x=11.5, y=11.5):
    def value(v):
        return np.array([v], dtype=np.float32)

    return Track(np.array([MOTIONS.index(motion)]), value(speed), value(x), value(y))


def digit():
    return np.random.default_rng(0).random((1, 8, 8), dtype=np.float32)


def test_clips_are_float32_images(clips):
    assert clips.shape == (120, 8, 24, 24)
    assert clips.dtype == np.float32
    assert clips.min() >= 0
    assert clips.max() <= 1


def test_classes_are_balanced_and_named_by_group_and_motion():
    counts = np.bincount(labels(range(240)))
    assert counts.tolist() == [20] * 12
    assert CLASSES[0] == "012-left"
    assert CLASSES[7] == "347-down"


def test_no_scan_is_in_two_splits_or_in_two_groups():
    pools = [set(scan_numbers(split, group).tolist()) for split, group in product(SPLITS, range(len(GROUPS)))]
    assert all(pools)
    assert all(a.isdisjoint(b) for a, b in combinations(pools, 2))


def test_scans_show_the_digits_of_their_group():
    from sklearn.datasets import load_digits

    digits = load_digits().target
    for split, group in product(SPLITS, range(len(GROUPS))):
        assert set(digits[scan_numbers(split, group)]) == set(GROUPS[group])


def test_a_clip_depends_on_its_own_number_only(clips):
    some = MovingActions(seed=3).clips("train", np.array([77, 5]))
    np.testing.assert_array_equal(some, clips[[77, 5]])


def test_seed_split_number_and_take_all_matter():
    variants = [
        (0, "train", [1], 0),
        (1, "train", [1], 0),
        (0, "test", [1], 0),
        (0, "train", [13], 0),
        (0, "train", [1], 1),
    ]
    assert len({digest(*v) for v in variants}) == len(variants)


def test_another_process_makes_the_same_clips():
    script = (
        "import hashlib; from workloads.moving_actions import MovingActions;"
        "print(hashlib.sha256(MovingActions(5).clips('test', [4, 9], 2).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(5, "test", [4, 9], 2)


def test_the_centre_of_mass_goes_where_the_label_says(clips):
    rows, columns = centres_of_mass(clips)
    down, right = rows[:, -1] - rows[:, 0], columns[:, -1] - columns[:, 0]
    motion = labels(range(len(clips))) % len(MOTIONS)
    along = np.choose(motion, [-right, right, -down, down])
    across = np.choose(motion, [down, down, right, right])
    assert along.min() > 4
    assert np.abs(across).max() < 3


@pytest.mark.parametrize(("motion", "opposite"), [("left", "right"), ("up", "down")])
def test_a_clip_played_backwards_is_the_opposite_motion(motion, opposite):
    forth = render(digit(), track(motion), 8, 24, 1.5)
    back = render(digit(), track(opposite), 8, 24, 1.5)
    np.testing.assert_allclose(forth[:, ::-1], back, atol=1e-6)
    assert np.abs(forth - back).max() > 0.1


@pytest.mark.parametrize(("motion", "opposite"), [("left", "right"), ("up", "down")])
def test_opposite_motions_visit_the_same_places(motion, opposite):
    """The mean over the frames, all that a model without memory can average, must not tell order pairs apart."""
    numbers = np.arange(2400)
    kind = labels(numbers) % len(MOTIONS)
    data = MovingActions(seed=0, frames=4, size=16)
    rows, columns = centres_of_mass(
        np.stack([data.clips("train", numbers[kind == MOTIONS.index(m)]).mean(1) for m in (motion, opposite)])
    )
    standard_error = 0.5 * np.sqrt(2 / 600)
    assert abs(rows[0].mean() - rows[1].mean()) < 4 * standard_error
    assert abs(columns[0].mean() - columns[1].mean()) < 4 * standard_error


def test_motion_is_finer_than_a_pixel():
    here, near = (render(digit(), track("left", x=x), 1, 24, 1.5) for x in (11.5, 11.75))
    _, before = centres_of_mass(here)
    _, after = centres_of_mass(near)
    assert after - before == pytest.approx(0.25, abs=0.1)


def test_a_digit_drawn_pixel_for_pixel_is_the_scan():
    drawn = render(digit(), track("left", x=7.5, y=7.5), 1, 16, 1.0)
    np.testing.assert_allclose(drawn[0, 0, 4:12, 4:12], digit()[0], atol=1e-6)
    assert drawn[0, 0].sum() == pytest.approx(digit().sum(), rel=1e-5)


def test_the_background_stays_while_sensor_noise_changes():
    data = MovingActions(seed=1)
    corner = data.clips("train", range(600))[:, :, :3, :3]
    first, last = corner[:, 0].ravel(), corner[:, -1].ravel()
    assert 0.2 < np.corrcoef(first, last)[0, 1] < 0.9
