"""The report: the numbers of a run, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf.message import Message

from neurofed.errors import StorageError
from neurofed.folding import fold_all
from neurofed.report import render_html, report_data, write_report
from neurofed.report.data import PROVENANCE, headline
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

FIELDS = {f.message_type.name: f.name for f in m.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}


def folded(*payloads: Message) -> m.Snapshot:
    return fold_all(
        m.Event(seq=i, time_unix_s=1.7e9 + i, **{FIELDS[type(p).__name__]: p}) for i, p in enumerate(payloads, 1)
    )


def bill(scale: float) -> dict[str, float]:
    return {
        "loss": scale,
        "energy-j": 3 * scale,
        "energy-j/fp/mac": scale,
        "energy-j/wg/dram": 2 * scale,
        "dram-bytes": 100 * scale,
        "dram-bytes/weights": 60 * scale,
        "dram-bytes/spikes": 40 * scale,
        "cycles": 1000 * scale,
        "cycles/fp": 600 * scale,
        "chip-s": 4 * scale,
        "link-bytes-per-s": 5.0,
        "link-pj-per-bit": 1000.0,
        "ops-dense/fp": 80 * scale,
        "ops-executed/fp": 8 * scale,
        "spike-rate": 0.1,
    }


def result(worker: str, number: int, scale: float) -> m.ResultReceived:
    return m.ResultReceived(worker=worker, round=number, bytes_up=5, examples=10, metrics=bill(scale))


def a_round(number: int, accuracy: float) -> list[Message]:
    return [
        m.RoundStarted(round=number, workers=["a", "b"]),
        m.TaskSent(worker="a", round=number, kind="train", bytes_down=20),
        m.TaskSent(worker="b", round=number, kind="train", bytes_down=20),
        result("a", number, 1.0),
        result("b", number, 2.0),
        m.RoundAggregated(
            round=number,
            updates=2,
            model_sha256=f"{number:064x}",
            train_metrics={"loss": 1.5, "spike-rate": 0.1, "spike-rate/conv1": 0.2, "gradient-density/conv1": 0.4},
        ),
        m.ModelEvaluated(round=number, metrics={"accuracy": accuracy, "loss": 0.5}, wall_s=2.0),
    ]


@pytest.fixture
def snapshot() -> m.Snapshot:
    spec = c.RunSpec(
        workload="digits",
        preset="quick",
        workers=2,
        rounds=2,
        seed=7,
        chip="core20",
        codec="int8",
        strategy="fedavg",
        settings={"keep": "true", "word": "not json", "huge": "1e999", "nan": "NaN"},
    )
    return folded(
        m.RunSubmitted(run_id="r1", spec=spec, version="0.1", commit="abc"),
        m.WorkerJoined(name="a", chip="core20", cores=20),
        m.WorkerJoined(name="b", chip="core4", cores=4),
        m.RunStarted(first_round=1, model_bytes=40, parameters=10, workers=["a", "b"]),
        m.ModelEvaluated(round=0, metrics={"accuracy": 0.1, "loss": 2.3}),
        *a_round(1, 0.5),
        *a_round(2, 0.75),
        m.RunFinished(state=c.RUN_STATE_COMPLETED),
    )


def test_what_was_run(snapshot: m.Snapshot) -> None:
    report = report_data(snapshot)
    assert {k: report[k] for k in ("run_id", "version", "commit", "workload", "preset", "seed", "workers")} == {
        "run_id": "r1",
        "version": "0.1",
        "commit": "abc",
        "workload": "digits",
        "preset": "quick",
        "seed": 7,
        "workers": 2,
    }
    assert (report["strategy"], report["codec"], report["chips"]) == ("fedavg", "int8", ["core20", "core4"])
    assert (report["state"], report["events"]) == ("completed", snapshot.seq)
    assert report["settings"] == {"huge": "1e999", "keep": True, "nan": "NaN", "word": "not json"}
    assert report["initial"] == {"accuracy": 0.1, "loss": 2.3, "metrics": {"accuracy": 0.1, "loss": 2.3}}


def test_a_round_sums_its_workers_but_takes_the_slowest_ones_cycles(snapshot: m.Snapshot) -> None:
    row = report_data(snapshot)["rounds"][0]
    assert (row["round"], row["accuracy"], row["loss"], row["train_loss"]) == (1, 0.5, 0.5, 1.5)
    assert (row["bytes_up"], row["bytes_down"], row["examples"], row["updates"]) == (10, 40, 20, 2)
    assert (row["energy_j"], row["dram_bytes"], row["cycles"], row["wall_s"]) == (9.0, 300.0, 2000.0, 2.0)
    assert (row["spike_rates"], row["model_sha256"]) == ({"conv1": 0.2}, f"{1:064x}")
    worker = row["workers"][1]
    assert {k: v for k, v in worker.items() if k not in {"metrics", "step", "steps", "reason"}} == {
        "name": "b",
        "state": "done",
        "examples": 10,
        "loss": 2.0,
        "spike_rate": 0.1,
        "bytes_up": 5,
        "bytes_down": 20,
        "energy_j": 6.0,
        "dram_bytes": 200.0,
        "cycles": 2000.0,
        "chip_s": 8.0,
        "link_s": 5.0,
        "link_j": pytest.approx(2e-7),  # 200 bits at 1000 pJ
        "emulated_s": 13.0,
    }
    assert worker["metrics"] == bill(2.0)


def test_a_round_waits_for_its_straggler(snapshot: m.Snapshot) -> None:
    report = report_data(snapshot)
    assert [(row["emulated_s"], row["straggler"]) for row in report["rounds"]] == [(13.0, "b"), (13.0, "b")]
    assert report["final"]["emulated_s"] == 26.0
    assert report["final"]["link_j"] == pytest.approx(8e-7)
    assert [w["emulated_s"] for w in report["final"]["workers"]] == [18.0, 26.0]


def test_the_run_sums_its_rounds(snapshot: m.Snapshot) -> None:
    final = report_data(snapshot)["final"]
    assert (final["rounds"], final["accuracy"], final["loss"]) == (2, 0.75, 0.5)
    assert (final["bytes_up"], final["bytes_down"], final["examples"], final["updates"]) == (20, 80, 40, 4)
    assert (final["energy_j"], final["dram_bytes"], final["cycles"], final["wall_s"]) == (18.0, 600.0, 4000.0, 4.0)
    assert final["energy_by_part"] == {"fp": {"mac": 6.0}, "wg": {"dram": 12.0}}
    assert final["dram_by_class"] == {"spikes": 240.0, "weights": 360.0}
    assert final["cycles_by_engine"] == {"fp": 3600.0}
    assert final["ops"] == {"dense": {"fp": 480.0}, "executed": {"fp": 48.0}}
    assert (final["spike_rates"], final["gradient_densities"]) == ({"conv1": 0.2}, {"conv1": 0.4})
    assert [(w["name"], w["energy_j"], w["cycles"]) for w in final["workers"]] == [
        ("a", 6.0, 2000.0),
        ("b", 12.0, 4000.0),
    ]


def test_the_parts_of_the_bill_add_up_to_it(snapshot: m.Snapshot) -> None:
    final = report_data(snapshot)["final"]
    assert sum(sum(parts.values()) for parts in final["energy_by_part"].values()) == pytest.approx(final["energy_j"])
    assert sum(final["dram_by_class"].values()) == pytest.approx(final["dram_bytes"])
    assert sum(worker["energy_j"] for worker in final["workers"]) == pytest.approx(final["energy_j"])


def test_what_nobody_reported_is_none_and_not_zero() -> None:
    untraced = m.ResultReceived(worker="a", round=1, bytes_up=5, metrics={"loss": float("nan")})
    report = report_data(folded(m.RoundStarted(round=1, workers=["a"]), untraced))
    row = report["rounds"][0]
    assert [row[k] for k in ("energy_j", "dram_bytes", "cycles", "wall_s", "accuracy", "loss")] == [None] * 6
    assert report["final"]["energy_j"] is None
    assert row["workers"][0]["loss"] is None


def test_every_figure_has_a_provenance(snapshot: m.Snapshot) -> None:
    report = report_data(snapshot)
    assert set(PROVENANCE.values()) == {"measured", "counted", "modelled"}
    figures = {"rounds", "workers", "straggler", "model_sha256", "round", "name", "state", "reason", "step", "steps"}
    for row in (report["final"], report["rounds"][0], report["rounds"][0]["workers"][0]):
        assert row.keys() - figures <= PROVENANCE.keys()
    assert {PROVENANCE[k] for k in ("energy_j", "dram_bytes", "cycles")} == {"modelled"}
    assert {PROVENANCE[k] for k in ("bytes_up", "bytes_down", "accuracy", "loss", "spike_rate")} == {"measured"}


@pytest.mark.parametrize(
    ("metrics", "name"),
    [
        ({}, "accuracy"),
        ({"loss": 1}, "accuracy"),
        ({"psnr": 30, "loss": 1}, "psnr"),
        ({"accuracy": 1, "a": 2}, "accuracy"),
    ],
)
def test_the_headline_is_accuracy_or_what_stands_in_its_place(metrics: dict[str, float], name: str) -> None:
    assert headline(folded(m.ModelEvaluated(round=0, metrics=metrics))) == name


def test_an_empty_run_has_a_report() -> None:
    report = report_data(m.Snapshot())
    assert report["rounds"] == []
    assert "</html>" in render_html(report)


def test_both_files_are_written_and_agree(snapshot: m.Snapshot, tmp_path: Path) -> None:
    page = write_report(tmp_path, snapshot)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report == report_data(snapshot)
    assert page == tmp_path / "report.html"
    assert page.read_text(encoding="utf-8") == render_html(report)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_writing_again_replaces(snapshot: m.Snapshot, tmp_path: Path) -> None:
    write_report(tmp_path, m.Snapshot())
    write_report(tmp_path, snapshot)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["run_id"] == "r1"


def test_a_failed_write_keeps_the_old_report(
    snapshot: m.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    write_report(tmp_path, m.Snapshot(run_id="old"))
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space"):
        write_report(tmp_path, snapshot)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["run_id"] == "old"
    assert len(list(tmp_path.iterdir())) == 2
