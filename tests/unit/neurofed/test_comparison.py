"""Runs side by side: data, table and page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf import json_format
from google.protobuf.message import Message
from support_monitor import a_spec, numbered

from neurofed.cli import cli
from neurofed.cli.compare import compare
from neurofed.cli.local import report
from neurofed.eventlog import to_json_line
from neurofed.folding import fold_all
from neurofed.report import render_html, report_data
from neurofed.report.comparison import FIGURES, comparison
from neurofed.report.comparison_html import render_comparison
from neurofed.spec import CHOICES
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

EVIL = "<script>alert(1)</script>\"'&"


def a_run(
    run_id: str,
    accuracies: list[float],
    *,
    energy_j: float | None = 2.0,
    metric: str = "accuracy",
    worker: str = "a",
    **asked: Any,
) -> list[m.Event]:
    """A run with one worker: 10 bytes up and 20 down in a round, a loss that halves, and a bill where one is wanted."""
    spec = a_spec(workers=1, rounds=len(accuracies))
    for name, value in asked.items():
        if isinstance(value, dict):
            getattr(spec, name).update(value)
        else:
            setattr(spec, name, value)
    payloads: list[Message] = [
        m.RunSubmitted(run_id=run_id, spec=spec, version="1.0", commit="abc"),
        m.WorkerJoined(name=worker, chip="core20_28nm", cores=20),
        m.RunStarted(first_round=1, model_bytes=40, parameters=10, workers=[worker]),
        m.ModelEvaluated(round=0, metrics={metric: 0.0, "loss": 4.0}),
    ]
    for number, accuracy in enumerate(accuracies, start=1):
        bill = {} if energy_j is None else {"energy-j": energy_j}
        payloads += [
            m.RoundStarted(round=number, workers=[worker]),
            m.TaskSent(worker=worker, round=number, kind="train", bytes_down=20),
            m.ResultReceived(worker=worker, round=number, bytes_up=10, examples=5, metrics=bill),
            m.RoundAggregated(round=number, updates=1),
            m.ModelEvaluated(round=number, metrics={metric: accuracy, "loss": 4.0 / 2**number}, wall_s=1.0),
        ]
    return numbered(*payloads, m.RunFinished(state=c.RUN_STATE_COMPLETED))


def compared(*runs: list[m.Event]) -> dict[str, Any]:
    data = comparison([report_data(fold_all(run)) for run in runs])
    assert data == json.loads(json.dumps(data, allow_nan=False)), "it is data for JSON"
    return data


def written(folder: Path, *runs: list[m.Event]) -> None:
    for run in runs:
        target = folder / run[0].run_submitted.run_id
        target.mkdir(parents=True)
        (target / "events.jsonl").write_text("".join(f"{to_json_line(event)}\n" for event in run))


SETTINGS = {choice.settings for choice in CHOICES.values()}


def test_what_was_asked_for_differently_stands_apart() -> None:
    data = compared(
        a_run("one", [0.5], seed=1, settings={"lr": "0.1"}, strategy_settings={"lr": "2"}),
        a_run("two", [0.5], seed=2, settings={"depth": "3"}),
    )
    apart = {"settings.lr": [0.1, None], "settings.strategy.lr": [2, None], "settings.depth": [None, 3]}
    assert data["different"] == {"seed": [1, 2], **apart}
    assert (data["same"]["workload"], data["same"]["min_workers"]) == ("video-classification", 0)
    assert set(data["same"]) >= {f.name for f in c.RunSpec.DESCRIPTOR.fields} - {"settings", "seed"} - SETTINGS


def test_curves_tell_what_was_spent_until_each_round() -> None:
    (one, _) = compared(a_run("one", [0.25, 0.5]), a_run("two", [0.5]))["runs"]
    assert one["curve"] == [
        {"round": 0, "value": 0.0, "loss": 4.0, "energy_j": 0.0, "bytes": 0},
        {"round": 1, "value": 0.25, "loss": 2.0, "energy_j": 2.0, "bytes": 30},
        {"round": 2, "value": 0.5, "loss": 1.0, "energy_j": 4.0, "bytes": 60},
    ]


def test_figures_are_those_of_the_reports() -> None:
    runs = [a_run("one", [0.25, 0.5]), a_run("two", [0.5], energy_j=None)]
    data = compared(*runs)
    for run, row in zip(runs, data["runs"], strict=True):
        final = report_data(fold_all(run))["final"]
        assert row["final"] == {name: final[name] for name in FIGURES}
    assert data["provenance"]["energy_j"] == "modelled"
    assert data["provenance"]["bytes_up"] == "measured"


def test_the_target_is_what_the_least_of_them_reached() -> None:
    data = compared(a_run("fast", [0.6, 0.9]), a_run("slow", [0.2, 0.7, 0.6], energy_j=1.0))
    assert data["target"] == {
        "metric": "accuracy",
        "level": 0.7,
        "reached": [{"round": 2, "energy_j": 4.0, "bytes": 60}, {"round": 2, "energy_j": 2.0, "bytes": 60}],
    }


def test_without_accuracy_the_loss_is_the_target_and_less_is_better() -> None:
    data = compared(a_run("one", [30.0, 31.0], metric="psnr"), a_run("two", [30.0], metric="psnr"))
    assert data["headline"] == "psnr"
    assert (data["target"]["metric"], data["target"]["level"]) == ("loss", 2.0)
    assert [run["round"] for run in data["target"]["reached"]] == [1, 1]


def test_metrics_of_other_names_are_not_compared_with_each_other() -> None:
    assert compared(a_run("one", [0.5]), a_run("two", [30.0], metric="psnr"))["headline"] == "loss"


def test_a_round_without_a_bill_ends_the_sum() -> None:
    run = a_run("one", [0.5, 0.6, 0.7])
    for event in run:
        if event.result_received.round == 2:
            event.result_received.metrics.clear()
    curve = compared(run, a_run("two", [0.5]))["runs"][0]["curve"]
    assert [point["energy_j"] for point in curve] == [0.0, 2.0, None, None]


def test_runs_that_did_nothing_can_be_compared() -> None:
    data = compared(a_run("one", []), a_run("two", [0.5]))
    assert data["target"] is None
    assert "<svg" in render_comparison(data)
    assert "<svg" not in render_comparison(compared([], []))


def test_one_name_for_two_runs_is_numbered() -> None:
    data = compared(a_run("one", [0.5]), a_run("one", [0.6]), a_run("two", [0.5]))
    assert [run["name"] for run in data["runs"]] == ["one (1)", "one (2)", "two"]


class Page(HTMLParser):
    """Text, tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.cells: list[str] = []
        self._cell = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.cells[-1] += data


