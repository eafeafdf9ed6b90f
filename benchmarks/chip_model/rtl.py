"""Random cases of the rows of tests/rtl, in Verilog and in Python.

Icarus Verilog simulates the benches of tests/rtl; `neuro_engine.cost.rows` is the model. Each of `fp`, `wg` and `bp`
returns what both say of the same cases, a list of [cycles, operations, sums...] each.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuro_engine.cost.rows import Bits, RowWork, bp_row, fp_group, wg_row

Bug = tuple[str, str, str]
"""A file of the rows, code in it and what stands there instead."""
Memories = dict[str, NDArray[np.integer]]
Lines = list[list[int]]
Results = tuple[Lines, Lines]
"""What RTL and model say."""

SIMULATOR = "iverilog"
DENSITIES = (0.0, 0.02, 0.1, 0.3, 1.0)
LANES = 4
GROUPS = 8
MAX_WORDS = 8
WEIGHTS = np.random.default_rng(0).integers(-(2**15), 2**15, (1024, LANES)).astype(np.int16)

_VERILOG = Path(__file__).parents[2] / "tests" / "rtl"


def simulate(bench: str, memories: Memories, bug: Bug | None = None, **parameters: int) -> Lines:
    """The integers of each line that a bench prints, given its memories and parameters; with `bug` the row has it.

    Raises:
        ValueError: the code of the bug is not in its file, or more than once.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(_VERILOG / "rows", folder, dirs_exist_ok=True)
        if bug:
            _plant(folder, *bug)
        for memory, values in memories.items():
            (folder / f"{memory}.hex").write_text(_hex_lines(values))
        sources = [str(path) for path in (_VERILOG / "bench" / f"{bench}.v", *sorted(folder.glob("*.v")))]
        options = [f"-P{bench}.{key}={value}" for key, value in parameters.items()]
        command = [SIMULATOR, "-g2012", "-s", bench, *options, "-o", "bench.vvp", *sources]
        subprocess.run(command, cwd=folder, check=True, timeout=60)
        done = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=folder, check=True, timeout=150, capture_output=True)
    return [[int(number) for number in line.split()] for line in done.stdout.decode().splitlines()]


def mismatches(rtl: Lines, model: Lines) -> int:
    """Cases in which cycles, operations or a sum differ, missing ones included."""
    common = min(len(rtl), len(model))
    return sum(a != b for a, b in zip(rtl, model, strict=False)) + max(len(rtl), len(model)) - common


def fp(cases: int, rows: int = 1, queue: int = 0, empty: int = 1, bug: Bug | None = None) -> Results:
    """FP: one row, or several that share weights with a queue between them."""
    rng = np.random.default_rng([cases, rows, queue, empty])
    sizes = rng.integers(1, 32 * MAX_WORDS + 1, cases)
    blocks = WEIGHTS.reshape(-1, 32 * LANES)
    first_block = rng.integers(len(blocks), size=cases)
    spikes = [_bits(rng, case, rows, size) for case, size in enumerate(sizes)]
    packed = [_packed(bits) for bits in spikes]
    memory = np.concatenate(packed)
    jobs = np.array([-(-sizes // 32), _places(packed), first_block], np.uint32).T
    memories: Memories = {"spikes": memory, "blocks": blocks, "cases": jobs}
    shape = {"CASES": cases, "SPIKES": len(memory), "ROWS": rows, "QUEUE": queue, "EMPTY": empty}
    model = (
        fp_group(bits, _weights(32 * block, bits.shape[1]), queue_depth=queue, empty_word_cycles=empty)
        for bits, block in zip(spikes, first_block, strict=True)
    )
    return simulate("fp_bench", memories, bug, **shape), _lines(model)


def wg(cases: int, empty: int = 1, bug: Bug | None = None) -> Results:
    """WG: one row, the AND of two bitmaps."""
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
    memories: Memories = {"bitmaps": words, "values": values, "cases": jobs}
    shape = {"CASES": cases, "WORDS": len(words), "VALUES": len(values), "EMPTY": empty}
    model = (wg_row(*pair, empty_word_cycles=empty) for pair in zip(spikes, gradients, strict=True))
    return simulate("wg_bench", memories, bug, **shape), _lines(model)


def bp(cases: int, empty: int = 1, bug: Bug | None = None) -> Results:
    """BP: one row, a list of non-zeros for each group of channels of which any is needed."""
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
    memories: Memories = {"needed": all_gates, "list": all_lists, "weights": WEIGHTS, "cases": jobs}
    shape = {"CASES": cases, "NEEDED": len(all_gates), "LIST": len(all_lists), "EMPTY": empty, "GROUPS": GROUPS}
    model = []
    for gradient, mask, at in zip(gradients, needed, weights_at, strict=True):
        size, count = len(gradient), len(mask) // LANES  # the weights lie group by group
        weights = _weights(at, count * size).reshape(count, size, LANES).swapaxes(0, 1).reshape(size, -1)
        model.append(bp_row(gradient, weights, lanes=LANES, needed=mask, empty_word_cycles=empty))
    return simulate("bp_bench", memories, bug, **shape), _lines(model)


ROWS: Mapping[str, Callable[..., Results]] = {"fp": fp, "wg": wg, "bp": bp}


def _plant(folder: Path, file: str, code: str, other: str) -> None:
    text = (folder / file).read_text()
    if text.count(code) != 1:
        raise ValueError(f"{file}: expected {code!r} once, found it {text.count(code)} times")
    (folder / file).write_text(text.replace(code, other))


def _hex_lines(memory: NDArray[np.integer]) -> str:
    """One line of hexadecimal digits for each row of the memory, whose first value takes the lowest bits."""
    rows = memory.reshape(len(memory), -1)[:, ::-1]
    digits = rows.astype(rows.dtype.newbyteorder(">")).tobytes().hex()
    width = 2 * rows.itemsize * rows.shape[1]
    return "\n".join(digits[at : at + width] for at in range(0, len(digits), width))


def _bits(rng: np.random.Generator, case: int, *shape: int) -> Bits:
    """Random bits; each case has one of the densities, or one for each word so that empty words follow full ones."""
    kind = case % (len(DENSITIES) + 1)
    if kind < len(DENSITIES):
        return rng.random(shape) < DENSITIES[kind]
    words = rng.choice(DENSITIES, (*shape[:-1], -(-shape[-1] // 32)))
    return np.asarray(rng.random(shape) < np.repeat(words, 32, axis=-1)[..., : shape[-1]])


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


def _lines(works: Iterable[RowWork]) -> Lines:
    return [[work.cycles, work.operations, *work.sums.ravel().tolist()] for work in works]


def _weights(at: int, size: int) -> NDArray[np.int16]:
    return WEIGHTS[(at + np.arange(size)) % len(WEIGHTS)]
