"""What a worker keeps across restarts."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neurofed.errors import ConfigError, StorageError
from worker.state import KEEP, KEEP_RUNS, State, StateStore, default_folder


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "state")


def _state(number: int) -> State:
    rng = np.random.default_rng(number)
    rng.standard_normal(number)
    arrays = {"residual": rng.normal(size=(3, 2)).astype(np.float32), "torch": np.arange(9, dtype=np.uint8)}
    return State(number, arrays, {"rng": rng.bit_generator.state, "scale": 0.1 + 0.2})


def _assert_same(got: State | None, expected: State) -> None:
    assert got is not None
    assert (got.round_number, got.facts) == (expected.round_number, expected.facts)
    assert {name: array.tobytes() for name, array in got.arrays.items()} == {
        name: array.tobytes() for name, array in expected.arrays.items()
    }


def test_what_is_saved_is_loaded_bit_by_bit_by_the_next_process(store: StateStore) -> None:
    store.save("run", "residuals", _state(3))
    _assert_same(StateStore(store.folder).load("run", "residuals", before_round=4), _state(3))


def test_runs_and_names_do_not_mix(store: StateStore) -> None:
    store.save("a", "x", _state(1))
    store.save("a", "y", _state(2))
    store.save("b", "x", _state(3))
    _assert_same(store.load("a", "x", 9), _state(1))
    _assert_same(store.load("a", "y", 9), _state(2))
    _assert_same(store.load("b", "x", 9), _state(3))
    assert store.load("b", "y", 9) is None
    store.forget("a")
    assert store.load("a", "x", 9) is None
    _assert_same(store.load("b", "x", 9), _state(3))


def test_states_of_old_runs_go(store: StateStore) -> None:
    (store.folder / "somebody's").mkdir(parents=True)
    for number in range(KEEP_RUNS + 2):
        store.save(f"run-{number}", "x", _state(1))
        os.utime(store.folder / f"run-{number}", (number, number))
    store.save("run-2", "y", _state(1))
    store.save("run-1", "x", _state(2))  # begins anew
    left = sorted(int(run.name.removeprefix("run-")) for run in store.folder.glob("run-*"))
    assert (store.folder / "somebody's").is_dir()
    assert left == [1, 2, *range(4, KEEP_RUNS + 2)]
    assert store.load("run-1", "x", 2) is None


def test_a_round_done_again_starts_from_the_state_before_it(store: StateStore) -> None:
    for number in (1, 2, 3):
        store.save("run", "x", _state(number))
    _assert_same(store.load("run", "x", before_round=3), _state(2))
    _assert_same(store.load("run", "x", before_round=2), _state(1))
    assert store.load("run", "x", before_round=1) is None


def test_states_of_a_lost_future_go(store: StateStore) -> None:
    for number in (1, 2, 3):
        store.save("run", "x", _state(number))
    store.save("run", "x", _state(2))
    _assert_same(store.load("run", "x", before_round=9), _state(2))


def test_the_newest_few_stay(store: StateStore) -> None:
    for number in range(1, KEEP + 4):
        store.save("run", "x", _state(number))
    assert len(list((store.folder / "run" / "x").iterdir())) == KEEP
    _assert_same(store.load("run", "x", before_round=5), _state(4))


def test_a_damaged_state_is_skipped_with_a_word(store: StateStore, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        store.save("run", "x", _state(number))
    path = store.folder / "run" / "x" / "round-000002.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:9], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        _assert_same(store.load("run", "x", before_round=3), _state(1))
    assert caplog.text.count("is skipped") == 4


@pytest.mark.parametrize("bad", ["", "..", "../x", "a/b", ".hidden", "a" * 101, "ü"])
def test_names_stay_inside_the_folder(store: StateStore, bad: str) -> None:
    for run_id, name in ((bad, "x"), ("run", bad)):
        with pytest.raises(ConfigError):
            store.save(run_id, name, _state(1))
        with pytest.raises(ConfigError):
            store.load(run_id, name, 1)
    with pytest.raises(ConfigError):
        store.forget(bad)
    assert not store.folder.exists()


def test_a_disk_that_does_not_take_it_leaves_the_one_before(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("run", "x", _state(1))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        store.save("run", "x", _state(2))
    _assert_same(store.load("run", "x", 9), _state(1))


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder("board-1") == tmp_path / "neurofed" / "board-1"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_folder("board-1") == Path.home() / ".local" / "state" / "neurofed" / "board-1"


_WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from worker.state import State, StateStore

store = StateStore(Path(sys.argv[1]))
for line in sys.stdin:
    number = int(line)
    before = store.load("run", "codec", number) or State(0, {"residual": np.zeros(64, np.float32)})
    rng = np.random.default_rng(7)
    if before.facts:
        rng.bit_generator.state = before.facts["rng"]
    update = rng.standard_normal(64).astype(np.float32) + before.arrays["residual"]
    sent = np.where(np.abs(update) >= np.sort(np.abs(update))[-8], update, np.float32(0))
    store.save("run", "codec", State(number, {"residual": update - sent}, {"rng": rng.bit_generator.state}))
    print(json.dumps(sent.tolist()), flush=True)
"""
"""A worker that sends the eight greatest of 64 values and keeps the rest, with a generator that goes on."""


def _train(folder: Path, rounds: int, kill: random.Random | None) -> np.ndarray:
    """The model after some rounds; with `kill`, the worker is killed before, during and after saving, at random."""
    model = np.zeros(64, np.float32)
    worker: subprocess.Popen[str] | None = None
    number = 1
    while number <= rounds:
        if worker is None:
            command = [sys.executable, "-c", _WORKER, str(folder)]
            worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdin
        assert worker.stdout
        worker.stdin.write(f"{number}\n")
        worker.stdin.flush()
        fate = kill.choice(("lives", "at once", "with the result lost", "with the result kept")) if kill else "lives"
        line = "" if fate == "at once" else worker.stdout.readline()
        if fate != "lives":
            os.kill(worker.pid, signal.SIGKILL)
        if fate != "lives" or number == rounds:
            worker.communicate()
            worker = None
        if line and fate != "with the result lost":
            model += np.array(json.loads(line), np.float32)
            number += 1
    if worker:
        worker.communicate()
    return model


def test_a_worker_killed_between_and_in_rounds_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", 8, None)
    for seed in range(2):
        cut = _train(tmp_path / f"cut-{seed}", 8, random.Random(seed))
        assert cut.tobytes() == whole.tobytes()
