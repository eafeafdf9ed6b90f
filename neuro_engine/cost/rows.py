"""The exact work of one row of an array: cycles, operations and sums of given bits and integers.

`tests/rtl` has the same rows in Verilog and checks that all three are equal; the closed forms of the cost model can
be checked against these functions in turn. What that shows, and what not, is in docs/explanation/rtl.md.

A row goes through units of work, one after the other: words of a bitmap in FP and WG, groups of channels in BP. A
unit takes a cycle for each of its non-zeros; one without any takes `empty_word_cycles`: 1 if the row looks ahead, so
that it knows of an empty word before it takes it, and 2 if it has to find out first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32
"""Bits of a word of spikes."""

PIPELINE_CYCLES = 3
"""Cycles of a job that no unit accounts for: fetch and load of the first unit, accumulation of the last operand."""

Bits = NDArray[np.bool_]
Ints = NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class RowWork:
    """What a row, or a group of rows, did in one job.

    Attributes:
        cycles: from the job's start to its last sum, `PIPELINE_CYCLES` included.
        operations: accumulations (FP, WG) or multiply-accumulations (BP), in all lanes together.
        sums: the accumulators at the end.
    """

    cycles: int
    operations: int
    sums: NDArray[np.int64]


def word_counts(bits: Bits, word_bits: int = WORD_BITS) -> NDArray[np.int64]:
    """Set bits of each word of the bitmaps along the last axis; the last word is filled up with zeros."""
    padding = [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % word_bits)]
    words = np.pad(bits, padding).reshape(*bits.shape[:-1], -1, word_bits)
    return np.asarray(np.count_nonzero(words, axis=-1), np.int64)


def word_cycles(counts: Ints, empty_word_cycles: int = 1) -> NDArray[np.int64]:
    """Cycles that a row needs for units of `counts` non-zeros each."""
    _check(0, empty_word_cycles)
    return np.where(counts > 0, counts, empty_word_cycles).astype(np.int64)


def lockstep_cycles(counts: Ints, queue_depth: int = 0, empty_word_cycles: int = 1) -> NDArray[np.int64]:
    """Cycles that a group of rows needs which share the operands of a unit, such as the weights of a word's channels.

    The operands of `queue_depth + 1` units are at hand: a row may take unit i once all rows are done with unit
    i - queue_depth - 1. So a depth of 0 is lock-step, where a unit takes as long as its slowest row, and with a depth
    of at least the number of units the group takes as long as the row with the most work. New operands arrive in the
    cycle in which the oldest ones are given up, one unit a cycle, so fetching them is taken to hold nobody up.

    Args:
        counts: non-zeros, as (..., rows, units).
        queue_depth: units by which a row may be ahead of the slowest.
        empty_word_cycles: cycles of a unit without non-zeros.

    Returns:
        Cycles of shape (...), without `PIPELINE_CYCLES`.
    """
    _check(queue_depth, empty_word_cycles)
    cycles = word_cycles(counts, empty_word_cycles)
    if queue_depth == 0:
        return np.asarray(cycles.max(axis=-2).sum(axis=-1))
    row_done = np.zeros(cycles.shape[:-1], np.int64)
    all_done = np.zeros((cycles.shape[-1] + 1, *cycles.shape[:-2]), np.int64)
    for unit in range(cycles.shape[-1]):
        given_up = all_done[max(0, unit - queue_depth)]  # entry i: when all rows are done with the first i units
        row_done = np.maximum(row_done, given_up[..., None]) + cycles[..., unit]
        all_done[unit + 1] = row_done.max(axis=-1)
    return np.asarray(all_done[-1])


def fp_row(spikes: Bits, weights: Ints, *, word_bits: int = WORD_BITS, empty_word_cycles: int = 1) -> RowWork:
    """FP: a pixel's spikes select rows of weights, which the lanes accumulate for an output channel each.

    Args:
        spikes: bitmap of the (K,) inputs of the pixel.
        weights: (K, lanes).
        word_bits: bits of a word.
        empty_word_cycles: cycles of a word without spikes.
    """
    return fp_group(spikes[None], weights, word_bits=word_bits, empty_word_cycles=empty_word_cycles)


def fp_group(
    spikes: Bits, weights: Ints, *, queue_depth: int = 0, word_bits: int = WORD_BITS, empty_word_cycles: int = 1
) -> RowWork:
    """FP of several pixels that share weights, a row each: `fp_row`, with the cycles of `lockstep_cycles`.

    Args:
        spikes: bitmaps of the (rows, K) inputs.
        weights: (K, lanes).
        queue_depth: words by which a row may be ahead of the slowest.
        word_bits: bits of a word.
        empty_word_cycles: cycles of a word without spikes.
    """
    counts = word_counts(spikes, word_bits)
    cycles = int(lockstep_cycles(counts, queue_depth, empty_word_cycles))
    sums = spikes.astype(np.int64) @ weights.astype(np.int64)
    return RowWork(PIPELINE_CYCLES + cycles, int(counts.sum()) * weights.shape[1], sums)


def wg_row(spikes: Bits, gradient: Ints, *, word_bits: int = WORD_BITS, empty_word_cycles: int = 1) -> RowWork:
    """WG: one weight's gradient, the sum of the output's gradient where the input spiked.

    The row sees the AND of two bitmaps, of the spikes and of the non-zero gradients; the values come from a list of
    the non-zeros, at the rank of the bit in the bitmap of the gradient.

    Args:
        spikes: bitmap of one input channel at (K,) pixels and time steps.
        gradient: gradient of one output channel at the same (K,).
        word_bits: bits of a word.
        empty_word_cycles: cycles of a word in which no spike meets a gradient.
    """
    matches = spikes & (gradient != 0)
    counts = word_counts(matches, word_bits)
    cycles = PIPELINE_CYCLES + int(word_cycles(counts, empty_word_cycles).sum())
    return RowWork(cycles, int(counts.sum()), np.array([gradient[matches].sum(dtype=np.int64)]))


def bp_row(
    gradient: Ints, weights: Ints, *, lanes: int, needed: Bits | None = None, empty_word_cycles: int = 1
) -> RowWork:
    """BP: each non-zero of a pixel's gradient times its row of weights, the lanes taking an input channel each.

    The list of non-zeros is gone through once for each group of `lanes` input channels. Where an output is not
    needed, as the surrogate derivative is zero there, its lane is gated: it takes part in no operation and its sum
    stays zero. A group of which no output is needed is skipped like an empty word.

    Args:
        gradient: gradient of the (K,) outputs that the pixel reaches.
        weights: (K, channels); the lanes of the last group that have no channel are gated.
        lanes: lanes of the row.
        needed: whether the gradient of each of the (channels,) is needed; all are by default.
        empty_word_cycles: cycles of a group without anything to do.
    """
    channels = weights.shape[1]
    wanted = np.ones(channels, np.bool_) if needed is None else needed
    nonzeros = int(np.count_nonzero(gradient))
    counts = nonzeros * (word_counts(wanted, lanes) > 0)
    cycles = PIPELINE_CYCLES + int(word_cycles(counts, empty_word_cycles).sum())
    sums = (gradient.astype(np.int64) @ weights.astype(np.int64)) * wanted
    return RowWork(cycles, nonzeros * int(wanted.sum()), sums)


def expected_word_cycles(density: float, word_bits: int = WORD_BITS, empty_word_cycles: int = 1) -> float:
    """Mean cycles of a word whose bits are set independently of each other.

    Args:
        density: probability of a set bit; in WG the product of those of spikes and gradient.
        word_bits: bits of a word; in BP the length of the gradient that the list of non-zeros stands for.
        empty_word_cycles: cycles of a word without set bits.
    """
    return expected_lockstep_cycles(density, word_bits, 1, 0, empty_word_cycles)


def expected_lockstep_cycles(
    density: float, word_bits: int = WORD_BITS, rows: int = 1, queue_depth: int = 0, empty_word_cycles: int = 1
) -> float:
    """Mean cycles per word of a group of rows whose bits are set independently of each other, in a long stream.

    Exact without a queue, from the binomial distribution. With one, a group loses less than in lock-step: cycles per
    word = mean + loss in lock-step / (1 + queue_depth * mean / standard deviation), both of the cycles of one word.
    The form is chosen: exact for depths of 0 and infinity, it falls off with the depth as for random walks that
    reflect each other. For 2 to 64 rows and depths up to 15 it is within 5 % of `lockstep_cycles`. Barriers after
    every queue_depth + 1 words, the simpler model, are an upper bound that is up to 42 % too high.

    Args:
        density: probability of a set bit.
        word_bits: bits of a word.
        rows: rows of the group.
        queue_depth: words by which a row may be ahead of the slowest.
        empty_word_cycles: cycles of a word without set bits.
    """
    _check(queue_depth, empty_word_cycles)
    if not 0 <= density <= 1:
        raise ValueError(f"expected a density from 0 to 1, got {density}")
    probability = _cycle_probabilities(density, word_bits, empty_word_cycles)
    cycles = np.arange(len(probability))
    mean = float(probability @ cycles)
    deviation = math.sqrt(float(probability @ (cycles - mean) ** 2))
    at_most = np.minimum(np.cumsum(probability), 1.0)
    lockstep = float(np.sum(1.0 - at_most**rows))  # E[max] = sum over c >= 0 of P(max > c)
    if deviation == 0:  # every word takes as long as any other
        return mean
    return mean + (lockstep - mean) / (1 + queue_depth * mean / deviation)


def _cycle_probabilities(density: float, word_bits: int, empty_word_cycles: int) -> NDArray[np.float64]:
    """Probability that a word takes 0, 1, 2 ... cycles."""
    cycles = np.zeros(1 + max(word_bits, empty_word_cycles))
    for count in range(word_bits + 1):
        probability = math.comb(word_bits, count) * density**count * (1 - density) ** (word_bits - count)
        cycles[count or empty_word_cycles] += probability
    return cycles


def _check(queue_depth: int, empty_word_cycles: int) -> None:
    if queue_depth < 0:
        raise ValueError(f"expected a queue depth of at least 0, got {queue_depth}")
    if empty_word_cycles < 1:
        raise ValueError(f"expected at least one cycle for an empty word, got {empty_word_cycles}")
