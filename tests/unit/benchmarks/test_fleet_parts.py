"""The smaller parts of the fleet's benchmarks."""

from __future__ import annotations

import json
import os
import random
import threading
from pathlib import Path

import pytest
import torch

from benchmarks.fleet import probe, stub
from benchmarks.fleet.journal import Journal
from benchmarks.fleet.liar import KINDS
from benchmarks.fleet.trend import slope
from workloads.parameters import state_arrays


def test_a_line_is_found_and_the_truth_is_within_the_interval() -> None:
    rng = random.Random(0)
    xs = [float(x) for x in range(500)]
    fit = slope(xs, [3.0 + 0.5 * x + rng.gauss(0.0, 5.0) for x in xs])
    assert fit.low <= 0.5 <= fit.high
    assert fit.high - fit.low < 0.05


def test_noise_does_not_grow() -> None:
    rng = random.Random(1)
    fit = slope(range(200), [rng.gauss(100.0, 1.0) for _ in range(200)])
    assert fit.low <= 0.0 <= fit.high


def test_a_few_spikes_are_no_trend() -> None:
    assert slope(range(100), [1000.0 if x % 17 == 0 else 10.0 for x in range(100)]).value == 0.0


def test_a_journal_follows_a_log_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    journal = Journal(path)
    assert journal.entries() == []
    lines = [json.dumps({"seq": str(n), "time_unix_s": n + 0.5, "round_started": {"round": n}}) for n in (1, 2)]
    path.write_text(f"{lines[0]}\n{lines[1][:20]}")
    assert [entry.body for entry in journal.entries()] == [{"round": 1}]
    path.write_text(f"{lines[0]}\n{lines[1]}\n")
    assert [(entry.time_s, entry.kind) for entry in journal.entries()] == [
        (1.5, "round_started"),
        (2.5, "round_started"),
    ]


def test_the_kernel_is_asked_the_right_questions(tmp_path: Path) -> None:
    pid = os.getpid()
    assert 0 < probe.rss_bytes(pid) <= probe.peak_rss_bytes(pid)
    descriptors, threads = probe.descriptors(pid), probe.threads(pid)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with (tmp_path / "file").open("w"):
        assert probe.descriptors(pid) == descriptors + 1
        assert probe.threads(pid) == threads + 1
    stop.set()
    thread.join()
    assert probe.cpu_s(pid) > 0


def test_there_are_ten_ways_to_lie() -> None:
    assert len(KINDS) == len(set(KINDS)) == 10


@pytest.mark.parametrize("change", [{"seed": 1}, {"part": 1}, {"round": 2}])
def test_what_a_stub_learns_depends_on_seed_part_and_round(change: dict[str, int]) -> None:
    usual = {"seed": 0, "part": 0, "round": 1}
    assert _trained(**usual) == _trained(**usual)
    assert _trained(**usual) != _trained(**{**usual, **change})


def test_a_stub_is_as_large_as_asked() -> None:
    settings = stub.WORKLOAD.settings("small", {"model_bytes": "40000"})
    model = stub.WORKLOAD.prepare(settings, 0).build_model()
    assert 40_000 <= sum(array.nbytes for array in state_arrays(model).values()) <= 40_100


def _trained(seed: int, part: int, round: int) -> list[bytes]:
    task = stub.WORKLOAD.prepare(stub.WORKLOAD.settings("small", {}), seed)
    model = task.build_model().train()
    optimizer = task.optimizer(model)
    for batch in task.train_batches(part, 2, round, 0):
        optimizer.zero_grad()
        task.loss(model(batch.inputs), batch.targets).backward()
        optimizer.step()
    with torch.no_grad():
        return [array.tobytes() for array in state_arrays(model).values()]
