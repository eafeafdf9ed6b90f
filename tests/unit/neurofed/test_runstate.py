"""The reducer: what each event changes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from google.protobuf.message import Message

from neurofed import folding
from neurofed.folding import MAX_NOTES, fold, fold_all
from neurofed.runstate import is_finished, one_line, run_state_name, samples_per_s, steps_per_s, worker_state_name
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

FIELDS = {f.message_type.name: f.name for f in m.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}


def events(payloads: Iterable[Message]) -> list[m.Event]:
    return [
        m.Event(seq=i, time_unix_s=100.0 + i, **{FIELDS[type(p).__name__]: p}) for i, p in enumerate(payloads, start=1)
    ]


def folded(*payloads: Message) -> m.Snapshot:
    return fold_all(events(payloads))


def in_round_one(*payloads: Message) -> m.WorkerRound:
    """Worker a's part after some events of round 1."""
    return folded(m.RoundStarted(round=1, workers=["a", "b"]), *payloads).rounds[0].workers[0]


def sent(kind: str = "train", n: int = 10) -> m.TaskSent:
    return m.TaskSent(worker="a", round=1, kind=kind, bytes_down=n)


PROGRESS = m.TaskProgress(worker="a", round=1, step=3, steps=9, values={"loss": 1.5})
RESULT = m.ResultReceived(worker="a", round=1, bytes_up=7, examples=60, metrics={"loss": 1.0})
REJECTED = m.ResultRejected(worker="a", round=1, reason="not finite")
FAILED = m.TaskFailed(worker="a", round=1, reason="out of memory")
LOST = m.WorkerLost(name="a", reason="stream broke")


def test_submission_opens_the_run() -> None:
    spec = c.RunSpec(workload="digits", rounds=3)
    snapshot = folded(m.RunSubmitted(run_id="r", spec=spec, version="1", commit="abc"))
    assert (snapshot.run_id, snapshot.spec, snapshot.version, snapshot.commit) == ("r", spec, "1", "abc")
    assert snapshot.state == c.RUN_STATE_WAITING
    assert (snapshot.seq, snapshot.started_unix_s, snapshot.updated_unix_s) == (1, 101.0, 101.0)


def test_a_second_submission_keeps_the_first_start() -> None:
    assert folded(m.RunSubmitted(run_id="r"), m.RunSubmitted(run_id="r")).started_unix_s == 101.0


def test_run_started_and_finished() -> None:
    started = m.RunStarted(first_round=1, model_bytes=40, parameters=10, workers=["b", "a"])
    snapshot = folded(m.WorkersAwaited(wanted=2, joined=["a"]), started)
    assert snapshot.state == c.RUN_STATE_RUNNING
    assert (snapshot.model_bytes, snapshot.parameters) == (40, 10)
    assert [(w.name, w.present) for w in snapshot.workers] == [("a", True), ("b", True)]
    assert not snapshot.notes
    ended = folded(started, m.RunFinished(state=c.RUN_STATE_FAILED, reason="too few", exit_code=31))
    assert (ended.state, ended.reason, ended.exit_code) == (c.RUN_STATE_FAILED, "too few", 31)


def test_resuming_forgets_how_it_had_ended() -> None:
    ended = m.RunFinished(state=c.RUN_STATE_STOPPED, reason="stopped", exit_code=35)
    snapshot = folded(m.RoundStarted(round=1), ended, m.RunStarted(first_round=2))
    assert (snapshot.state, snapshot.reason, snapshot.exit_code) == (c.RUN_STATE_RUNNING, "", 0)
    assert list(snapshot.notes) == ["resumed at round 2"]


def test_waiting_shows_who_is_there() -> None:
    snapshot = folded(m.WorkersAwaited(wanted=3, joined=["b", "a"]))
    assert snapshot.state == c.RUN_STATE_WAITING
    assert [w.name for w in snapshot.workers] == ["a", "b"]


def test_workers_come_go_and_come_back() -> None:
    joined = m.WorkerJoined(name="a", chip="core20", cores=20, version="1")
    gone = folded(joined, LOST)
    assert not gone.workers[0].present
    assert list(gone.notes) == ["a lost: stream broke"]
    back = folded(joined, LOST, m.RoundStarted(round=2), m.WorkerJoined(name="a", chip="core4", rejoined=True))
    assert back.workers[0].present
    assert back.workers[0].chip == "core4"
    assert back.notes[-1] == "round 2: a rejoined"


def test_a_round_done_again_replaces_the_partial_one_and_all_after_it() -> None:
    snapshot = folded(
        *(m.RoundStarted(round=n, workers=["a"]) for n in (1, 2, 3)), m.RoundStarted(round=2, workers=["b"])
    )
    assert [(v.round, [p.name for p in v.workers]) for v in snapshot.rounds] == [(1, ["a"]), (2, ["b"])]


