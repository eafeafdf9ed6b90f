"""Interleaved CPU time, other libraries and threads."""

from __future__ import annotations

import ctypes
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import torch

from benchmarks.event_kernels.case import Call, Case
from neuro_engine.kernels import native


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run torch and the native kernels on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def within(library: ctypes.CDLL, call: Call) -> Call:
    """The call, with the native kernels of another library."""

    def run() -> object:
        with mock.patch.object(native.binding, "library", return_value=library):
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


def longest_wait() -> float:
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
