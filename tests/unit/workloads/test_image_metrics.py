import math

import numpy as np
import pytest

from workloads.image_metrics import luma, mean_squared_error, psnr, psnr_of, ssim


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_an_error_of_one_grey_level_is_48_13_db():
    image = noise((20, 20)).clip(0, 254)
    assert psnr(image, image + 1) == pytest.approx(20 * math.log10(255), abs=1e-12)
    assert psnr(image, image + 1) == pytest.approx(48.1308, abs=1e-4)


def test_equal_images_have_no_error():
    image = noise((16, 16, 3))
    assert psnr(image, image) == math.inf
    assert ssim(image, image) == pytest.approx(1.0, abs=1e-12)


def test_differences_of_bytes_do_not_wrap_around():
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    assert mean_squared_error(black, white) == mean_squared_error(white, black) == 255.0**2
    assert psnr(black, white) == 0.0


def test_the_border_is_left_out():
    image = np.zeros((12, 14))
    other = image.copy()
    other[:2] = other[-2:] = 99.0
    other[:, :2] = other[:, -2:] = 99.0
    assert mean_squared_error(image, other, border=2) == 0.0
    assert mean_squared_error(image, other, border=1) > 0.0


def test_sixteen_bit_images_have_their_own_peak():
    assert psnr_of(1.0, peak=65535.0) == pytest.approx(96.3295, abs=1e-4)


def test_ssim_of_two_constant_images_is_the_luminance_term():
    a, b = np.full((15, 15), 100.0), np.full((15, 15), 120.0)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window_equals_its_definition():
    a, b = (noise((11, 11), seed).astype(float) for seed in (1, 2))
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 6.5025, 58.5225  # the constants of Wang's own code
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    assert ssim(a, b) == pytest.approx(expected, rel=1e-9)


def test_ssim_of_colours_is_the_mean_of_the_channels():
    a, b = noise((20, 20, 3), 1), noise((20, 20, 3), 2)
    assert ssim(a, b) == pytest.approx(np.mean([ssim(a[..., c], b[..., c]) for c in range(3)]), rel=1e-9)


def test_ssim_does_not_depend_on_the_order_or_on_the_unit():
    a, b = noise((20, 20), 1), noise((20, 20), 2)
    assert ssim(a, b) == pytest.approx(ssim(b, a), rel=1e-12)
    assert ssim(a / 255, b / 255, peak=1.0) == pytest.approx(ssim(a, b), rel=1e-9)


def test_luma_of_the_corners_of_the_cube():
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert luma(corners)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-9)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: psnr(np.zeros((4, 4)), np.zeros((4, 5))), "one shape"),
        (lambda: psnr(np.zeros((4, 4)), np.zeros((4, 4)), border=2), "larger than its border"),
        (lambda: psnr(np.zeros((4, 4)), np.zeros((4, 4)), border=-1), "larger than its border"),
        (lambda: ssim(np.zeros((10, 40)), np.zeros((10, 40))), "at least 11x11"),
        (lambda: luma(np.zeros((4, 4))), r"\(H, W, 3\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
