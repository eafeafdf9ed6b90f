"""The event log: a file that survives crashes."""

from __future__ import annotations

import io
import itertools
import json
import logging
import threading
from pathlib import Path

import pytest

from neurofed import eventlog
from neurofed.errors import DataError, RunStateError, StorageError
from neurofed.eventlog import EventLog, fold_log, read_events, to_json_line
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_emitted_events_are_numbered_written_and_folded(path: Path) -> None:
    with EventLog(path, clock=itertools.count(50.0).__next__) as log:
        first = log.emit(m.RunSubmitted(run_id="r", spec=c.RunSpec(rounds=2)))
        second = log.emit(m.RoundStarted(round=1, workers=["a"]))
        assert (first.seq, second.seq) == (1, 2)
        assert (first.time_unix_s, second.time_unix_s) == (50.0, 51.0)
        assert list(read_events(path)) == [first, second]  # readable while it is being written
        assert log.snapshot() == fold_log(path)
    assert log.snapshot().run_id == "r"


def test_a_line_is_plain_json_with_the_names_of_the_schema(path: Path) -> None:
    with EventLog(path) as log:
        log.emit(m.RoundStarted(round=1, workers=["é\n"]))
    line = path.read_bytes()
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line)["round_started"] == {"round": 1, "workers": ["é\n"]}


def test_an_empty_payload_is_still_a_payload(path: Path) -> None:
    with EventLog(path) as log:
        assert log.emit(m.RoundStarted()).WhichOneof("payload") == "round_started"
    assert next(read_events(path)).WhichOneof("payload") == "round_started"


def test_what_is_no_payload_is_refused(path: Path) -> None:
    with EventLog(path) as log, pytest.raises(TypeError, match="RunSpec"):
        log.emit(c.RunSpec())


def test_a_log_goes_on_where_it_ended(path: Path) -> None:
    with EventLog(path) as log:
        log.emit(m.RunSubmitted(run_id="r"))
    with EventLog(path) as log:
        assert log.snapshot().run_id == "r"
        assert log.emit(m.RoundStarted(round=1)).seq == 2
    assert [e.seq for e in read_events(path)] == [1, 2]


@pytest.mark.parametrize("tail", [b"{", b'{"seq":"2","run_st', b"\0\0\0\0", b"\xff\xfe"])
def test_a_torn_tail_is_passed_over_and_then_cut_off(path: Path, tail: bytes) -> None:
    with EventLog(path) as log:
        first = log.emit(m.RunSubmitted(run_id="r"))
    path.write_bytes(path.read_bytes() + tail)
    assert list(read_events(path)) == [first]
    with EventLog(path) as log:
        second = log.emit(m.RoundStarted(round=1))
    assert list(read_events(path)) == [first, second]


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"\n", b"[]\n", b"{}\n", b"\xff\xfe\n", b'{"seq": "x"}\n', b"[" * 100_000 + b"\n"]
)
def test_a_broken_line_in_the_middle_is_an_error_that_names_it(path: Path, line: bytes) -> None:
    good = to_json_line(m.Event(seq=1, round_started=m.RoundStarted())).encode() + b"\n"
    path.write_bytes(good + line + good)
    with pytest.raises(DataError, match="line 2"):
        fold_log(path)
    with pytest.raises(DataError, match="line 2"):
        EventLog(path)
    assert path.read_bytes() == good + line + good


def test_events_of_a_later_version_are_read(path: Path) -> None:
    path.write_text('{"seq":"1","moon_landed":{"x":1}}\n{"seq":"2","round_started":{"round":1,"new":3}}\n')
    assert [e.WhichOneof("payload") for e in read_events(path)] == [None, "round_started"]
    assert fold_log(path).seq == 2


def test_numbers_that_are_not_finite_survive(path: Path) -> None:
    with EventLog(path) as log:
        log.emit(m.ModelEvaluated(round=0, metrics={"loss": float("inf")}))
    assert fold_log(path).initial_metrics["loss"] == float("inf")


def test_subscribers_hear_each_event_until_they_leave(path: Path) -> None:
    heard: list[int] = []
    with EventLog(path) as log:
        log.emit(m.RunSubmitted())
        leave = log.subscribe(lambda event: heard.append(event.seq))
        log.emit(m.RoundStarted(round=1))
        leave()
        leave()
        log.emit(m.RoundStarted(round=2))
    assert heard == [2]


def test_a_subscriber_sees_the_snapshot_with_its_event(path: Path) -> None:
    with EventLog(path) as log:
        seen: list[bool] = []
        log.subscribe(lambda event: seen.append(log.snapshot().seq == event.seq))
        log.emit(m.RunSubmitted())
    assert seen == [True]