@pytest.mark.parametrize(
    ("happened", "state"),
    [
        ([], "idle"),
        ([sent()], "receiving"),
        ([sent("train.v2")], "receiving"),
        ([sent("evaluate")], "idle"),
        ([sent(), PROGRESS], "training"),
        ([sent(), PROGRESS, RESULT], "done"),
        ([sent(), REJECTED], "rejected"),
        ([sent(), FAILED], "failed"),
        ([sent(), LOST], "lost"),
        ([LOST], "lost"),
        ([sent(), LOST, PROGRESS], "training"),
        ([sent(), LOST, RESULT], "done"),
        ([sent(), FAILED, sent()], "receiving"),
        ([sent(), RESULT, LOST], "done"),
        ([sent(), RESULT, PROGRESS], "done"),
        ([sent(), RESULT, FAILED], "done"),
        ([sent(), RESULT, sent("evaluate")], "done"),
        ([sent(), REJECTED, LOST], "rejected"),
        ([sent(), FAILED, LOST], "failed"),
    ],
)
def test_states_of_a_part(happened: list[Message], state: str) -> None:
    assert worker_state_name(in_round_one(*happened).state) == state


def test_bytes_add_up_over_all_tasks() -> None:
    part = in_round_one(sent(n=10), sent("evaluate", 5), sent(n=10), RESULT)
    assert (part.bytes_down, part.bytes_up, part.examples) == (25, 7, 60)


def test_progress_and_result_replace_the_numbers() -> None:
    part = in_round_one(sent(), PROGRESS)
    assert (part.step, part.steps, dict(part.metrics)) == (3, 9, {"loss": 1.5})
    done = in_round_one(sent(), PROGRESS, RESULT)
    assert (done.step, dict(done.metrics)) == (9, {"loss": 1.0})


def test_a_new_attempt_forgets_the_reason() -> None:
    assert in_round_one(sent(), FAILED).reason == "out of memory"
    assert in_round_one(sent(), FAILED, sent()).reason == ""


def test_an_unlisted_worker_gets_a_part() -> None:
    late = m.TaskSent(worker="z", round=1, kind="train", bytes_down=1)
    assert [p.name for p in folded(m.RoundStarted(round=1, workers=["a"]), late).rounds[0].workers] == ["a", "z"]


@pytest.mark.parametrize(
    "event",
    [
        m.TaskSent(worker="a", round=9),
        m.TaskProgress(worker="a", round=9),
        m.ResultReceived(worker="a", round=9),
        m.RoundAggregated(round=9),
        m.ModelEvaluated(round=9, metrics={"loss": 1}),
        m.CheckpointWritten(round=9),
    ],
)
def test_events_of_a_round_that_is_not_there_are_passed_over(event: Message) -> None:
    start = m.RoundStarted(round=1, workers=["a"])
    assert folded(start, event).rounds == folded(start).rounds


def test_a_lost_worker_leaves_earlier_rounds_alone() -> None:
    snapshot = folded(m.RoundStarted(round=1, workers=["a"]), m.RoundStarted(round=2, workers=["a"]), LOST)
    assert [worker_state_name(v.workers[0].state) for v in snapshot.rounds] == ["idle", "lost"]


def test_the_end_of_a_round() -> None:
    start = m.RoundStarted(round=1)
    aggregated = m.RoundAggregated(round=1, updates=2, model_sha256="ab", train_metrics={"loss": 2})
    evaluated = m.ModelEvaluated(round=1, metrics={"accuracy": 0.5}, wall_s=3.5)
    view = folded(start, aggregated, evaluated, m.CheckpointWritten(round=1)).rounds[0]
    assert (view.updates, view.model_sha256, dict(view.train_metrics)) == (2, "ab", {"loss": 2})
    assert (dict(view.metrics), view.wall_s, view.checkpointed) == ({"accuracy": 0.5}, 3.5, True)
    assert is_finished(view)
    assert not is_finished(folded(start, aggregated).rounds[0])


def test_round_zero_is_the_initial_model() -> None:
    snapshot = folded(m.ModelEvaluated(round=0, metrics={"accuracy": 0.1}))
    assert dict(snapshot.initial_metrics) == {"accuracy": 0.1}
    assert not snapshot.rounds


def test_every_kind_of_trouble_is_noted() -> None:
    snapshot = folded(m.RoundStarted(round=1, workers=["a"]), REJECTED, FAILED, LOST)
    assert list(snapshot.notes) == [
        "round 1: a's update rejected: not finite",
        "round 1: a failed: out of memory",
        "round 1: a lost: stream broke",
    ]


