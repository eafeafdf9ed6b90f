"""Robust rules: computed by hand, and under attack."""

import numpy as np
import pytest

from neurofed.errors import ConfigError, NotEnoughWorkersError, StorageError, UpdateError
from server.aggregation import rule
from server.aggregation.base import Update
from server.aggregation.centre import Clipping, Weiszfeld, clipped_about_centre, geometric_median_weights, shares
from server.aggregation.distances import squared_distances
from server.aggregation.krum import best_by_turns, mean_about_median, scores
from server.aggregation.tolerance import tolerated

ROBUST = ("norm-clipping", "centred-clipping", "geometric-median", "median", "trimmed-mean", "multi-krum", "krum")


def _aggregate(strategy, points, start=None):
    points = [np.asarray(point, np.float32) for point in points]
    model = {"w": np.zeros_like(points[0]) if start is None else np.asarray(start, np.float32), "n": np.array([3])}
    state = strategy.init(model, len(points))
    for point in points:
        state = strategy.add(state, Update({"w": point, "n": np.array([8])}, 5))
    result = strategy.finish(state)
    assert result["n"].tolist() == [3]
    assert result["w"].dtype == np.float32
    return result["w"]


def test_median_of_odd_and_even():
    assert _aggregate(rule("median"), [[1, 9], [2, -9], [40, 5]]).tolist() == [2, 5]
    assert _aggregate(rule("median"), [[1, 9], [2, -9], [40, 5], [3, 6]]).tolist() == [2.5, 5.5]


def test_trimmed_mean_cuts_at_both_ends():
    points = [[0, 5], [1, 4], [2, 3], [3, 2], [64, -64]]
    assert _aggregate(rule("trimmed-mean", {"attackers": 0.2}), points).tolist() == [2, 3]
    assert _aggregate(rule("trimmed-mean", {"attackers": 0.0}), points).tolist() == [14, -10]


def test_norm_clipping_shortens_to_the_median_length():
    # lengths 3, 5, 40: the last is shortened to (0, 5)
    result = _aggregate(rule("norm-clipping"), [[3, 0], [4, 3], [0, 40]])
    np.testing.assert_allclose(result, [7 / 3, 8 / 3], rtol=1e-6)
    result = _aggregate(rule("norm-clipping", {"radius": 1}), [[3, 0], [4, 3], [0, 40]])
    np.testing.assert_allclose(result, [1.8 / 3, 1.6 / 3], rtol=1e-6)


def test_norm_clipping_measures_from_the_global_model():
    start = [10.0, -3.0]
    result = _aggregate(rule("norm-clipping"), [[13, -3], [14, 0], [10, 37]], start)
    np.testing.assert_allclose(result, [10 + 7 / 3, -3 + 8 / 3], rtol=1e-6)


def test_shares():
    assert shares(np.array([1.0, 2.0, 8.0]), 0.0).tolist() == [1, 1, 0.25]
    assert shares(np.array([1.0, 2.0, 8.0]), 4.0).tolist() == [1, 1, 0.5]
    assert shares(np.zeros(3), 0.0).tolist() == [0, 0, 0]


def test_centred_clipping_by_hand():
    # On a line from 0, radius 1: clip(1), clip(2), clip(10) move v to 1; then 0, 1, 1 to 5/3.
    d = np.array([[1.0], [2.0], [10.0]])
    weights = clipped_about_centre(d @ d.T, Clipping(radius=1.0, iterations=1))
    assert weights @ d == pytest.approx([1.0])
    weights = clipped_about_centre(d @ d.T, Clipping(radius=1.0, iterations=2))
    assert weights @ d == pytest.approx([5 / 3])


def test_the_geometric_median_of_a_triangle_sees_its_corners_at_120_degrees():
    corners = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 3.0]])
    weights = geometric_median_weights(corners @ corners.T, Weiszfeld())
    directions = corners - weights @ corners
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    np.testing.assert_allclose(directions.sum(0), 0, atol=1e-6)
    assert weights.sum() == pytest.approx(1)


def test_the_geometric_median_of_a_line_is_the_one_in_the_middle():
    np.testing.assert_allclose(_aggregate(rule("geometric-median"), [[1, 1], [2, 2], [50, 50]]), [2, 2], rtol=1e-4)


def test_updates_that_are_all_the_same_are_the_result():
    for name in ROBUST:
        np.testing.assert_allclose(_aggregate(rule(name), [[1, 2]] * 5), [1, 2], rtol=1e-6)


def test_krum_scores_by_hand():
    points = np.array([[0.0], [1.0], [3.0], [4.0], [20.0]])
    squared = squared_distances(points @ points.T)
    assert squared[1].tolist() == [1, 0, 4, 9, 361]
    # n = 5, f = 1: the two closest
    assert scores(squared, 1).tolist() == [1 + 9, 1 + 4, 1 + 4, 1 + 9, 256 + 289]


def test_krum_takes_one_and_multi_krum_all_but_the_attackers():
    points = [[0, 0], [1, 0], [3, 0.5], [4, 0], [20, 0]]
    assert _aggregate(rule("krum"), points).tolist() == [1, 0]
    assert _aggregate(rule("multi-krum"), points).tolist() == [2, 0.125]


