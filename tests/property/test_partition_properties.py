import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.partition import by_class, dirichlet, iid


@st.composite
def problems(draw):
    labels = np.array(draw(st.lists(st.integers(0, 6), min_size=1, max_size=120)))
    return labels, draw(st.integers(1, len(labels))), draw(st.integers(0, 2**32))


alphas = st.floats(1e-3, 1e3)


def rng(seed):
    return np.random.default_rng(seed)


def assert_partition(parts, labels, count):
    assert len(parts) == count
    assert all(len(part) for part in parts)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    assert all(np.all(np.diff(part) > 0) for part in parts)


@given(problems())
def test_iid_uses_each_example_once_in_equal_parts(problem):
    labels, count, seed = problem
    parts = iid(labels, count, rng(seed))
    assert_partition(parts, labels, count)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@given(problems(), alphas)
def test_dirichlet_uses_each_example_once_and_leaves_no_part_empty(problem, alpha):
    labels, count, seed = problem
    assert_partition(dirichlet(labels, count, alpha, rng(seed)), labels, count)


@given(problems(), st.integers(1, 4))
def test_by_class_uses_each_example_once_and_leaves_no_part_empty(problem, classes):
    labels, count, seed = problem
    assert_partition(by_class(labels, count, classes, rng(seed)), labels, count)


@given(st.integers(0, 2**32))
def test_by_class_gives_two_classes_to_each(seed):
    labels = np.arange(1200) % 12
    parts = by_class(labels, 6, 2, rng(seed))
    assert {len(part) for part in parts} == {200}
    assert [len(np.unique(labels[part])) for part in parts] == [2] * 6
    assert max(len(np.unique(labels[part])) for part in by_class(labels, 5, 2, rng(seed))) <= 4


@given(problems(), alphas)
def test_equal_generators_give_equal_parts(problem, alpha):
    labels, count, seed = problem
    for first, second in (
        (iid(labels, count, rng(seed)), iid(labels, count, rng(seed))),
        (dirichlet(labels, count, alpha, rng(seed)), dirichlet(labels, count, alpha, rng(seed))),
        (by_class(labels, count, 2, rng(seed)), by_class(labels, count, 2, rng(seed))),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@given(problems(), alphas)
def test_labels_are_not_touched(problem, alpha):
    labels, count, seed = problem
    before = labels.copy()
    dirichlet(labels, count, alpha, rng(seed))
    np.testing.assert_array_equal(labels, before)


@given(st.integers(0, 2**32))
def test_a_small_alpha_skews_and_a_large_one_does_not(seed):
    labels = np.arange(1200) % 12

    def largest_share(alpha):
        parts = dirichlet(labels, 5, alpha, rng(seed))
        table = np.array([np.bincount(labels[part], minlength=12) for part in parts])
        return (table.max(0) / table.sum(0)).mean()

    assert largest_share(0.05) > 0.6
    assert largest_share(1e4) < 0.25


@pytest.mark.parametrize("count", [0, -1, 4])
def test_more_parts_than_examples_is_an_error(count):
    labels = np.zeros(3, dtype=np.int64)
    with pytest.raises(ValueError, match="from 1 to 3 parts"):
        iid(labels, count, rng(0))
    with pytest.raises(ValueError, match="from 1 to 3 parts"):
        dirichlet(labels, count, 0.5, rng(0))
    with pytest.raises(ValueError, match="from 1 to 3 parts"):
        by_class(labels, count, 2, rng(0))


def test_a_part_has_at_least_one_class():
    with pytest.raises(ValueError, match="at least 1 class"):
        by_class(np.zeros(3, dtype=np.int64), 2, 0, rng(0))


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_alpha_is_above_zero(alpha):
    with pytest.raises(ValueError, match="alpha above 0"):
        dirichlet(np.zeros(3, dtype=np.int64), 2, alpha, rng(0))