def test_notes_are_bounded_and_keep_the_newest() -> None:
    snapshot = folded(*(m.WorkerLost(name=f"w{i}") for i in range(MAX_NOTES + 5)))
    assert (len(snapshot.notes), snapshot.notes[-1]) == (MAX_NOTES, f"w{MAX_NOTES + 4} lost")


def test_a_note_is_one_safe_line() -> None:
    note = folded(m.WorkerLost(name="a\x1b[2J", reason="x\ny" + "z" * 999)).notes[0]
    assert note.isprintable()
    assert len(note) <= 300


def test_duplicates_are_ignored() -> None:
    first, second = events([m.RoundStarted(round=1, workers=["a"]), sent()])
    snapshot = fold_all([first, second, second, first])
    assert snapshot.rounds[0].workers[0].bytes_down == 10


def test_an_unknown_payload_only_moves_the_clock() -> None:
    snapshot = m.Snapshot()
    fold(snapshot, m.Event(seq=1, time_unix_s=5))
    assert snapshot == m.Snapshot(seq=1, updated_unix_s=5)


def test_every_payload_has_a_reducer() -> None:
    """A new kind of event must not be forgotten here."""
    payloads = [getattr(m.Event(), field) for field in FIELDS.values()]
    quiet = {type(p).__name__ for p in payloads if folded(m.RoundStarted(round=0), p).ByteSize() == 0}
    assert not quiet
    assert set(folding._REDUCERS) == set(FIELDS.values())


def test_names_of_states() -> None:
    assert run_state_name(c.RUN_STATE_COMPLETED) == "completed"
    assert worker_state_name(m.WORKER_STATE_TRAINING) == "training"
    assert (run_state_name(99), worker_state_name(99)) == ("99", "99")


def test_one_line() -> None:
    assert one_line(" a\n b\tc\x07 ") == "a b c\ufffd"
    assert one_line("abcdef", 4) == "abc…"


def test_a_drained_worker_leaves_rather_than_being_lost() -> None:
    drained = m.WorkerDrained(name="a", reason="an operator asked it to leave")
    snapshot = folded(m.RoundStarted(round=1, workers=["a"]), drained)
    assert snapshot.workers[0].drained == "an operator asked it to leave"
    snapshot = folded(m.RoundStarted(round=1, workers=["a"]), drained, LOST)
    assert not snapshot.workers[0].present
    assert snapshot.notes[-1] == "round 1: a left"
    assert folded(drained, m.WorkerJoined(name="a")).workers[0].drained == ""


def test_the_latest_samples_are_kept() -> None:
    first = m.SamplesPublished(round=1, samples=[m.Sample(file="a", caption="b")])
    second = m.SamplesPublished(round=2, samples=[m.Sample(file="c", caption="d")])
    assert folded(first, second).samples == second


def test_speed_is_that_between_the_first_and_the_last_step_told_of() -> None:
    def at(*steps: int) -> float | None:
        told = [m.TaskProgress(worker="a", round=1, step=step, steps=99) for step in steps]
        return steps_per_s(in_round_one(sent(), *told))

    assert at(5) is None
    assert at(5, 9, 25) == 10.0  # events are a second apart: 20 steps in 2 s
    assert at(5, 9, 2, 5) == 3.0  # a task that was begun again counts from its first word


def test_who_is_awaited_is_not_there() -> None:
    snapshot = folded(m.RunStarted(workers=["a", "b"]), m.WorkersAwaited(wanted=2, joined=["b"]))
    assert [(worker.name, worker.present) for worker in snapshot.workers] == [("a", False), ("b", True)]


def test_samples_per_second_are_of_the_last_task_until_steps_can_be_timed() -> None:
    numbers = {"train-s": 4.0}
    snapshot = fold_all(
        events(
            [
                m.RunStarted(first_round=1, workers=["a", "b", "gone"]),
                m.RoundStarted(round=1, workers=["a", "b", "gone"]),
                m.TaskProgress(worker="a", round=1, step=4, steps=4),
                m.ResultReceived(worker="a", round=1, examples=10, metrics=numbers),
                m.ResultReceived(worker="gone", round=1, examples=10, metrics=numbers),
                m.WorkerLost(name="gone"),
                m.RoundStarted(round=2, workers=["a", "b"]),
            ]
        )
    )
    assert samples_per_s(snapshot) == {"a": 10 / 4}
    for seconds, step in ((10, 1), (20, 2), (30, 4)):
        told = m.TaskProgress(worker="a", round=2, step=step, steps=4)
        fold(snapshot, m.Event(seq=snapshot.seq + 1, time_unix_s=1000.0 + seconds, task_progress=told))
    # 3 steps in 20 s, and 10 examples in the 4 steps of the round before
    assert samples_per_s(snapshot) == {"a": pytest.approx(3 / 20 * 10 / 4)}