@pytest.mark.parametrize(
    "page",
    [
        lambda runs: render_comparison(compared(*runs)),
        lambda runs: render_html(report_data(fold_all(runs[0]))),
    ],
    ids=["comparison", "report"],
)
def test_pages_load_nothing_run_nothing_and_escape_all(page: Any) -> None:
    runs = [
        a_run(EVIL, [0.5], codec=EVIL, worker=EVIL, preset=EVIL, settings={EVIL: json.dumps(EVIL)}, metric=EVIL),
        a_run("two", [0.5], metric=EVIL),
    ]
    runs[0].append(m.Event(seq=99, worker_lost=m.WorkerLost(name=EVIL, reason=EVIL)))
    text = page(runs)
    found = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("href", "src")]
    assert "<script" not in text
    assert any(EVIL in cell for cell in found.cells), "it is shown, as text"


def test_the_page_shows_the_figures_of_the_data_with_where_they_come_from() -> None:
    data = compared(a_run("one", [0.25, 0.5]), a_run("two", [0.5], energy_j=3.0))
    cells = Page(render_comparison(data)).cells
    energy = cells.index("energy")
    assert cells[energy : energy + 4] == ["energy", "modelled", "4 J", "3 J"]
    up = cells.index("bytes up")
    assert cells[up : up + 4] == ["bytes up", "measured", "20 B", "10 B"]
    spent = cells.index("energy until then")
    assert cells[spent : spent + 4] == ["energy until then", "modelled", "4 J", "3 J"]
    assert render_comparison(data).count("<svg") == 3


