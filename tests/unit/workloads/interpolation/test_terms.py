"""Each term of the solver against a small dense reference."""

import numpy as np
import pytest
import torch

from workloads.interpolation import dictionaries, kernels, linear, matching, regression
from workloads.interpolation.canvas import Canvas
from workloads.interpolation.solver import plane


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def band(image, size=4, step=2):
    rows = (image.shape[0] - size) // step + 1
    return matching.Band(image, 0, rows, size, step)


def test_keys_weights_half_way_are_those_of_the_paper():
    weights = kernels.keys(torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.0], dtype=torch.float64))
    assert weights.tolist() == [-0.0625, 0.5625, 0.5625, -0.0625, 0.0]


@pytest.mark.parametrize("kernel", [kernels.keys, kernels.triangle, kernels.box, kernels.lanczos3])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_every_kernel_keeps_pixels_and_constants(kernel, factor):
    image = noise(2, 7, 9).double()
    assert torch.allclose(kernels.enlarge(image, factor, kernel)[:, ::factor, ::factor], image, atol=1e-12)
    constant = torch.full((5, 6), 3.0, dtype=torch.float64)
    assert torch.allclose(kernels.enlarge(constant, factor, kernel), torch.tensor(3.0, dtype=torch.float64))


def test_keys_is_exact_for_a_parabola_away_from_the_border():
    at = torch.arange(12, dtype=torch.float64)
    fine = torch.arange(36, dtype=torch.float64) / 3
    enlarged = kernels.enlarge((at**2)[:, None].expand(12, 12), 3)
    assert torch.allclose(enlarged[6:-9, 6], fine[6:-9] ** 2)


def test_systems_are_solved_as_torch_solves_them():
    a = noise(50, 7, 9)
    a = a @ a.transpose(1, 2) + 0.1 * torch.eye(7)
    b = noise(50, 7, seed=1)
    assert torch.allclose(linear.solve(a, b), torch.linalg.solve(a, b), atol=1e-3, rtol=1e-3)


def test_matches_are_those_of_a_search_patch_by_patch():
    image = noise(14, 16)
    one = band(image)
    table = one.table(image)
    chosen = torch.tensor([0, 3, 11, 20])
    phase = (1, 0)
    index, distance = matching.find(one, 5, 4, [phase], chosen)
    across = one.patches_across
    for patch, found, apart in zip(one.references[chosen].tolist(), index, distance, strict=True):
        y, x = divmod(patch, across)
        all_distances = {}
        for other in range(len(table)):
            dy, dx = other // across - y, other % across - x
            if max(abs(dy), abs(dx)) <= 5 and (dy % 2, dx % 2) == phase:
                all_distances[other] = float(((table[other] - table[patch]) ** 2).mean())
        best = sorted(all_distances, key=all_distances.__getitem__)[:4]
        assert found.tolist() == best
        assert apart.tolist() == pytest.approx([all_distances[b] for b in best], rel=1e-4)


def test_a_patch_is_no_match_of_its_own_unless_there_are_too_few():
    one = band(torch.zeros(6, 6))
    index, distance = matching.find(one, 2, 12, [(0, 0)], torch.tensor([0]))
    own = int(one.references[0])
    real = distance[0] < 1e6
    assert own not in index[0][real].tolist()
    assert set(index[0][~real].tolist()) == {own}
    assert int(real.sum()) == 3  # 2x2 patches begin at even pixels


@pytest.mark.parametrize("references", [1, 7, 20, 10_000])
def test_bands_cover_every_reference_patch_once_with_its_surroundings(references):
    shape, size, step, radius = (30, 26), 6, 2, 5
    rows = []
    for part, first, count in matching.bands(shape, size, step, radius, references):
        begins = [part.start + first + step * i for i in range(count)]
        rows += begins
        assert part.start == max(0, begins[0] - radius)
        assert part.stop == min(shape[0], begins[-1] + size + radius)
    assert rows == list(range(0, 25, 2))


def test_the_known_pixels_of_a_displaced_patch():
    assert regression.pixels(4, 2, (0, 0)).view(4, 4).nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
    assert regression.pixels(4, 2, (1, 0)).view(4, 4).nonzero().tolist() == [[1, 0], [1, 2], [3, 0], [3, 2]]
    counted = sum(int(regression.pixels(6, 3, (y, x)).sum()) for y in range(3) for x in range(3))
    assert counted == 36  # every pixel is known in exactly one phase


def test_ridge_regression_equals_the_dense_normal_equations():
    group, target, start = noise(3, 4, 16), noise(3, 16, seed=1), noise(3, 4, seed=2)
    trust, ridge = torch.rand(16, generator=generator(3)), torch.rand(3, 4, generator=generator(4)) + 0.1
    found, error = regression.regress(group, target, start, trust, ridge, reweight=False)
    for i in range(3):
        x, v = group[i].T.double(), torch.diag(trust.double())
        a = x.T @ v @ x + torch.diag(ridge[i].double())
        expected = torch.linalg.solve(a, x.T @ v @ target[i].double() + ridge[i].double() * start[i].double())
        assert torch.allclose(found[i].double(), expected, atol=1e-4)
        residual = x @ expected - target[i].double()
        assert float(error[i]) == pytest.approx(float((trust * residual**2).sum() / trust.sum()), rel=1e-3)


