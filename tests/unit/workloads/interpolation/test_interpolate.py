import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofed.errors import ConfigError
from workloads.image_metrics import psnr
from workloads.interpolation.api import classic, interpolate
from workloads.interpolation.leaves import dead_leaves
from workloads.interpolation.options import Options
from workloads.settings import override

FOLDER = Path(os.environ.get("NEUROFED_DATA", "../shared/data")) / "sr" / "InterpClassic"


def picture(size=40, seed=0, dtype=np.uint8):
    image = dead_leaves(np.random.default_rng(seed), size)
    if dtype == np.uint16:
        return (image.astype(np.uint16) * 257).astype(np.uint16)
    return image if dtype == np.uint8 else (image / 255).astype(dtype)


@settings(max_examples=12, deadline=None)
@given(
    shape=st.tuples(st.integers(4, 17), st.integers(4, 17)),
    factor=st.sampled_from([2, 3, 4]),
    colour=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.float64]),
    seed=st.integers(0, 100),
)
def test_known_pixels_are_kept_bit_for_bit(shape, factor, colour, dtype, seed):
    rng = np.random.default_rng(seed)
    image = rng.random((*shape, 3) if colour else shape)
    image = image.astype(dtype) if dtype in (np.float32, np.float64) else (image * np.iinfo(dtype).max).astype(dtype)
    result = interpolate(image, factor, Options(passes=2))
    assert result.dtype == image.dtype
    assert result.shape == (factor * shape[0], factor * shape[1], *image.shape[2:])
    assert np.array_equal(result[::factor, ::factor], image)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3)])
def test_a_constant_image_stays_constant(shape, factor):
    assert (interpolate(np.full(shape, 77, np.uint8), factor) == 77).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_slope_is_exact_away_from_the_border(factor):
    height, width = 18, 20
    fine = (np.add.outer(2.0 * np.arange(factor * height), 1.0 * np.arange(factor * width)) / factor + 20) / 255
    result = interpolate(np.ascontiguousarray(fine[::factor, ::factor]), factor)
    inner = slice(5 * factor, -5 * factor)
    assert np.abs(result - fine)[inner, inner].max() * 255 < 2e-3


def test_it_is_deterministic_and_does_not_depend_on_threads_or_bands():
    image = picture()
    result = interpolate(image, 2)
    assert np.array_equal(result, interpolate(image, 2))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads % 2 + 1)
        assert np.array_equal(result, interpolate(image, 2))
    finally:
        torch.set_num_threads(threads)
    banded = interpolate(image, 2, Options(band=100))
    assert np.abs(result.astype(int) - banded).max() <= 1


def test_a_transposed_image_gives_the_transposed_result():
    image = picture(dtype=np.float64)
    difference = interpolate(image.T.copy(), 2).T - interpolate(image, 2)
    assert np.abs(difference).max() * 255 < 0.5


def test_a_negative_gives_the_negative_result():
    image = picture(dtype=np.float64)
    difference = (1 - interpolate(1 - image, 2)) - interpolate(image, 2)
    assert np.abs(difference).max() * 255 < 0.5


def test_permuted_channels_give_permuted_results_and_grey_stays_grey():
    image = np.stack([picture(seed=s) for s in range(3)], axis=2)
    result = interpolate(image, 2, Options(passes=1))
    turned = interpolate(np.ascontiguousarray(image[..., [2, 0, 1]]), 2, Options(passes=1))
    assert np.abs(result[..., [2, 0, 1]].astype(int) - turned).max() <= 1
    grey = np.repeat(image[..., :1], 3, axis=2)
    expected = interpolate(np.ascontiguousarray(image[..., 0]), 2, Options(passes=1))
    assert np.array_equal(interpolate(grey, 2, Options(passes=1)), np.repeat(expected[..., None], 3, axis=2))


def test_sixteen_bits_agree_with_eight():
    eight, sixteen = interpolate(picture(), 2), interpolate(picture(dtype=np.uint16), 2)
    assert np.abs(sixteen / 257 - eight).max() <= 0.51


def test_no_pass_and_no_term_leave_the_bicubic_image():
    image = picture(dtype=np.float64)
    for options in (Options(passes=0), Options(regression=False, dictionary=False)):
        assert np.abs(interpolate(image, 2, options) - classic(image, 2)).max() < 1e-6


def test_progress_counts_the_passes():
    told = []
    interpolate(picture(12), 2, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_edges_that_repeat_are_restored_better_than_by_bicubic():
    at = np.arange(64)
    stripes = 127.5 + 100 * np.tanh(2 * np.sin((at[:, None] + 0.4 * at) * 2 * np.pi / 9.0))
    original = np.rint(stripes).astype(np.uint8)
    known = np.ascontiguousarray(original[::2, ::2])
    assert psnr(interpolate(known, 2), original, 5) > psnr(classic(known, 2), original, 5) + 3.0


def test_memory_does_not_grow_with_the_number_of_patches():
    script = (
        "import resource, numpy as np, sys\n"
        "from workloads.interpolation.api import interpolate\n"
        "from workloads.interpolation.options import Options\n"
        "def peak(height):\n"
        "    image = np.random.default_rng(0).integers(0, 256, (height, 60), dtype=np.uint8)\n"
        "    interpolate(image, 2, Options(passes=1, radius=4, band=1000))\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "peak(60); small = peak(60)\n"
        "print(peak(600) - small)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 40 * 1024  # KiB; the patches of all 35,000 references alone would take 200 MiB


@pytest.mark.parametrize(
    ("image", "factor", "text"),
    [
        (np.zeros((3, 9), np.uint8), 2, "at least 4x4"),
        (np.zeros((9, 9, 4), np.uint8), 2, "remove the alpha channel"),
        (np.zeros((9, 9, 2), np.uint8), 2, "remove the alpha channel"),
        (np.zeros(9, np.uint8), 2, "grey image"),
        (np.zeros((9, 9), bool), 2, "convert 1-bit images"),
        (np.zeros((9, 9), np.int32), 2, "got int32"),
        (np.full((9, 9), np.nan), 2, "not finite"),
        (np.full((9, 9), 2.0), 2, "from 0.0 to 1.0"),
        (np.zeros((9, 9), np.uint8), 5, "factor of 2, 3, 4, got 5"),
    ],
)
def test_what_cannot_be_interpolated_is_refused_in_one_line(image, factor, text):
    for method in (interpolate, classic):
        with pytest.raises(ConfigError, match=text) as caught:
            method(image, factor)
        assert "\n" not in str(caught.value)


def test_options_are_read_from_text_and_have_ranges():
    assert override(Options(), {"passes": "2", "dictionary": "false"}) == Options(passes=2, dictionary=False)
    with pytest.raises(ConfigError, match=r"'trust': expected a number from 0 to 1, got"):
        override(Options(), {"trust": "1.5"})


@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the classic images in NEUROFED_DATA")
def test_house_reaches_what_is_promised_of_it():
    pillow = pytest.importorskip("PIL.Image")
    original = np.asarray(pillow.open(FOLDER / "20_house.tif").convert("L"))
    known = np.ascontiguousarray(original[::2, ::2])
    assert psnr(classic(known, 2), original, 5) == pytest.approx(32.17, abs=0.02)
    assert psnr(interpolate(known, 2), original, 5) > 32.9
