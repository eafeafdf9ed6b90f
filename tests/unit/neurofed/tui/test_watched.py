"""What the full-screen monitor keeps of a run, and the lines and cells it makes of it."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from support_monitor import FIELDS, a_round, a_spec, numbered

from neurofed.cli.tui import panels
from neurofed.cli.tui.eventline import event_line
from neurofed.cli.tui.watched import TAIL_LINES, Cost, Watched
from neurofed.report import report_data
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

EVIL = "[bold red]x[/] \x1b[2J\nline"


def watched(*payloads: Message) -> Watched:
    run = Watched()
    for event in numbered(*payloads):
        run.take(event)
    return run


def opened(workers: list[str], rounds: int = 3) -> list[Message]:
    return [
        m.RunSubmitted(run_id="r", spec=a_spec(len(workers), rounds)),
        *(m.WorkerJoined(name=name, chip="core20_28nm", cores=20) for name in workers),
        m.RunStarted(first_round=1, workers=workers),
        m.ModelEvaluated(round=0, metrics={"accuracy": 0.1, "loss": 2.0}),
    ]


def totals(run: Watched) -> dict[str, Cost]:
    return {name: run.cost(name) for name in ("", "a", "b")}


def test_costs_are_sums_over_rounds() -> None:
    run = watched(*opened(["a", "b"]), *a_round(1, ["a", "b"]), *a_round(2, ["a"]), *a_round(3, ["a", "b"])[:3])
    assert totals(run) == {
        "": Cost(3000, 10_000, 6.0),
        "a": Cost(2000, 6000, 4.0),
        "b": Cost(1000, 4000, 2.0),
    }
    final = report_data(run.snapshot)["final"]
    assert (final["bytes_up"], final["bytes_down"], final["energy_j"]) == (3000, 10_000, 6.0)


def test_a_round_done_again_is_not_billed_twice() -> None:
    run = watched(*opened(["a", "b"]), *a_round(1, ["a", "b"]), *a_round(2, ["a", "b"]), *a_round(3, ["a"])[:2])
    for event in numbered(*[m.RunPaused()] * 60, m.RunStarted(first_round=2), *a_round(2, ["a"])):
        run.take(event)
    final = report_data(run.snapshot)["final"]
    assert [view.round for view in run.snapshot.rounds] == [1, 2]
    assert run.cost() == Cost(final["bytes_up"], final["bytes_down"], final["energy_j"]) == Cost(3000, 6000, 6.0)


def test_an_update_that_comes_rounds_later_is_billed() -> None:
    late = m.ResultReceived(worker="b", round=1, bytes_up=500, metrics={"energy-j": 7.0})
    first = [p for p in a_round(1, ["a", "b"]) if not (isinstance(p, m.ResultReceived) and p.worker == "b")]
    again = m.TaskSent(worker="b", round=1, kind="train", bytes_down=100)
    run = watched(*opened(["a", "b"]), *first, *a_round(2, ["a"]), again, late)
    final = report_data(run.snapshot)["final"]
    assert run.cost() == Cost(final["bytes_up"], final["bytes_down"], final["energy_j"]) == Cost(2500, 6100, 11.0)
    assert run.cost("b") == Cost(500, 2100, 7.0)


def test_no_bill_is_no_bill_of_zero() -> None:
    sent = m.TaskSent(worker="a", round=1, kind="train", bytes_down=5)
    run = watched(*opened(["a"]), m.RoundStarted(round=1, workers=["a"]), sent)
    assert run.cost("a") == Cost(0, 5, None)
    assert "energy –" in panels.bill(run, 0.0).plain


def test_what_is_kept_does_not_grow_with_events() -> None:
    run = watched(*opened(["a"]), m.RoundStarted(round=1, workers=["a"]))
    size = run.snapshot.ByteSize()
    seq = run.snapshot.seq
    for k in range(1, 20_001):
        event = m.Event(seq=seq + k, time_unix_s=k)
        if k % 2:
            event.task_progress.CopyFrom(m.TaskProgress(worker="a", round=1, step=k, steps=20_000))
        else:
            event.checkpoint_written.CopyFrom(m.CheckpointWritten(round=1, file="f"))
        run.take(event)
    assert len(run.tail) == TAIL_LINES
    assert run.snapshot.ByteSize() < size + 100


def test_the_aggregators_word_on_its_workers_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    run = watched(*opened(["a", "b"]))
    run.set_entries([m.WorkerEntry(name="a", heartbeat_age_s=2.0)])
    now[0] += 3
    assert (run.heartbeat_age_s("a"), run.heartbeat_age_s("b")) == (5.0, None)


def test_every_kind_of_event_has_a_line_and_none_breaks_it() -> None:
    for name, field in FIELDS.items():
        payload = getattr(m, name)()
        for known in payload.DESCRIPTOR.fields:
            if known.type == known.TYPE_STRING and not known.is_repeated:
                setattr(payload, known.name, EVIL)
        line = event_line(m.Event(seq=1, time_unix_s=1e300, **{field: payload}))
        assert line.isprintable(), name
        assert len(line) > len("00:00:00 "), name
    assert event_line(m.Event(seq=1)) == ""
    assert event_line(m.Event(seq=1, model_evaluated=m.ModelEvaluated(round=2, metrics={"accuracy": 0.5}))).endswith(
        "round 2 evaluated: accuracy 50.0 %"
    )


def test_no_line_is_wider_than_80_and_names_stay_text() -> None:
    names = [EVIL, "[/]", "w" * 64]
    run = watched(*opened(names), *a_round(1, names), m.WorkerQuarantined(name=names[2], reason=EVIL))
    run.set_entries([m.WorkerEntry(name=name, heartbeat_age_s=1e9) for name in names])
    rows = panels.worker_rows(run)
    widths = [column.width for column in panels.COLUMNS]
    assert sum(widths) + len(widths) - 1 <= 80
    for _, cells in rows:
        assert [cell.cell_len <= width for cell, width in zip(cells, widths, strict=True)] == [True] * len(widths)
        assert all(cell.plain.isprintable() for cell in cells)
    shown = {name: [cell.plain.strip() for cell in cells] for name, cells in rows}
    assert shown[EVIL][0] == "[bold red]…"
    assert shown["[/]"] == ["[/]", "done", "4/4", "2.50", "12.5%", "2J", "1.00kB", "2.00kB", "999 s"]
    assert shown["w" * 64][1] == "quarantine"


def test_who_was_asked_to_leave_is_not_called_lost() -> None:
    run = watched(*opened(["a", "b"]), m.RoundStarted(round=1, workers=["a", "b"]), m.WorkerDrained(name="a"))
    run.snapshot.workers[0].drained = "asked"

    def states() -> list[str]:
        return [cells[1].plain for _, cells in panels.worker_rows(run)]

    assert states() == ["leaving", "idle"]
    for worker in run.snapshot.workers:
        worker.present = False
    assert states() == ["left", "lost"]


def test_the_header_tells_state_time_cost_and_loss_of_the_aggregator() -> None:
    run = watched(*opened(["a"]), *a_round(1, ["a"], accuracy=0.25), *a_round(2, ["a"], accuracy=0.75))
    assert panels.title(run).plain.startswith("r  video-classification tiny  running")
    assert panels.bill(run, run.snapshot.started_unix_s + 75).plain == (
        "1 min 15 s  energy 4 J modelled  up 2.00 kB  down 4.00 kB measured"
    )
    assert panels.progress(run).plain == "round 2/3"
    assert run.rounds_done() == 2
    assert panels.curve(run.snapshot, "accuracy", 56).plain == "accuracy     75.0 %  ▁▃█"
    assert panels.curve(run.snapshot, "accuracy", 2).plain == "accuracy     75.0 %  ▁█"
    assert "lost" not in panels.title(run).plain
    run.say_lost("nobody answered")
    assert panels.title(run).plain.endswith("lost, retrying")
    run.take(m.Event(seq=99, run_finished=m.RunFinished(state=c.RUN_STATE_STOPPED)))
    assert "stopped" in panels.title(run).plain


def test_a_history_told_anew_starts_from_nothing() -> None:
    run = watched(*opened(["a"]), *a_round(1, ["a"]), *a_round(2, ["a"]))
    run.restart()
    assert (run.snapshot, list(run.tail), run.cost("a")) == (m.Snapshot(), [], Cost())