def test_the_command_prints_a_table_json_and_a_page(tmp_path: Path) -> None:
    written(tmp_path / "runs", a_run("one", [0.25, 0.5], seed=1), a_run("[bold]two", [0.5], seed=2))
    names, out = ["one", "[bold]two"], ["--out", str(tmp_path / "runs")]
    table = CliRunner().invoke(compare, [*names, *out], catch_exceptions=False).output
    rows = {line.split("  ")[0].strip(): line.split() for line in table.splitlines()}
    assert "[bold]two" in table
    assert rows["seed"] == ["seed", "differs", "1", "2"]
    assert rows["energy"] == ["energy", "modelled", "4", "J", "2", "J"]
    assert rows["all reached accuracy 50.0 %"]
    page = tmp_path / "page.html"
    asked = CliRunner().invoke(compare, [*names, *out, "--json", "--html", str(page)], catch_exceptions=False).output
    assert page.read_text() == render_comparison(json.loads(asked))


def test_a_folder_anywhere_is_a_run_too_and_what_is_none_is_said(tmp_path: Path) -> None:
    written(tmp_path / "runs", a_run("one", [0.5]))
    written(tmp_path / "elsewhere", a_run("two", [0.5]))
    out = ["--out", str(tmp_path / "runs")]
    both = CliRunner().invoke(compare, ["one", str(tmp_path / "elsewhere" / "two"), *out, "--json"])
    assert [run["run_id"] for run in json.loads(both.output)["runs"]] == ["one", "two"]
    missing = CliRunner().invoke(cli, ["compare", "one", "three", *out])
    assert "got 'three'" in str(missing.exception)
    assert CliRunner().invoke(compare, ["one", *out]).exit_code == 2


def test_report_writes_its_page_where_it_is_asked_to(tmp_path: Path) -> None:
    written(tmp_path, a_run("one", [0.5]))
    own, other = tmp_path / "one" / "report.html", tmp_path / "other.html"
    for arguments, page in (([], own), (["--html"], own), (["--html", str(other)], other)):
        done = CliRunner().invoke(report, ["one", "--out", str(tmp_path), *arguments], catch_exceptions=False)
        assert done.output.strip() == str(page)
        assert page.read_text() == render_html(json.loads((tmp_path / "one" / "report.json").read_text()))


def test_events_of_the_future_do_not_disturb_a_comparison(tmp_path: Path) -> None:
    written(tmp_path, a_run("one", [0.5]), a_run("two", [0.5]))
    with (tmp_path / "one" / "events.jsonl").open("a") as log:
        log.write(json.dumps({"seq": "1000", "something_new": {"x": 1}}) + "\n")
    done = CliRunner().invoke(compare, ["one", "two", "--out", str(tmp_path), "--json"], catch_exceptions=False)
    assert json.loads(done.output)["different"] == {}


def test_the_specification_in_the_report_is_all_that_was_asked_for() -> None:
    run = a_run("one", [0.5], join_timeout_s=float("inf"))
    asked = report_data(fold_all(run))["spec"]
    assert asked["join_timeout_s"] is None, "JSON has no infinity"
    known = json_format.MessageToDict(run[0].run_submitted.spec, preserving_proto_field_name=True)
    assert {name: asked[name] for name in ("workload", "preset", "workers")} == {
        name: known[name] for name in ("workload", "preset", "workers")
    }
