"""The terminal view."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from google.protobuf.message import Message
from rich.console import Console, RenderableType

from neurofed.cli.view import LiveView, final_table, render, round_line, sparkline
from neurofed.folding import fold, fold_all
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

FIELDS = {f.message_type.name: f.name for f in m.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
WORKERS = [f"board-{i}" for i in range(5)]
SPEC = c.RunSpec(
    workload="video-classification", preset="paper", workers=5, rounds=20, seed=7, chip="core20_28nm", codec="ternary"
)


def events(*payloads: Message) -> list[m.Event]:
    return [m.Event(seq=i, **{FIELDS[type(p).__name__]: p}) for i, p in enumerate(payloads, 1)]


def a_round(number: int, workers: list[str] = WORKERS) -> list[Message]:
    values = {"loss": 1.25, "spike-rate": 0.081, "energy-j": 0.0123, "dram-bytes": 5e8, "cycles": 4.4e7}
    return [
        m.RoundStarted(round=number, workers=workers),
        *(m.TaskSent(worker=w, round=number, kind="train", bytes_down=412_000) for w in workers),
        *(m.TaskProgress(worker=w, round=number, step=1234, steps=9999, values=values) for w in workers),
        *(m.ResultReceived(worker=w, round=number, bytes_up=38_000, metrics=values) for w in workers[:2]),
        m.RoundAggregated(round=number, updates=2),
    ]


def evaluated(number: int) -> m.ModelEvaluated:
    return m.ModelEvaluated(round=number, metrics={"accuracy": 0.5 + number / 100, "loss": 0.4}, wall_s=3723)


def a_run(workers: list[str] = WORKERS) -> list[m.Event]:
    opened = m.RunSubmitted(run_id="20260801-video-classification-7f3a", spec=SPEC)
    started = m.RunStarted(first_round=1, workers=workers)
    lost = [m.WorkerLost(name=w, reason="no heartbeat for a very long time, " * 4) for w in workers[3:5]]
    return events(opened, started, *a_round(1, workers), evaluated(1), *a_round(2, workers), *lost, *lost, *lost)


def printed(what: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_table_fits_a_small_terminal() -> None:
    lines = printed(render(fold_all(a_run()))).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    table = "\n".join(line for line in lines if not line.startswith("·"))
    assert "…" not in table  # nothing but a long note is cut


def test_the_live_table_tells_what_happens() -> None:
    text = printed(render(fold_all(a_run())))
    for part in (
        "video-classification paper",
        "running",
        "core20_28nm",
        "ternary",
        "seed 7",
        "round 2 of 20",
        "51.0 %",
        "board-0",
        "done",
        "training",
        "lost",
        "1234/9999",
        "1.250",
        "8.1 %",
        "38.0 kB",
        "412 kB",
        "12.3 mJ",
        "modelled",
        "no heartbeat",
    ):
        assert part in text


def test_a_run_that_waits_shows_who_is_there() -> None:
    waiting = events(m.RunSubmitted(spec=SPEC), m.WorkerJoined(name="a", chip="core4"), m.WorkerLost(name="b"))
    text = printed(render(fold_all(waiting)))
    assert "waiting" in text
    assert "joined" in text
    assert "core4" in text


def test_an_empty_snapshot_can_be_shown() -> None:
    assert "unspecified" in printed(render(m.Snapshot()))
    assert "all" in printed(final_table(m.Snapshot()))


def test_many_workers_are_cut_short() -> None:
    text = printed(render(fold_all(a_run([f"w{i:02d}" for i in range(30)]))))
    assert "… and 20 more" in text


def test_names_from_the_network_are_text() -> None:
    name = "[red]x[/red]\x1b[2J"
    spec = c.RunSpec(workload="[b]w\x1b", chip="[i]\x1b")
    run = events(m.RunSubmitted(spec=spec), *a_round(1, [name]), m.ModelEvaluated(round=1, metrics={"[u]\x1b": 1}))
    for view in (render(fold_all(run)), final_table(fold_all(run))):
        text = printed(view)
        assert "\x1b" not in text
    assert "[red]x" in printed(render(fold_all(run)))


def test_a_failure_gives_its_reason() -> None:
    failed = m.RunFinished(state=c.RUN_STATE_FAILED, reason="too few workers")
    assert "too few workers" in printed(render(fold_all(events(failed))))


def test_the_final_table_has_a_row_a_round_and_totals() -> None:
    run = events(m.RunSubmitted(spec=SPEC), *a_round(1), evaluated(1), *a_round(2), evaluated(2))
    lines = printed(final_table(fold_all(run))).rstrip().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    first, total = next(line for line in lines if line.split()[:1] == ["1"]), lines[-1]
    for part in ("51.0 %", "0.400", "76.0 kB", "2.06 MB", "61.5 mJ", "2.50 GB", "44.0 M", "1 h 02 min"):
        assert part in first
    for part in ("all", "52.0 %", "152 kB", "4.12 MB", "123 mJ", "5.00 GB", "88.0 M", "2 h 04 min"):
        assert part in total
    assert sum(line.count("modelled") for line in lines) == 3


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([1.0], "▄"), ([1.0, 1.0], "▄▄"), ([0.0, 0.5, 1.0], "▁▅█"), ([9.0] * 30 + [0.0], "█" * 23 + "▁")],
)
def test_sparkline(values: list[float], line: str) -> None:
    assert sparkline(values) == line


def watch(run: list[m.Event], console: Console) -> str:
    snapshot = m.Snapshot()
    with LiveView(console) as view:
        for event in run:
            fold(snapshot, event)
            view.update(snapshot)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_each_round_and_note_is_one_plain_line() -> None:
    run = events(
        m.RunSubmitted(spec=SPEC),
        *a_round(1),
        evaluated(1),
        m.WorkerLost(name="board-4", reason="gone"),
        m.WorkerLost(name="board-4", reason="gone"),
        *a_round(2),
        evaluated(2),
    )
    lines = watch(run, Console(file=io.StringIO(), width=40)).splitlines()
    assert [line.split(":")[0] for line in lines] == ["round 1/20", "round 1", "round 1", "round 2/20"]
    assert lines[0] == (
        "round 1/20: accuracy 51.0 %, loss 0.400, up 76.0 kB, down 2.06 MB, energy 61.5 mJ (modelled), 1 h 02 min"
    )


def test_a_round_done_again_is_told_again() -> None:
    again = [
        *a_round(1),
        evaluated(1),
        *a_round(2),
        evaluated(2),
        m.RunStarted(first_round=2),
        *a_round(2),
        evaluated(2),
    ]
    lines = watch(events(*again), Console(file=io.StringIO())).splitlines()
    assert [line.split(":")[0] for line in lines] == ["round 1/0", "round 2/0", "resumed at round 2", "round 2/0"]


def test_notes_are_told_once_even_when_old_ones_are_dropped() -> None:
    run = events(*(m.WorkerLost(name=f"w{i}") for i in range(450)))
    assert watch(run, Console(file=io.StringIO())).splitlines() == [f"w{i} lost" for i in range(450)]


def test_a_terminal_gets_the_live_table() -> None:
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        width=80,
        height=24,
        color_system="standard",
        _environ={"TERM": "xterm"},
    )
    text = watch(a_run(), console)
    assert "\x1b[" in text
    assert "board-0" in text


def test_no_color_is_respected() -> None:
    environ = {"NO_COLOR": "1", "TERM": "xterm"}
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system="standard", _environ=environ)
    text = watch(a_run(), console)
    assert "\x1b[32m" not in text
    assert "\x1b[36m" not in text


def test_a_dumb_terminal_gets_lines() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert "round 1/20" in watch(a_run(), console)


def test_a_round_line_of_another_metric() -> None:
    run = events(
        m.RunSubmitted(spec=SPEC), m.RoundStarted(round=1), m.ModelEvaluated(round=1, metrics={"psnr": 31.257})
    )
    snapshot = fold_all(run)
    assert round_line(snapshot, snapshot.rounds[0]).startswith("round 1/20: psnr 31.26, loss –")


def test_only_the_view_needs_rich() -> None:
    code = "import sys, neurofed.report, neurofed.eventlog; sys.exit('rich' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
