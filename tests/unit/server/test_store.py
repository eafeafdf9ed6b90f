"""The index of runs: follows the logs, never leads them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from neurofed.eventlog import EventLog
from neurofed.v1 import monitor_pb2 as m
from neurofed.v1.control_pb2 import RunSpec, RunState
from server.store import EVENTS, INDEX, RunStore


def _log(folder: Path, run_id: str, *payloads: object, at: float = 1.0) -> m.Snapshot:
    (folder / run_id).mkdir(parents=True, exist_ok=True)
    with EventLog(folder / run_id / EVENTS, clock=lambda: at) as log:
        if not log.seq:
            log.emit(m.RunSubmitted(run_id=run_id, spec=RunSpec(workload="w", rounds=9)))
        for payload in payloads:
            log.emit(payload)  # type: ignore[arg-type]
        return log.snapshot()


def _rows(folder: Path) -> list[tuple[int, str, int]]:
    store = RunStore(folder)
    store.close()
    return [(row.position, row.entry.run_id, row.entry.state) for row in store.rows()]


_DONE = m.RunFinished(state=RunState.RUN_STATE_FAILED, reason="why", exit_code=34)


def test_the_order_of_submission_survives_whatever_clock_and_names_say(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for run_id, at in (("z", 30.0), ("a", 10.0), ("m", 20.0)):
        store.put(_log(tmp_path, run_id, at=at), None)
    store.close()
    assert _rows(tmp_path) == [(1, "z", 1), (2, "a", 1), (3, "m", 1)]


def test_a_line_says_where_a_run_stands(tmp_path: Path) -> None:
    rounds = [m.RoundStarted(round=1), m.CheckpointWritten(round=1), m.RoundStarted(round=2)]
    _log(tmp_path, "r", *rounds, _DONE)
    for _ in range(2):  # folded from the log, then read from the index
        store = RunStore(tmp_path)
        store.close()
        (row,) = store.rows()
        entry = row.entry
        assert (entry.run_id, entry.state, entry.reason) == ("r", RunState.RUN_STATE_FAILED, "why")
        assert (entry.round, entry.rounds, entry.workload) == (1, 9, "w")


@pytest.mark.parametrize("damage", [b"", b"not a database", None, b"\0" * 8192])
def test_a_lost_or_damaged_index_is_made_again_from_the_logs(tmp_path: Path, damage: bytes | None) -> None:
    for run_id, at in (("second", 20.0), ("first", 10.0)):
        _log(tmp_path, run_id, at=at)
    _rows(tmp_path)
    for path in tmp_path.glob(f"{INDEX}*"):
        path.unlink()
    if damage is not None:
        (tmp_path / INDEX).write_bytes(damage)
    assert _rows(tmp_path) == [(1, "first", 1), (2, "second", 1)]
    assert _rows(tmp_path) == [(1, "first", 1), (2, "second", 1)]


def test_an_index_of_another_version_is_made_again(tmp_path: Path) -> None:
    _log(tmp_path, "r")
    with sqlite3.connect(tmp_path / INDEX) as database:
        database.execute("CREATE TABLE runs (position INTEGER, run_id TEXT)")
    database.close()
    assert _rows(tmp_path) == [(1, "r", 1)]
    assert _rows(tmp_path) == [(1, "r", 1)]


def test_a_flipped_byte_anywhere_never_hides_a_run(tmp_path: Path) -> None:
    for number in range(3):
        _log(tmp_path, f"r{number}", _DONE, at=float(number))
    expected = _rows(tmp_path)
    whole = (tmp_path / INDEX).read_bytes()
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        (tmp_path / INDEX).write_bytes(damaged)
        assert {row[1] for row in _rows(tmp_path)} == {row[1] for row in expected}


def test_the_log_wins_where_a_crash_came_between_the_two(tmp_path: Path) -> None:
    snapshot = _log(tmp_path, "r")
    store = RunStore(tmp_path)
    store.put(snapshot, (tmp_path / "r" / EVENTS).stat().st_size)
    store.close()
    _log(tmp_path, "r", _DONE)
    assert _rows(tmp_path) == [(1, "r", RunState.RUN_STATE_FAILED)]
    _log(tmp_path, "r", m.RunResumed())
    assert _rows(tmp_path) == [(1, "r", RunState.RUN_STATE_WAITING)]


def test_an_end_that_is_not_in_the_log_is_forgotten_by_the_next_process(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    ended = _log(tmp_path, "r")
    ended.state = RunState.RUN_STATE_FAILED
    store.put(ended, None)
    assert store.rows()[0].entry.state == RunState.RUN_STATE_FAILED
    store.close()
    assert _rows(tmp_path) == [(1, "r", RunState.RUN_STATE_WAITING)]


def test_folders_that_are_no_runs_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _log(tmp_path, "good")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / EVENTS).write_bytes(b'{"seq":"1","run_sub')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / EVENTS).write_bytes(b"nonsense\n")
    assert [run_id for _, run_id, _ in _rows(tmp_path)] == ["good"]
    assert "run broken is left alone" in caplog.text


def test_a_deleted_run_leaves_the_list(tmp_path: Path) -> None:
    _log(tmp_path, "r")
    assert len(_rows(tmp_path)) == 1
    (tmp_path / "r" / EVENTS).unlink()
    assert _rows(tmp_path) == []


def test_a_disk_without_room_for_an_index_stops_no_run(tmp_path: Path) -> None:
    _log(tmp_path, "r")
    (tmp_path / INDEX).mkdir()
    assert _rows(tmp_path) == [(1, "r", 1)]


def test_two_aggregators_in_one_folder_do_not_share_places(tmp_path: Path) -> None:
    one, two = RunStore(tmp_path), RunStore(tmp_path)
    one.put(_log(tmp_path, "a"), None)
    two.put(_log(tmp_path, "b"), None)
    assert [store.rows()[0].position for store in (one, two)] == [1, 2]
    one.close()
    two.close()
