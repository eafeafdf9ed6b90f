"""Folding and logging, for any order of events."""

from __future__ import annotations

import tempfile
from pathlib import Path

from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofed.eventlog import EventLog, read_events, to_json_line
from neurofed.folding import fold, fold_all
from neurofed.report import render_html, report_data
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

names = st.sampled_from(["a", "b", "c<i>"])
rounds = st.integers(0, 3)
counts = st.integers(0, 2**40)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.dictionaries(
    st.sampled_from(["loss", "accuracy", "energy-j", "energy-j/fp/mac", "cycles", "spike-rate/conv1", "dram-bytes/x"]),
    st.floats(allow_nan=False),
    max_size=4,
)
payloads = st.one_of(
    st.builds(m.RunSubmitted, run_id=texts, spec=st.builds(c.RunSpec, workload=texts, rounds=rounds)),
    st.builds(m.WorkersAwaited, wanted=rounds, joined=st.lists(names)),
    st.builds(m.RunStarted, first_round=rounds, workers=st.lists(names)),
    st.builds(m.WorkerJoined, name=names, chip=texts, rejoined=st.booleans()),
    st.builds(m.WorkerLost, name=names, reason=texts),
    st.builds(m.RoundStarted, round=rounds, workers=st.lists(names, unique=True)),
    st.builds(m.TaskSent, worker=names, round=rounds, kind=st.sampled_from(["train", "query"]), bytes_down=counts),
    st.builds(m.TaskProgress, worker=names, round=rounds, step=rounds, steps=rounds, values=numbers),
    st.builds(m.ResultReceived, worker=names, round=rounds, bytes_up=counts, examples=counts, metrics=numbers),
    st.builds(m.ResultRejected, worker=names, round=rounds, reason=texts),
    st.builds(m.TaskFailed, worker=names, round=rounds, reason=texts),
    st.builds(m.WorkerDrained, name=names, reason=texts),
    st.builds(m.SamplesPublished, round=rounds, samples=st.lists(st.builds(m.Sample, file=texts, caption=texts))),
    st.builds(m.TaskWithdrawn, worker=names, round=rounds, reason=texts),
    st.builds(m.RoundAggregated, round=rounds, updates=rounds, model_sha256=texts, train_metrics=numbers),
    st.builds(m.ModelEvaluated, round=rounds, metrics=numbers, wall_s=st.floats(0, 1e6)),
    st.builds(m.CheckpointWritten, round=rounds, file=texts),
    st.builds(m.RunFinished, state=st.sampled_from(c.RunState.values()), reason=texts, exit_code=rounds),
)
FIELDS = {f.message_type.name: f.name for f in m.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
histories = st.lists(payloads, max_size=30).map(
    lambda found: [
        m.Event(seq=i, time_unix_s=float(i), **{FIELDS[type(p).__name__]: p}) for i, p in enumerate(found, start=1)
    ]
)


@given(histories, st.integers(0, 30))
def test_folding_in_pieces_equals_folding_at_once(events: list[m.Event], cut: int) -> None:
    snapshot = m.Snapshot.FromString(fold_all(events[:cut]).SerializeToString())
    for event in events[cut:]:
        fold(snapshot, event)
    assert snapshot == fold_all(events)


@given(histories)
def test_json_changes_nothing(events: list[m.Event]) -> None:
    again = [json_format.Parse(to_json_line(event), m.Event()) for event in events]
    assert fold_all(again) == fold_all(events)


@given(histories, st.data())
def test_duplicates_change_nothing(events: list[m.Event], data: st.DataObject) -> None:
    repeated = [e for event in events for e in [event] * data.draw(st.integers(1, 3))]
    early = data.draw(st.integers(0, len(events)))
    assert fold_all([*repeated, *events[:early]]) == fold_all(events)


@given(histories)
def test_rounds_and_workers_stay_in_order_without_doubles(events: list[m.Event]) -> None:
    snapshot = fold_all(events)
    numbers = [view.round for view in snapshot.rounds]
    workers = [worker.name for worker in snapshot.workers]
    assert numbers == sorted(set(numbers))
    assert workers == sorted(set(workers))


@given(histories)
def test_folding_leaves_the_events_alone(events: list[m.Event]) -> None:
    before = [event.SerializeToString(deterministic=True) for event in events]
    fold_all(events)
    assert [event.SerializeToString(deterministic=True) for event in events] == before


@settings(max_examples=50)
@given(histories.filter(bool), st.data())
def test_a_torn_tail_never_loses_complete_events(events: list[m.Event], data: st.DataObject) -> None:
    lines = [to_json_line(event).encode() + b"\n" for event in events]
    size = data.draw(st.integers(0, sum(map(len, lines))))
    complete = 0
    while complete < len(lines) and sum(map(len, lines[: complete + 1])) <= size:
        complete += 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_bytes(b"".join(lines)[:size])
        assert list(read_events(path)) == events[:complete]
        with EventLog(path) as log:
            assert log.snapshot() == fold_all(events[:complete])
            added = log.emit(m.RoundStarted(round=1))
        assert list(read_events(path)) == [*events[:complete], added]


@settings(max_examples=50)
@given(histories)
def test_any_history_has_a_report(events: list[m.Event]) -> None:
    page = render_html(report_data(fold_all(events)))
    assert "<i>" not in page
