"""The exact model of rows: worked examples, limits, and the means of random bits."""

import numpy as np
import pytest
from numpy.typing import NDArray

from neuro_engine.cost.rows import (
    PIPELINE_CYCLES,
    bp_row,
    expected_lockstep_cycles,
    expected_word_cycles,
    fp_group,
    fp_row,
    lockstep_cycles,
    wg_row,
    word_counts,
    word_cycles,
)


def _bits(text: str) -> NDArray[np.bool_]:
    return np.array([character == "1" for character in text])


def test_fp_row_takes_a_cycle_for_a_spike_and_some_for_an_empty_word() -> None:
    weights = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50], [6, 60], [7, 70], [8, 80], [9, 90]])
    spikes = _bits("1101" + "0000" + "1")
    for empty in (1, 2):
        work = fp_row(spikes, weights, word_bits=4, empty_word_cycles=empty)
        assert work.cycles == PIPELINE_CYCLES + 3 + empty + 1
        assert work.operations == 4 * 2
        assert work.sums.tolist() == [[1 + 2 + 4 + 9, 10 + 20 + 40 + 90]]


def test_wg_row_works_where_a_spike_meets_a_gradient() -> None:
    work = wg_row(_bits("1101" + "0110"), np.array([5, 0, 7, -2, 1, 0, 0, 1]), word_bits=4, empty_word_cycles=2)
    assert work.cycles == PIPELINE_CYCLES + 2 + 2
    assert work.operations == 2
    assert work.sums.tolist() == [5 - 2]


def test_bp_row_gates_lanes_and_skips_groups_that_are_not_needed() -> None:
    gradient = np.array([2, 0, -1])
    weights = np.arange(15).reshape(3, 5)
    work = bp_row(gradient, weights, lanes=2, needed=_bits("01" + "00" + "1"))
    assert work.cycles == PIPELINE_CYCLES + 2 + 1 + 2
    assert work.operations == 2 * 2
    assert work.sums.tolist() == [0, 2 * 1 - 11, 0, 0, 2 * 4 - 14]


def test_bp_row_needs_every_output_by_default() -> None:
    work = bp_row(np.array([2, 0, -1]), np.ones((3, 5), np.int64), lanes=2)
    assert (work.cycles, work.operations) == (PIPELINE_CYCLES + 3 * 2, 2 * 5)


def test_bp_row_without_gradient_passes_every_group_like_an_empty_word() -> None:
    work = bp_row(np.zeros(3, np.int64), np.ones((3, 5), np.int64), lanes=2, empty_word_cycles=2)
    assert (work.cycles, work.operations, work.sums.tolist()) == (PIPELINE_CYCLES + 3 * 2, 0, [0] * 5)


def test_rows_of_a_group_sum_as_each_would_alone() -> None:
    rng = np.random.default_rng(0)
    spikes, weights = rng.random((3, 100)) < 0.2, rng.integers(-9, 9, (100, 4))
    group = fp_group(spikes, weights, queue_depth=1)
    alone = [fp_row(bits, weights) for bits in spikes]
    assert group.sums.tolist() == [work.sums[0].tolist() for work in alone]
    assert group.operations == sum(work.operations for work in alone)
    assert group.cycles >= max(work.cycles for work in alone)


def test_words_are_counted_along_the_last_axis_and_filled_up_with_zeros() -> None:
    bits = np.ones((2, 3, 70), np.bool_)
    assert word_counts(bits).tolist() == [[[32, 32, 6]] * 3] * 2


def _step_by_step(counts: NDArray[np.int64], queue_depth: int, empty: int) -> int:
    """Cycles of a group, by going through them one at a time."""
    left = word_cycles(counts, empty)
    rows, units = left.shape
    at, cycle = [0] * rows, 0
    while min(at) < units:
        oldest = min(at)
        for row in range(rows):
            if at[row] < units and at[row] <= oldest + queue_depth:
                left[row, at[row]] -= 1
                at[row] += left[row, at[row]] == 0
        cycle += 1
    return cycle


@pytest.mark.parametrize("queue_depth", [0, 1, 2, 5, 40])
@pytest.mark.parametrize("empty", [1, 2])
def test_a_group_takes_the_cycles_of_going_step_by_step(queue_depth: int, empty: int) -> None:
    counts = np.random.default_rng(queue_depth).binomial(8, 0.2, (20, 4, 30))
    expected = [_step_by_step(group, queue_depth, empty) for group in counts]
    assert lockstep_cycles(counts, queue_depth, empty).tolist() == expected


def test_the_limits_of_a_group_are_lock_step_and_its_busiest_row() -> None:
    counts = np.random.default_rng(1).binomial(32, 0.1, (4, 30))
    cycles = word_cycles(counts)
    by_depth = [int(lockstep_cycles(counts, depth)) for depth in (0, 1, 2, 4, 8, 16, 30)]
    assert by_depth == sorted(by_depth, reverse=True)
    assert by_depth[0] == cycles.max(axis=0).sum()
    assert by_depth[-1] == cycles.sum(axis=1).max()


@pytest.mark.parametrize("empty", [1, 2])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.3])
def test_mean_cycles_of_a_word(density: float, empty: int) -> None:
    closed = 32 * density + empty * (1 - density) ** 32
    assert expected_word_cycles(density, 32, empty) == pytest.approx(closed, rel=1e-12)
    bits = np.random.default_rng(2).random((20_000, 32)) < density
    assert word_cycles(word_counts(bits), empty).mean() == pytest.approx(closed, rel=0.02)


@pytest.mark.parametrize("queue_depth", [0, 1, 3, 9])
@pytest.mark.parametrize("rows", [1, 2, 16, 64])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 0.9])
def test_mean_cycles_of_a_group(density: float, rows: int, queue_depth: int) -> None:
    words = 10_000
    counts = np.random.default_rng(3).binomial(32, density, (rows, words))
    mean = int(lockstep_cycles(counts, queue_depth)) / words
    exact = queue_depth == 0 or rows == 1
    assert expected_lockstep_cycles(density, 32, rows, queue_depth) == pytest.approx(mean, rel=0.02 if exact else 0.05)


@pytest.mark.parametrize("queue_depth", [0, 3])
@pytest.mark.parametrize(("density", "cycles"), [(0, 2), (1, 32)])
def test_words_that_are_alike_lose_nothing(density: float, cycles: int, queue_depth: int) -> None:
    assert expected_lockstep_cycles(density, 32, 16, queue_depth, 2) == cycles


def test_what_cannot_be_is_rejected() -> None:
    with pytest.raises(ValueError, match="an empty word, got 0"):
        word_cycles(np.zeros(3, np.int64), 0)
    with pytest.raises(ValueError, match="queue depth of at least 0, got -1"):
        lockstep_cycles(np.zeros((2, 3), np.int64), -1)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        expected_lockstep_cycles(1.5)
    with pytest.raises(ValueError, match="queue depth of at least 0, got -1"):
        expected_lockstep_cycles(0.5, queue_depth=-1)