def test_a_failing_subscriber_stops_nobody(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[int] = []

    def fail(event: m.Event) -> None:
        raise ValueError("boom")

    with EventLog(path) as log, caplog.at_level(logging.ERROR):
        log.subscribe(fail)
        log.subscribe(lambda event: heard.append(event.seq))
        log.emit(m.RunSubmitted())
    assert heard == [1]
    assert "event 1" in caplog.text


def test_a_snapshot_is_a_copy(path: Path) -> None:
    with EventLog(path) as log:
        log.emit(m.RunSubmitted(run_id="r"))
        log.snapshot().run_id = "other"
        assert log.snapshot().run_id == "r"


def test_a_snapshot_that_was_made_smaller_says_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventlog, "_COMPACT_EVENTS", 3)
    with EventLog(path) as log:
        log.emit(m.RoundStarted(round=1, workers=["a"]))
        for step in range(1, 8):
            log.emit(m.TaskProgress(worker="a", round=1, step=step, steps=9, values={"loss": 1 / step}))
            assert log.snapshot() == fold_log(path)
    assert log.snapshot().rounds[0].workers[0].step == 7


def test_many_threads_write_whole_lines_in_order(path: Path) -> None:
    heard: list[int] = []
    with EventLog(path) as log:
        log.subscribe(lambda event: heard.append(event.seq))

        def work(worker: int) -> None:
            for step in range(25):
                log.emit(m.TaskProgress(worker=str(worker), round=1, step=step))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log.sync()
    numbers = list(range(1, 101))
    assert heard == numbers
    assert [e.seq for e in read_events(path)] == numbers


class FullDisk(io.FileIO):
    """Takes a few bytes, then has no space left."""

    room = 5

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        if not self.room:
            raise OSError(28, "No space left on device")
        written = super().write(data[: self.room])
        self.room = 0
        return written


def test_a_write_that_fails_half_way_leaves_no_half_line(path: Path) -> None:
    with EventLog(path) as log:
        first = log.emit(m.RunSubmitted(run_id="r"))
        good, log._file = log._file, FullDisk(path, "ab")
        with pytest.raises(StorageError, match="No space"):
            log.emit(m.RoundStarted(round=1))
        log._file.close()
        log._file = good
        assert log.snapshot().seq == 1
        second = log.emit(m.RoundStarted(round=1))
    assert (second.seq, list(read_events(path))) == (2, [first, second])


def test_an_end_that_the_disk_does_not_take_is_told_all_the_same(path: Path) -> None:
    heard: list[int] = []
    with EventLog(path) as log:
        first = log.emit(m.RunSubmitted(run_id="r"))
        log.subscribe(lambda event: heard.append(event.seq))
        good, log._file = log._file, FullDisk(path, "ab")
        last = log.emit(m.RunFinished(state=c.RUN_STATE_FAILED), must_write=False)
        log._file.close()
        log._file = good
        assert (heard, log.state, log.whole_bytes) == ([2], c.RUN_STATE_FAILED, None)
        assert list(log.read()) == [first, last]
        assert list(log.read(1)) == [last]
    with EventLog(path) as log:
        assert log.state == c.RUN_STATE_WAITING, "the log knows nothing of it"
        assert log.emit(m.RunResumed()).seq == 2
    assert [e.seq for e in read_events(path)] == [1, 2]


def test_a_log_has_one_writer(path: Path) -> None:
    with EventLog(path) as log:
        log.emit(m.RunSubmitted(run_id="r"))
        with pytest.raises(RunStateError, match="another process"):
            EventLog(path)
        assert fold_log(path).run_id == "r", "reading is free"
    EventLog(path).close()


def test_a_closed_log_can_still_be_read(path: Path) -> None:
    log = EventLog(path)
    first = log.emit(m.RunSubmitted(run_id="r"))
    log.close()
    log.close()
    assert (log.closed, list(log.read()), log.snapshot().run_id) == (True, [first], "r")
    with pytest.raises(StorageError, match="closed"):
        log.emit(m.RoundStarted(round=1))


def test_what_a_restart_depends_on_is_on_the_disk_before_anybody_hears_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    with EventLog(path) as log:
        log.subscribe(lambda event: steps.append(str(event.WhichOneof("payload"))))
        monkeypatch.setattr("os.fsync", lambda _: steps.append("sync"))
        for payload in (m.RunSubmitted(run_id="r"), m.RoundStarted(round=1), m.ModelEvaluated(round=1), m.RunPaused()):
            log.emit(payload)
        assert steps == ["sync", "run_submitted", "round_started", "sync", "model_evaluated", "sync", "run_paused"]


def test_the_log_can_be_read_after_a_kill_at_any_byte(path: Path) -> None:
    with EventLog(path) as log:
        events = [log.emit(m.RunSubmitted(run_id="r")), log.emit(m.RoundStarted(round=1, workers=["é\n"]))]
        whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 10]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert list(read_events(path)) == events[: sum(end <= size for end in ends)]