def test_bulyan_chooses_by_turns_and_averages_about_the_median():
    points = np.array([[0.0], [1.0], [2.25], [3.0], [4.5], [10.0], [60.0]])
    chosen = best_by_turns(squared_distances(points @ points.T), 1, 5)
    # Four neighbours each: 2.25 and then 1, 3, 0; of the three that are left 4.5 and 10 are closest, and come in turn.
    assert chosen == [0, 1, 2, 3, 4]
    assert mean_about_median(3, points[chosen]).tolist() == pytest.approx([(1.0 + 2.25 + 3.0) / 3])
    result = _aggregate(rule("bulyan", {"attackers": 0.15}), points)
    assert -1e-6 <= result[0] <= 4.5


def test_colluders_move_robust_rules_less_than_the_mean():
    rng = np.random.default_rng(0)
    honest = rng.normal(1.0, 0.5, (8, 400))
    errors = {}
    for name in ("fedavg", *ROBUST):
        result = _aggregate(rule(name), [*honest, *[np.full(400, -3.0)] * 2])
        errors[name] = float(np.linalg.norm(result - honest.mean(0)))
    assert all(errors[name] < errors["fedavg"] for name in ROBUST), errors


@pytest.mark.parametrize("name", [*ROBUST, "bulyan"])
def test_a_bad_update_is_refused_and_leaves_no_mark(name):
    rng = np.random.default_rng(1)
    model = {"w": np.zeros(4, np.float32)}
    good = [Update({"w": rng.normal(0, 1, 4).astype(np.float32)}, 3) for _ in range(7)]
    bad = [
        Update({"w": np.array([0, 1, np.nan, 0], np.float32)}, 3),
        Update({"w": np.full(4, -np.inf, np.float32)}, 3),
        Update({"w": np.full(4, 65, np.float32)}, 3),
        Update({"w": np.zeros(3, np.float32)}, 3),
        Update({"w": np.zeros(4, np.float64)}, 3),
        Update({"v": np.zeros(4, np.float32)}, 3),
        Update(good[0].model, 0),
        Update(good[0].model, -1),
    ]
    results = []
    for extra in ([], bad):
        strategy = rule(name, {"attackers": 0.1} if name == "bulyan" else {})
        state = strategy.init(model, 15)
        for update in extra:
            with pytest.raises(UpdateError):
                strategy.add(state, update)
        for update in good:
            state = strategy.add(state, update)
        results.append(strategy.finish(state)["w"].tobytes())
    assert results[0] == results[1]


@pytest.mark.parametrize("name", [*ROBUST, "bulyan"])
def test_nothing_added_is_an_error(name):
    strategy = rule(name)
    with pytest.raises(UpdateError, match="at least one update"):
        strategy.finish(strategy.init({"w": np.zeros(2, np.float32)}, 20))


def test_at_least_one_attacker_is_withstood():
    assert [tolerated(0.2, n) for n in (1, 4, 5, 9, 10, 20)] == [1, 1, 1, 1, 2, 4]
    assert tolerated(0.0, 100) == 0
    assert tolerated(0.29, 100) == 29


@pytest.mark.parametrize(("name", "workers", "needed"), [("krum", 4, 5), ("bulyan", 10, 11), ("trimmed-mean", 2, 3)])
def test_too_few_workers_are_an_error_at_once(name, workers, needed):
    with pytest.raises(ConfigError, match=f"at least {needed} workers"):
        rule(name).init({"w": np.zeros(2, np.float32)}, workers)


def test_too_few_updates_are_an_error_in_the_end():
    strategy, model = rule("krum"), {"w": np.zeros(2, np.float32)}
    state = strategy.init(model, 5)
    for _ in range(4):
        state = strategy.add(state, Update(model, 1))
    with pytest.raises(NotEnoughWorkersError, match="at least 5 workers"):
        strategy.finish(state)


def test_types_are_kept_and_no_tensor_is_too_small():
    model = {"h": np.zeros(3, np.float16), "d": np.zeros((), np.float64), "e": np.zeros((0, 2), np.float32)}
    for name in ROBUST:
        strategy = rule(name)
        state = strategy.init(model, 5)
        for value in (1.0, 1.0, 1.0, 1.0, 1.0):
            arrays = {key: np.full(array.shape, value, array.dtype) for key, array in model.items()}
            state = strategy.add(state, Update(arrays, 1))
        result = strategy.finish(state)
        assert {k: (v.dtype, v.shape) for k, v in result.items()} == {k: (v.dtype, v.shape) for k, v in model.items()}
        assert float(result["d"]) == pytest.approx(1.0)


def test_a_model_larger_than_a_block_is_read_in_pieces(monkeypatch):
    from server.aggregation import spool

    points = np.random.default_rng(2).normal(0, 1, (5, 1000)).astype(np.float32)
    whole = {name: _aggregate(rule(name), points) for name in ROBUST}
    monkeypatch.setattr(spool, "BLOCK_BYTES", 128)
    for name in ROBUST:
        np.testing.assert_allclose(_aggregate(rule(name), points), whole[name], rtol=1e-5, atol=1e-7)


def test_the_spool_leaves_no_file_and_no_descriptor(tmp_path, monkeypatch):
    import tempfile
    from pathlib import Path

    descriptors = Path("/proc/self/fd")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        _aggregate(rule("median"), [[1, 2]] * 3)
        rule("median").init({"w": np.zeros(2, np.float32)}, 2)  # a round that is given up
    assert list(tmp_path.iterdir()) == []
    assert len(list(descriptors.iterdir())) <= before + 1


def test_a_folder_that_takes_nothing_is_a_storage_error(tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match="absent"):
        rule("median").init({"w": np.zeros(2, np.float32)}, 2)