def test_without_evidence_the_coefficients_are_those_of_the_nonlocal_mean():
    group, target, start = noise(2, 3, 16), noise(2, 16, seed=1), noise(2, 3, seed=2)
    found, _ = regression.regress(group, target, start, torch.ones(16), torch.full((2, 3), 1e9), reweight=True)
    assert torch.allclose(found, start, atol=1e-5)


def test_weighted_encoding_is_steered_less_by_an_outlier():
    group = noise(1, 2, 36)
    truth = torch.tensor([[0.7, -0.4]])
    target = (truth[:, None] @ (10 * group))[:, 0]
    target[0, 5] += 400.0
    args = (10 * group, target, torch.zeros(1, 2), torch.ones(36), torch.full((1, 2), 1e-3))
    plain, weighted = (regression.regress(*args, reweight=r)[0] for r in (False, True))
    assert (weighted - truth).norm() < 0.2 * (plain - truth).norm()


def test_cauchy_weights_by_hand():
    residual = torch.tensor([[0.0, 4.0]])
    scale = 2.0 + 1.0
    expected = [1.0, 1.0 / (1.0 + (4.0 / (2.5 * scale)) ** 2)]
    assert regression.cauchy(residual, torch.ones(2))[0].tolist() == pytest.approx(expected)


def test_axes_are_the_principal_axes_of_the_covariance():
    group = noise(1, 5, 16)
    rows, deviations = dictionaries.axes(group)
    covariance = np.cov(group[0].numpy().T.astype(np.float64), bias=True)
    largest = np.linalg.eigvalsh(covariance)[-4:]
    assert deviations[0, 1:].numpy() ** 2 == pytest.approx(largest, rel=1e-3)
    assert torch.allclose(rows[0, 1:] @ rows[0, 1:].T, torch.eye(4), atol=1e-3)
    assert deviations[0, 0] == 0.0
    assert rows[0, 0].abs().max() == 0.0  # five patches have four axes about their mean


def test_equal_patches_have_no_axes():
    rows, deviations = dictionaries.axes(torch.ones(2, 5, 16))
    assert rows.abs().max() == deviations.abs().max() == 0.0


def test_soft_thresholding_by_hand():
    codes = torch.tensor([3.0, -3.0, 0.5, -0.5, 1.0])
    assert dictionaries.soft(codes, torch.tensor(1.0)).tolist() == [2.0, -2.0, 0.0, 0.0, 0.0]


def test_without_a_threshold_a_patch_of_its_groups_span_is_kept():
    group = noise(4, 6, 16)
    middle = group.mean(1)
    weights = torch.softmax(noise(4, 6, seed=1), 1)
    patch = (weights[:, None] @ group)[:, 0]
    for reweight in (False, True):
        assert torch.allclose(dictionaries.denoise(patch, group, middle, 0.0, reweight=reweight), patch, atol=1e-3)


def test_with_a_huge_threshold_a_patch_becomes_its_nonlocal_mean():
    group, patch = noise(4, 6, 16), noise(4, 16, seed=1)
    distance = torch.rand(4, 6, generator=generator(2)) * 200
    middle = dictionaries.centre(group, distance, nonlocal_mean=True)
    weights = torch.exp(-distance / 75.0)
    expected = (weights[..., None] * group).sum(1) / weights.sum(1, keepdim=True)
    assert torch.allclose(middle, expected, atol=1e-5)
    assert torch.allclose(dictionaries.denoise(patch, group, middle, 1e9, reweight=True), middle, atol=1e-5)
    assert torch.equal(dictionaries.centre(group, distance, nonlocal_mean=False), group.mean(1))


def test_a_canvas_averages_by_weight_and_keeps_what_is_not_drawn_on():
    image = torch.full((4, 6), 9.0)
    one = band(image, size=2)
    canvas = Canvas(4, 6)
    wanted = torch.tensor([3])  # the lower right pixel of a patch
    for value, weight in ((1.0, 1.0), (4.0, 2.0)):
        canvas.add(one, 0, torch.tensor([4]), wanted, torch.tensor([[value]]), torch.tensor([[weight]]))
    expected = image.clone()
    expected[3, 3] = 3.0  # patch 4 is the second of the second row: it begins at (2, 2)
    assert torch.equal(canvas.over(image), expected)


def test_a_plane_is_its_own_projection_and_a_saddle_has_none():
    at = torch.arange(6.0) - 2.5
    slope = (2 * at[:, None] - 3 * at + 7).flatten()
    assert torch.allclose(slope @ plane(6), slope, atol=1e-4)
    assert (at[:, None] * at).flatten() @ plane(6) == pytest.approx(np.zeros(36), abs=1e-4)
