"""The rows in Verilog and in Python: values, operations and cycles of random cases are the same."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from neuro_engine.cost.rows import Bits, RowWork, bp_row, fp_group, wg_row

Simulate = Callable[..., list[list[int]]]
Bug = tuple[str, str, str]
Results = tuple[list[list[int]], list[list[int]]]

CASES = 3000
DENSITIES = (0.0, 0.02, 0.1, 0.3, 1.0)
LANES = 4
GROUPS = 8
MAX_WORDS = 8
WEIGHTS = np.random.default_rng(0).integers(-(2**15), 2**15, (1024, LANES)).astype(np.int16)


def _bits(rng: np.random.Generator, case: int, *shape: int) -> Bits:
    """Random bits; each case has one of the densities, or one for each word so that empty words follow full ones."""
    kind = case % (len(DENSITIES) + 1)
    if kind < len(DENSITIES):
        return rng.random(shape) < DENSITIES[kind]
    words = rng.choice(DENSITIES, (*shape[:-1], -(-shape[-1] // 32)))
    return rng.random(shape) < np.repeat(words, 32, axis=-1)[..., : shape[-1]]


def _gradient(rng: np.random.Generator, case: int, size: int) -> NDArray[np.int64]:
    values = rng.integers(1, 2**15, size) * rng.choice([-1, 1], size)
    return np.where(_bits(rng, case, size), values, 0)


def _packed(bits: Bits) -> NDArray[np.uint32]:
    """Bitmaps of (..., K) as words of 32 bits, one after the other."""
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % 32)])
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4").ravel()


def _places(arrays: Sequence[NDArray[Any]]) -> list[int]:
    """Where each of the arrays begins when they lie one after the other."""
    return list(accumulate((len(array) for array in arrays[:-1]), initial=0))


def _lines(works: Iterable[RowWork]) -> list[list[int]]:
    return [[work.cycles, work.operations, *work.sums.ravel().tolist()] for work in works]


def _weights(at: int, size: int) -> NDArray[np.int16]:
    return WEIGHTS[(at + np.arange(size)) % len(WEIGHTS)]


def _fp(
    simulate: Simulate, cases: int = CASES, rows: int = 1, queue: int = 0, empty: int = 1, bug: Bug | None = None
) -> Results:
    """What RTL and model say of random cases, a list of [cycles, operations, sums...] each."""
    rng = np.random.default_rng([cases, rows, queue, empty])
    sizes = rng.integers(1, 32 * MAX_WORDS + 1, cases)
    blocks = WEIGHTS.reshape(-1, 32 * LANES)
    first_block = rng.integers(len(blocks), size=cases)
    spikes = [_bits(rng, case, rows, size) for case, size in enumerate(sizes)]
    packed = [_packed(bits) for bits in spikes]
    memory = np.concatenate(packed)
    jobs = np.array([-(-sizes // 32), _places(packed), first_block], np.uint32).T
    memories = {"spikes": memory, "blocks": blocks, "cases": jobs}
    shape = {"CASES": cases, "SPIKES": len(memory), "ROWS": rows, "QUEUE": queue, "EMPTY": empty}
    model = (
        fp_group(bits, _weights(32 * block, bits.shape[1]), queue_depth=queue, empty_word_cycles=empty)
        for bits, block in zip(spikes, first_block, strict=True)
    )
    return simulate("fp_bench", memories, bug, **shape), _lines(model)


def _wg(simulate: Simulate, cases: int = CASES, empty: int = 1, bug: Bug | None = None) -> Results:
    rng = np.random.default_rng([cases, empty])
    sizes = rng.integers(1, 32 * MAX_WORDS + 1, cases)
    spikes = [_bits(rng, case, size) for case, size in enumerate(sizes)]
    gradients = [_gradient(rng, case // 6, size) for case, size in enumerate(sizes)]  # all pairs of densities
    bitmaps = [
        np.stack([_packed(bits), _packed(gradient != 0)], axis=1)
        for bits, gradient in zip(spikes, gradients, strict=True)
    ]
    lists = [gradient[gradient != 0] for gradient in gradients]
    values = np.concatenate(lists).astype(np.int16)
    words = np.concatenate(bitmaps)
    jobs = np.array([-(-sizes // 32), _places(bitmaps), _places(lists)], np.uint32).T
    memories = {"bitmaps": words, "values": values, "cases": jobs}
    shape = {"CASES": cases, "WORDS": len(words), "VALUES": len(values), "EMPTY": empty}
    model = (wg_row(*pair, empty_word_cycles=empty) for pair in zip(spikes, gradients, strict=True))
    return simulate("wg_bench", memories, bug, **shape), _lines(model)


def _bp(simulate: Simulate, cases: int = CASES, empty: int = 1, bug: Bug | None = None) -> Results:
    rng = np.random.default_rng([cases, empty])
    sizes, groups = rng.integers(1, 100, cases), rng.integers(1, GROUPS + 1, cases)
    weights_at = rng.integers(len(WEIGHTS), size=cases)
    gradients = [_gradient(rng, case, size) for case, size in enumerate(sizes)]
    needed = [_bits(rng, case // 6, count * LANES) for case, count in enumerate(groups)]
    gates = [np.packbits(bits.reshape(-1, LANES), axis=1, bitorder="little") for bits in needed]
    lists = [np.stack([g[g != 0], np.flatnonzero(g)], axis=1).astype(np.int16) for g in gradients]
    lengths = [len(nonzeros) for nonzeros in lists]
    jobs = np.array([groups, lengths, sizes, _places(gates), _places(lists), weights_at], np.uint32).T
    all_gates, all_lists = np.concatenate(gates), np.concatenate(lists)
    memories = {"needed": all_gates, "list": all_lists, "weights": WEIGHTS, "cases": jobs}
    shape = {"CASES": cases, "NEEDED": len(all_gates), "LIST": len(all_lists), "EMPTY": empty, "GROUPS": GROUPS}
    model = []
    for gradient, mask, at in zip(gradients, needed, weights_at, strict=True):
        size, count = len(gradient), len(mask) // LANES  # the weights lie group by group
        weights = _weights(at, count * size).reshape(count, size, LANES).swapaxes(0, 1).reshape(size, -1)
        model.append(bp_row(gradient, weights, lanes=LANES, needed=mask, empty_word_cycles=empty))
    return simulate("bp_bench", memories, bug, **shape), _lines(model)


def _differing(rtl: list[list[int]], model: list[list[int]]) -> set[str]:
    """In what the two differ."""
    assert len(rtl) == len(model)
    parts = {"cycles": slice(0, 1), "operations": slice(1, 2), "sums": slice(2, None)}
    pairs = list(zip(rtl, model, strict=True))
    return {name for name, part in parts.items() if any(a[part] != b[part] for a, b in pairs)}


@pytest.mark.parametrize("empty", [1, 2])
@pytest.mark.parametrize("row", [_fp, _wg, _bp])
def test_row(simulate: Simulate, row: Callable[..., Results], empty: int) -> None:
    rtl, model = row(simulate, empty=empty)
    assert len(rtl) == CASES
    assert rtl == model


@pytest.mark.parametrize(("queue", "empty"), [(0, 1), (1, 2), (3, 1)])
def test_rows_that_share_weights(simulate: Simulate, queue: int, empty: int) -> None:
    rtl, model = _fp(simulate, cases=1000, rows=4, queue=queue, empty=empty)
    assert rtl == model


@pytest.mark.parametrize(
    ("row", "options", "bug", "seen_in"),
    [
        (_fp, {}, ("sequencer.v", "address = next + take", "address = next"), {"sums", "operations", "cycles"}),
        (_fp, {"empty": 2}, ("sequencer.v", "(EMPTY == 1 || tested)", "1'b1"), {"cycles"}),
        (
            _fp,
            {"rows": 4, "queue": 1},
            ("fp_group.v", "<= oldest + QUEUE)", "<= oldest + QUEUE + 1)"),
            {"sums", "cycles"},
        ),
        (_wg, {}, ("wg_row.v", "rank + ones(", "rank + (0 & "), {"sums"}),
        (_bp, {}, ("bp_row.v", "operations + enabled", "operations + valid * LANES"), {"operations"}),
    ],
    ids=["stale word", "empty word too fast", "weights replaced too early", "rank", "gated lanes counted"],
)
def test_a_bug_is_seen(
    simulate: Simulate, row: Callable[..., Results], options: dict[str, int], bug: Bug, seen_in: set[str]
) -> None:
    """None of sums, operations and cycles would do alone."""
    assert _differing(*row(simulate, cases=300, bug=bug, **options)) == seen_in
