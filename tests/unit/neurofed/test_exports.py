"""A run for other tools, read back with those tools."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.message import Message
from support import need
from support_monitor import a_round, a_spec, numbered

from neurofed.cli.export import export
from neurofed.errors import ConfigError, DataError
from neurofed.eventlog import to_json_line
from neurofed.folding import fold_all
from neurofed.report import exports, report_data
from neurofed.report.scalars import Recorded, Scalar, recorded, scalars
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

WORKERS = ["a", "b"]


@pytest.fixture
def events() -> list[m.Event]:
    """A run of two rounds."""
    spec = a_spec(workers=2, rounds=2)
    spec.settings["lr"] = "0.5"
    opened: list[Message] = [m.RunSubmitted(run_id="r", spec=spec, version="1.0", commit="abc")]
    opened += [m.RunStarted(first_round=1, workers=WORKERS), m.ModelEvaluated(round=0, metrics={"accuracy": 0.125})]
    rounds = [*a_round(1, WORKERS, accuracy=0.5), *a_round(2, WORKERS, accuracy=0.75)]
    return numbered(*opened, *rounds, m.RunFinished(state=c.RUN_STATE_STOPPED, reason="enough"))


@pytest.fixture
def log(tmp_path: Path, events: list[m.Event]) -> Path:
    path = tmp_path / "runs" / "r" / "events.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{to_json_line(event)}\n" for event in events))
    return path


def evaluated_s(events: list[m.Event], number: int) -> float:
    return next(e.time_unix_s for e in events if e.HasField("model_evaluated") and e.model_evaluated.round == number)


def test_a_run_is_series_of_numbers_that_say_where_they_come_from(log: Path, events: list[m.Event]) -> None:
    found = list(scalars(recorded(log)))
    second_s = evaluated_s(events, 2)
    assert Scalar("measured/accuracy", 0, 0.125, evaluated_s(events, 0)) in found
    assert Scalar("measured/accuracy", 2, 0.75, second_s) in found
    assert Scalar("modelled/energy_j", 2, 4.0, second_s) in found
    assert Scalar("measured/bytes_up", 2, 2000.0, second_s) in found
    assert Scalar("modelled/workers/b/energy_j", 2, 2.0, second_s) in found
    assert not [number for number in found if "dram" in number.tag], "what nobody reported is left out"
    assert len({(number.tag, number.step) for number in found}) == len(found)


def test_lines_of_json_are_the_report_taken_apart(log: Path, events: list[m.Event], tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    done = CliRunner().invoke(export, ["r", "--out", str(log.parents[1]), "--jsonl", str(file)], catch_exceptions=False)
    assert done.output == f"{file}\n"
    head, *rounds, final = map(json.loads, file.read_text().splitlines())
    report = report_data(fold_all(events))
    assert [line.pop("kind") for line in (head, *rounds, final)] == ["run", "round", "round", "final"]
    assert [line.pop("run_id") for line in (*rounds, final)] == ["r"] * 3
    assert [line.pop("time_unix_s") for line in rounds] == [evaluated_s(events, 1), evaluated_s(events, 2)]
    assert {**head, "rounds": rounds, "final": final} == report
    out = CliRunner().invoke(export, ["r", "--out", str(log.parents[1]), "--jsonl", "-"], catch_exceptions=False)
    assert out.output == file.read_text()


def test_nothing_asked_for_is_a_mistake(log: Path) -> None:
    assert CliRunner().invoke(export, ["r", "--out", str(log.parents[1])]).exit_code == 2


def test_tensorboard_reads_the_same_numbers(log: Path, tmp_path: Path) -> None:
    need("tensorboard", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = recorded(log)
    folder = exports.to_tensorboard(run, tmp_path / "tb")
    assert folder == tmp_path / "tb" / "r"
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    got = {(tag, e.step): (e.value, e.wall_time) for tag in read.Tags()["scalars"] for e in read.Scalars(tag)}
    # TensorBoard keeps single precision
    assert got == {(s.tag, s.step): (pytest.approx(s.value, rel=1e-6), s.time_unix_s) for s in scalars(run)}
    with pytest.raises(DataError, match="no earlier export"):
        exports.to_tensorboard(run, tmp_path / "tb")


def test_a_foreign_logs_name_does_not_choose_the_folder(log: Path, tmp_path: Path) -> None:
    need("tensorboard", "tensorboard")
    run = recorded(log)
    with pytest.raises(ConfigError):
        exports.to_tensorboard(Recorded({**run.report, "run_id": "../up"}, run.times), tmp_path / "tb")
    assert not (tmp_path / "up").exists()


def test_tensorboard_is_written_without_torch(log: Path, tmp_path: Path) -> None:
    need("tensorboard", "tensorboard")
    code = (
        "import sys; from pathlib import Path; from neurofed.report import exports, scalars\n"
        f"exports.to_tensorboard(scalars.recorded(Path({str(log)!r})), Path({str(tmp_path / 'tb')!r}))\n"
        "print('torch' in sys.modules, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_mlflow_reads_the_same_numbers(log: Path, tmp_path: Path) -> None:
    need("mlflow", "mlflow")
    from mlflow import MlflowClient

    run = recorded(log)
    run_id = exports.to_mlflow(run, str(tmp_path / "ml"))
    client = MlflowClient(tracking_uri=(tmp_path / "ml").as_uri())
    found: Any = client.get_run(run_id)
    assert (found.info.run_name, found.info.status) == ("r", "KILLED")
    assert found.data.params["settings.lr"] == "0.5"
    assert found.data.tags["neurofed.reason"] == "enough"
    for tag in {number.tag for number in scalars(run)}:
        got = [(e.step, e.value, e.timestamp) for e in client.get_metric_history(run_id, tag)]
        assert got == [(s.step, s.value, int(1000 * s.time_unix_s)) for s in scalars(run) if s.tag == tag]
    assert {file.path for file in client.list_artifacts(run_id)} == {"report.html", "report.json"}


@pytest.mark.parametrize(
    ("option", "module", "extra"),
    [
        ("--tensorboard", "tensorboard", "tensorboard"),
        ("--mlflow", "mlflow", "mlflow"),
        ("--otlp", "opentelemetry", "otel"),
    ],
)
def test_a_missing_extra_is_named(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    done = CliRunner().invoke(export, ["r", "--out", str(log.parents[1]), option, str(tmp_path / "there")])
    assert isinstance(done.exception, ConfigError)
    assert f"pip install 'neurofed[{extra}]'" in str(done.exception)
