"""The engines' native kernels against numba and plain torch: which of them the engines should stand on.

All contestants do the same work on the same float32 maps (fp16 where said, which numba lacks on CPUs), on one thread,
round by round in turn; a row has CPU time of torch's dense operation and, for the others, the median over the rounds of
their time by torch's in the same round. Spikes come packed, as the engines have them; arranging the weights counts.

numba is optional: where it is not installed, its rows are absent. It is no dependency of ours; to have its rows,
install it into the environment of this run.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from benchmarks.common import arguments, finish, must
from neuro_engine.kernels import buffers, build, native, reference
from neuro_engine.kernels.native import Geometry
from neuro_engine.neuron import LIF
from neuro_engine.surrogate import Surrogate

SEED = 0
SHAPES = ((8, 64, 32), (8, 128, 16))
"""Images, channels in and out, and side of the map of a 3x3 convolution; the images are 4 steps of a batch of 2."""
DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
STEPS = 4
NEURON, SURROGATE = LIF(), Surrogate("triangle", 1.0)
ROUNDS = {True: 3, False: 15}

Array = npt.NDArray[Any]
Call = Callable[[], object]
_TILE, _BLOCK = 64, 64
_ONE, _SEQUENCE, _SHIFT = np.uint64(1), np.uint64(0x03F79D71B4CB0A89), np.uint64(58)
_LOWEST_BIT = np.zeros(64, np.int64)
for _bit in range(64):
    _LOWEST_BIT[(int(_SEQUENCE) << _bit) % 2**64 >> 58] = _bit


# The kernels' algorithm in numba's Python. They are functions of this module, compiled on demand by `jitted`, so that
# numba can cache them. Its Python has no registers: four events are added at a time, in order, to save trips to memory.


def _list_bits(bits: Array, offset: Array, begin: Array) -> None:
    """Channels that are set in bits [pixels][words], and where the list of each pixel begins."""
    k = 0
    for p in range(bits.shape[0]):
        begin[p] = k
        for w in range(bits.shape[1]):
            m = bits[p, w]
            while m:
                low = m & (~m + _ONE)
                offset[k] = w * 64 + _LOWEST_BIT[(low * _SEQUENCE) >> _SHIFT]
                k += 1
                m ^= low
    begin[-1] = k


def _list_values(values: Array, offset: Array, value: Array, begin: Array) -> None:
    """The same of values [pixels][c] that are not 0."""
    k = 0
    for p in range(values.shape[0]):
        begin[p] = k
        x = values[p]
        for i in range(x.shape[0]):
            offset[k], value[k] = i, x[i]
            k += x[i] != 0
    begin[-1] = k


def _gather(offset: Array, value: Array, begin: Array, rows: Array, out: Array, side: int, sign: int) -> None:
    """Lists of events, `value` empty for spikes; rows [blocks][9][c][64], out [images][pixels][blocks 64].

    `sign` is 1 for FP and -1 for BP.
    """
    area, valued = side * side, value.shape[0] > 0
    tiles = -(-area // _TILE)
    acc = np.empty((_TILE, _BLOCK), np.float32)
    for task in range(out.shape[0] * tiles):
        image, first = task // tiles, task % tiles * _TILE
        last = min(first + _TILE, area)
        for block in range(rows.shape[0]):
            acc[:] = 0
            for tap in range(9):
                weight = rows[block, tap]
                dy, dx = sign * (tap // 3 - 1), sign * (tap % 3 - 1)
                for p in range(first, last):
                    y, x = p // side + dy, p % side + dx
                    if y < 0 or y >= side or x < 0 or x >= side:
                        continue
                    at = image * area + y * side + x
                    k, end, a = begin[at], begin[at + 1], acc[p - first]
                    while k + 4 <= end:
                        r0, r1 = weight[offset[k]], weight[offset[k + 1]]
                        r2, r3 = weight[offset[k + 2]], weight[offset[k + 3]]
                        if valued:
                            x0, x1, x2, x3 = value[k], value[k + 1], value[k + 2], value[k + 3]
                            for v in range(_BLOCK):
                                a[v] = (((a[v] + x0 * r0[v]) + x1 * r1[v]) + x2 * r2[v]) + x3 * r3[v]
                        else:
                            for v in range(_BLOCK):
                                a[v] = (((a[v] + r0[v]) + r1[v]) + r2[v]) + r3[v]
                        k += 4
                    while k < end:
                        r0 = weight[offset[k]]
                        x0 = value[k] if valued else np.float32(1)
                        for v in range(_BLOCK):
                            a[v] += x0 * r0[v]
                        k += 1
            out[image, first:last, block * _BLOCK : (block + 1) * _BLOCK] = acc[: last - first]


def _scatter(offset: Array, begin: Array, grad: Array, acc: Array, side: int) -> None:
    """Lists of spikes; grad [images][pixels][blocks 64], acc [blocks][9][c][64]."""
    area = side * side
    acc[:] = 0
    for image in range(grad.shape[0]):
        for block in range(acc.shape[0]):
            for first in range(0, area, _TILE):
                for tap in range(9):
                    sums = acc[block, tap]
                    dy, dx = tap // 3 - 1, tap % 3 - 1
                    for p in range(first, min(first + _TILE, area)):
                        y, x = p // side + dy, p % side + dx
                        if y < 0 or y >= side or x < 0 or x >= side:
                            continue
                        at = image * area + y * side + x
                        g = grad[image, p, block * _BLOCK : (block + 1) * _BLOCK]
                        for e in range(begin[at], begin[at + 1]):
                            row = sums[offset[e]]
                            for v in range(_BLOCK):
                                row[v] += g[v]


def _fire(current: Array, spikes: Array, membrane: Array, fired: Array, neuron: Array) -> None:
    """Hard reset; maps [steps][pixels][c], fired[steps], neuron (leak, gain, threshold)."""
    steps, pixels, c = current.shape
    leak, gain, threshold = neuron[0], neuron[1], neuron[2]
    many = max(1, 2048 // c)
    state = np.empty((many, c), np.float32)
    for first in range(0, pixels, many):
        state[:] = 0
        for t in range(steps):
            count = 0
            for p in range(first, min(first + many, pixels)):
                x, s, h, v = current[t, p], spikes[t, p], membrane[t, p], state[p - first]
                for i in range(c):
                    u = gain * x[i] + leak * v[i]
                    h[i] = u
                    s[i] = np.float32(1) if u >= threshold else np.float32(0)
                    v[i] = np.float32(0) if u >= threshold else u
                    count += u >= threshold
            fired[t] += count


def _fire_backward(grad: Array, membrane: Array, out: Array, sums: Array, nonzeros: Array, neuron: Array) -> None:
    """Hard reset, detached, triangle of width 1; sums[c], nonzeros[steps][pixels]."""
    steps, pixels, c = grad.shape
    leak, gain, threshold = neuron[0], neuron[1], neuron[2]
    many = max(1, 2048 // c)
    state = np.empty((many, c), np.float32)
    for first in range(0, pixels, many):
        state[:] = 0
        for t in range(steps - 1, -1, -1):
            for p in range(first, min(first + many, pixels)):
                g, m, o, v = grad[t, p], membrane[t, p], out[t, p], state[p - first]
                count = 0
                for i in range(c):
                    phi = max(np.float32(1) - abs(m[i] - threshold), np.float32(0))
                    dh = g[i] * phi + (np.float32(0) if m[i] >= threshold else v[i])
                    v[i] = leak * dh
                    o[i] = gain * dh
                    sums[i] += gain * dh
                    count += gain * dh != 0
                nonzeros[t, p] = count


def jitted() -> dict[str, Callable[..., None]]:
    """The kernels above compiled; `contract` (fused multiply-add) is all of fastmath that keeps the order of sums."""
    numba = importlib.import_module("numba")
    compiler = numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
    kernels = (_list_bits, _list_values, _gather, _scatter, _fire, _fire_backward)
    return {f.__name__.strip("_"): compiler(f) for f in kernels}


def _maps(x: Tensor, lead: int) -> Array:
    """A channels-last map (N, C, H, W) as [lead][...][C], without a copy."""
    array: Array = x.permute(0, 2, 3, 1).numpy()
    return array.reshape(lead, -1, x.shape[1])


def _blocks(weight: Tensor) -> Array:
    """Weights (O, I, 3, 3) as [O / 64][9][I][64]."""
    o, i = weight.shape[:2]
    array: Array = weight.view(o // _BLOCK, _BLOCK, i, 9).permute(0, 3, 2, 1).contiguous().numpy()
    return array


class Numba:
    """Contestants of numba, with the signatures of `native` cut down to what is measured."""

    def __init__(self) -> None:
        self._kernels = jitted()
        self._neuron = np.array([NEURON.leak, NEURON.gain, NEURON.threshold], np.float32)

    def gather(self, spikes: native.Spikes, weight: Tensor) -> Tensor:
        """FP of spikes."""
        offset, begin = self._list(spikes)
        return self._gather(offset, np.empty(0, np.float32), begin, weight, spikes.shape, 1)

    def gather_valued(self, grad: Tensor, weight: Tensor) -> Tensor:
        """BP."""
        values = _maps(grad, 1)[0]
        offset, value = np.empty(values.size + 1, np.uint32), np.empty(values.size + 1, np.float32)
        begin = np.empty(len(values) + 1, np.int32)
        self._kernels["list_values"](values, offset, value, begin)
        return self._gather(offset, value, begin, weight.transpose(0, 1).contiguous(), grad.shape, -1)

    def scatter(self, spikes: native.Spikes, grad: Tensor) -> Tensor:
        """WG."""
        n, o, side, _ = grad.shape
        c = spikes.shape[1]
        acc = np.empty((o // _BLOCK, 9, c, _BLOCK), np.float32)
        self._kernels["scatter"](*self._list(spikes), _maps(grad, n), acc, side)
        return torch.from_numpy(acc).permute(0, 3, 2, 1).reshape(o, c, 3, 3)

    def _list(self, spikes: native.Spikes) -> tuple[Array, Array]:
        bits = spikes.bits.numpy().view(np.uint64)
        offset, begin = np.empty(spikes.shape.numel(), np.uint32), np.empty(len(bits) + 1, np.int32)
        self._kernels["list_bits"](bits, offset, begin)
        return offset, begin

    def _gather(
        self, offset: Array, value: Array, begin: Array, weight: Tensor, shape: torch.Size, sign: int
    ) -> Tensor:
        out = buffers.empty((shape[0], weight.shape[0], *shape[2:]), torch.float32)
        self._kernels["gather"](offset, value, begin, _blocks(weight), _maps(out, shape[0]), shape[2], sign)
        return out

    def fire(self, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All steps of a neuron."""
        spikes, membrane = torch.empty_like(current), torch.empty_like(current)
        fired = torch.zeros(STEPS, dtype=torch.int64)
        maps = (_maps(x, STEPS) for x in (current, spikes, membrane))
        self._kernels["fire"](*maps, fired.numpy(), self._neuron)
        return spikes, membrane, fired

    def fire_backward(self, grad: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Back through them."""
        out, sums = torch.empty_like(grad), torch.zeros(grad.shape[1])
        nonzeros = torch.empty((grad.shape[0], *grad.shape[2:]), dtype=torch.int32)
        maps = (_maps(x, STEPS) for x in (grad, membrane, out))
        self._kernels["fire_backward"](*maps, sums.numpy(), nonzeros.numpy().reshape(STEPS, -1), self._neuron)
        return out, sums, nonzeros


class Case:
    """A 3x3 convolution and its neurons at one density of spikes and of gradient."""

    def __init__(self, images: int, channels: int, side: int, density: float) -> None:
        generator = torch.Generator().manual_seed(SEED)
        shape = (images, channels, side, side)

        def rand() -> Tensor:
            return torch.rand(shape, generator=generator).contiguous(memory_format=torch.channels_last)

        self.x = (rand() < density).to(torch.float32)
        self.grad = (rand() < density).to(torch.float32) * (rand() - 0.5)
        self.weight = torch.rand((channels, channels, 3, 3), generator=generator) - 0.5
        # Multiples of 1/16 are exact: no membrane lies within rounding of the threshold.
        self.current = (rand() * 64 - 24).round() / 16
        packed, _ = native.pack(self.x)
        assert packed is not None
        self.spikes, self.shape = packed, torch.Size(shape)
        self.forward = Geometry(images, side, side, channels, side, side, channels, 3, 3, 1, 1, 0)
        self.backward = Geometry(images, side, side, channels, side, side, channels, 3, 3, 1, 1, 1)
        _, self.membrane, _ = reference.neuron_forward(self.current, STEPS, NEURON, SURROGATE, torch.float32)

    def dense(self, operation: str, dtype: torch.dtype = torch.float32) -> Call:
        """The dense operation; neurons step by step, with the sums and counts that the kernels have too."""
        grad, membrane = self.grad.to(dtype), self.membrane.to(dtype)
        calls: Mapping[str, Call] = {
            "FP": lambda: F.conv2d(self.x, self.weight, None, 1, 1),
            "BP": lambda: conv2d_input(self.shape, self.weight, self.grad, 1, 1),
            "WG": lambda: conv2d_weight(self.x, self.weight.shape, self.grad, 1, 1),
            "neuron forward": lambda: reference.neuron_forward(self.current, STEPS, NEURON, SURROGATE, dtype),
            "neuron backward": lambda: reference.neuron_backward(grad, membrane, STEPS, NEURON, SURROGATE),
        }
        return calls[operation]

    def kernel(self, operation: str, dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
        """The native kernel."""
        grad, membrane = self.grad.to(dtype), self.membrane.to(dtype)
        calls: Mapping[str, Callable[[], Any]] = {
            "FP": lambda: native.gather(self.spikes, self.weight, None, self.forward, self.shape, dtype),
            "BP": lambda: native.gather(
                grad, self.weight, None, self.backward, self.shape, dtype, transposed=True
            ),
            "WG": lambda: native.scatter(self.spikes, grad, self.forward, self.weight.shape),
            "neuron forward": lambda: native.neuron_forward(self.current, STEPS, NEURON, SURROGATE, dtype),
            "neuron backward": lambda: native.neuron_backward(grad, membrane, STEPS, NEURON, SURROGATE),
        }  # fmt: skip
        return calls[operation]

    def wanted(self, operation: str) -> Any:
        """What the kernel's result should be."""
        if operation == "FP":
            return reference.gather(self.x, self.weight, None, self.forward, self.shape, torch.float32)
        if operation == "BP":
            return reference.gather(
                self.grad, self.weight, None, self.backward, self.shape, torch.float32, transposed=True
            )
        if operation == "WG":
            return reference.scatter(self.x, self.grad, self.forward, self.weight.shape)
        if operation == "neuron forward":
            return reference.neuron_forward(self.current, STEPS, NEURON, SURROGATE, torch.float32)
        return reference.neuron_backward(self.grad, self.membrane, STEPS, NEURON, SURROGATE)

    def compiled(self, kernels: Numba, operation: str) -> Callable[[], Any]:
        """The kernel of numba."""
        calls: Mapping[str, Callable[[], Any]] = {
            "FP": lambda: kernels.gather(self.spikes, self.weight),
            "BP": lambda: kernels.gather_valued(self.grad, self.weight),
            "WG": lambda: kernels.scatter(self.spikes, self.grad),
            "neuron forward": lambda: kernels.fire(self.current),
            "neuron backward": lambda: kernels.fire_backward(self.grad, self.membrane),
        }
        return calls[operation]


SYNAPTIC = ("FP", "BP", "WG")
OPERATIONS = (*SYNAPTIC, "neuron forward", "neuron backward")


@contextmanager
def using(library: ctypes.CDLL) -> Iterator[None]:
    """Run the native kernels from another library."""
    with mock.patch.object(native, "library", return_value=library):
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch and the native kernels on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _within(library: ctypes.CDLL, call: Call) -> Call:
    def run() -> object:
        with using(library):
            return call()

    return run


def race(base: Call, contestants: Mapping[str, Call], rounds: int) -> dict[str, float]:
    """CPU time of `base` in ms, and of the contestants by it: medians over rounds in which each has its turn."""
    calls = {"torch": base, **contestants}
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in (list(calls), list(calls)[::-1])[turn % 2]:
            began_s = time.process_time()
            calls[name]()
            times[name].append(time.process_time() - began_s)
    relative = {
        name: statistics.median(t / b for t, b in zip(times[name], times["torch"], strict=True)) for name in contestants
    }
    return {"torch_cpu_ms": statistics.median(times["torch"]) * 1e3, **relative}


@dataclass(frozen=True)
class Contest:
    """Who takes part.

    Attributes:
        level: of the native kernels on this machine.
        lower: the next lower level and its library, or None.
        numba: numba's kernels, or None.
    """

    level: str
    lower: tuple[str, ctypes.CDLL] | None
    numba: Numba | None

    def rows(self, *, quick: bool) -> Iterator[dict[str, Any]]:
        """A row for each operation, shape and density."""
        rounds = ROUNDS[quick]
        for images, channels, side in SHAPES[:1] if quick else SHAPES:
            where = {"channels": channels, "side": side}
            for density in DENSITIES[1:4:2] if quick else DENSITIES:
                case = Case(images, channels, side, density)
                for operation in SYNAPTIC:
                    timed = race(case.dense(operation), self._contestants(case, operation), rounds)
                    yield {"operation": operation, "storage": "fp32", **where, "density": density, **timed}
            case = Case(images, channels, side, DENSITIES[2])
            for operation in OPERATIONS[3:]:
                timed = race(case.dense(operation), self._contestants(case, operation), rounds)
                yield {"operation": operation, "storage": "fp32", **where, "density": None, **timed}
                half = torch.float16
                timed = race(case.dense(operation, half), self._native(case, operation, half), rounds)
                yield {"operation": operation, "storage": "fp16", **where, "density": None, **timed}

    def _native(self, case: Case, operation: str, dtype: torch.dtype = torch.float32) -> dict[str, Call]:
        call = case.kernel(operation, dtype)
        found: dict[str, Call] = {f"c {self.level}": call}
        if self.lower:
            found[f"c {self.lower[0]}"] = _within(self.lower[1], call)
        return found

    def _contestants(self, case: Case, operation: str) -> dict[str, Call]:
        found = self._native(case, operation)
        if self.numba:
            found["numba"] = case.compiled(self.numba, operation)
        return found

    def musts(self, *, quick: bool) -> list[dict[str, Any]]:
        """What the kernels promise."""
        worst = dict.fromkeys(("native", "numba"), 0.0)
        fixed_threads = fixed_levels = True
        for images, channels, side in SHAPES[:1] if quick else SHAPES:
            case = Case(images, channels, side, 0.2)
            for operation in OPERATIONS:
                wanted = _tensors(case.wanted(operation))
                call = case.kernel(operation)
                one = _tensors(call())
                worst["native"] = max(worst["native"], _error(one, wanted))
                if self.numba:
                    found = _tensors(case.compiled(self.numba, operation)())
                    worst["numba"] = max(worst["numba"], _error(found, wanted))
                with threads(2):
                    fixed_threads &= _same(_tensors(call()), one)
                if self.lower:
                    fixed_levels &= _same(_tensors(_within(self.lower[1], call)()), one)
        musts = [
            must("largest error by largest value, native kernels", worst["native"], "<=", 1e-5),
            must("same bits on 1 and 2 threads", float(fixed_threads), "==", 1.0),
        ]
        if self.lower:
            musts.append(must(f"same bits at {self.lower[0]}", float(fixed_levels), "==", 1.0))
        if self.numba:
            musts.append(must("largest error by largest value, numba", worst["numba"], "<=", 1e-5))
        musts.append(must("longest wait of another Python thread, by the kernel's time", _longest_wait(), "<=", 0.5))
        return musts


def _tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _error(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> float:
    return max(
        float((a.double() - b.double()).abs().max() / b.double().abs().max())
        for a, b in zip(found, wanted, strict=True)
    )


def _longest_wait() -> float:
    """Longest time that the main thread stood still while a kernel ran in another, by the kernel's time."""
    case = Case(64, 64, 32, 0.5)
    spent: list[float] = []

    def work() -> None:
        began_s = time.perf_counter()
        case.kernel("FP")()
        spent.append(time.perf_counter() - began_s)

    worker = threading.Thread(target=work)
    longest_s, last_s = 0.0, time.perf_counter()
    worker.start()
    while worker.is_alive():
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    return longest_s / spent[0]


_LOAD_NATIVE = """
import json, time
import torch, neuro_engine.neuron
began = time.process_time()
from neuro_engine.kernels import buffers, native
native.pack(torch.zeros(1, 1))
print(json.dumps({"load_cpu_s": time.process_time() - began}))
"""
_LOAD_NUMBA = """
import json, time
from benchmarks.kernels import Case, Numba, OPERATIONS
began = time.process_time()
import numba
imported = time.process_time()
case, kernels = Case(4, 64, 8, 0.1), Numba()
ready = time.process_time()
for operation in OPERATIONS:
    case.compiled(kernels, operation)()
spent = {"import_cpu_s": imported - began, "first_calls_cpu_s": time.process_time() - ready}
print(json.dumps(spent))
"""


def _child(code: str, **environment: str) -> dict[str, float]:
    """Run code in a fresh Python; the figures that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _installed_bytes(package: str) -> int:
    files = importlib.metadata.files(package) or []
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())


def _version_of(compiler: str) -> str:
    shown = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return shown.partition("\n")[0]


def costs(level: str, folder: Path, *, with_numba: bool) -> Iterator[dict[str, Any]]:
    """What having the kernels costs: compiling, loading, room on disk."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    library = build.compile_library(folder / "c", level)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield {
        "cost": f"c {level}",
        "compile_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "load_cpu_s": _child(_LOAD_NATIVE)["load_cpu_s"],
        "bytes": library.stat().st_size,
        "compiler": _version_of(build.compiler() or ""),
    }
    if with_numba:
        cache = {"NUMBA_CACHE_DIR": str(folder / "numba")}
        first, second = _child(_LOAD_NUMBA, **cache), _child(_LOAD_NUMBA, **cache)
        yield {
            "cost": f"numba {importlib.metadata.version('numba')}",
            "compile_cpu_s": first["first_calls_cpu_s"],
            "load_cpu_s": second["import_cpu_s"] + second["first_calls_cpu_s"],
            "import_cpu_s": second["import_cpu_s"],
            "bytes": _installed_bytes("numba") + _installed_bytes("llvmlite"),
        }


def main() -> None:
    """Run the benchmark."""
    options = arguments(__doc__)
    level = build.level()
    if level is None or native.library() is None:
        sys.exit(f"expected native kernels to measure, got none: {build.find()[1]}")
    with tempfile.TemporaryDirectory() as name:
        folder, levels = Path(name), list(build.LEVELS)
        below = levels[levels.index(level) + 1 :] if level in levels else []
        lower = (below[0], ctypes.CDLL(str(build.compile_library(folder / "lower", below[0])))) if below else None
        with_numba = importlib.util.find_spec("numba") is not None
        if with_numba:
            os.environ["NUMBA_CACHE_DIR"] = str(folder / "here")
        contest = Contest(level, lower, Numba() if with_numba else None)
        with threads(1):
            rows = list(contest.rows(quick=options.quick))
            musts = contest.musts(quick=options.quick)
        rows += costs(level, folder, with_numba=with_numba)
    finish("kernels", options, [SEED], rows, musts, ("numba", "llvmlite") if with_numba else ())


if __name__ == "__main__":
    main()
