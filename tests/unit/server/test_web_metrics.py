"""The aggregator's numbers for Prometheus, of a run that is added up by hand."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import need_program
from support_web import COMPLETED, new_run

from neurofed.exposition import MAX_LABELS
from neurofed.v1 import monitor_pb2 as m
from server.fleet import FleetService
from server.runs import RunManager
from server.web.feeds import Feeds
from server.web.metrics import exposition

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def result(worker: str, round_number: int, up: int, **numbers: float) -> m.ResultReceived:
    metrics = {name.replace("__", "/").replace("_", "-"): value for name, value in numbers.items()}
    return m.ResultReceived(worker=worker, round=round_number, bytes_up=up, examples=1, metrics=metrics)


def scrape(folder: Path) -> str:
    """The numbers of the runs in a folder, without workers."""

    async def scenario() -> str:
        fleet = FleetService()
        runs = RunManager(folder, fleet)
        feeds = Feeds(runs, fleet)
        feed = await feeds.get(feeds.active()) if feeds.active() else None
        body, media_type = exposition(feed, feeds, folder, "")
        assert media_type.startswith("text/plain")
        feeds.close()
        await asyncio.to_thread(runs.close, stop=False)
        return body.decode()

    return asyncio.run(scenario())


def parsed(text: str) -> Samples:
    return {
        (sample.name.removeprefix("neurofed_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def text(tmp_path: Path) -> str:
    run = new_run(tmp_path)
    evil = {f"energy-j/{engine}/x{i}": 1.0 for i in range(200) for engine in ("aa", "bp", "fp")}
    evil |= {'energy-j/fp/"}\n# evil 1': 1.0}
    for event in (
        m.ModelEvaluated(round=0, metrics={"accuracy": 0.1, "loss": 2.0}),
        m.TaskSent(worker="a", round=1, kind="train", bytes_down=50),
        result("a", 1, 40, energy_j=3.0, energy_j__fp__mac=1.0, energy_j__bp__dram=2.0, dram_bytes__spikes=8.0),
        result("b", 1, 60, energy_j=5.0, energy_j__fp__mac=4.0, cycles__fp=7.0, ops_dense__fp=10.0),
        m.RoundAggregated(round=1, updates=2, train_metrics={"spike-rate": 0.25, "spike-rate/conv": 0.5, "loss": 1.5}),
        m.ModelEvaluated(round=1, metrics={"accuracy": 0.6, "loss": 1.0}, wall_s=20.0),
        m.CheckpointWritten(round=1),
        m.RoundStarted(round=2, workers=["a"]),
        m.TaskProgress(worker="a", round=2, step=1, steps=4),
        m.WorkerQuarantined(name="b", round=2, reason="lied"),
        m.ResultReceived(worker="a", round=2, bytes_up=5, metrics=evil),
    ):
        run.log.emit(event)
    run.log.close()
    return scrape(tmp_path)


def test_numbers_added_up_by_hand(text: str) -> None:
    found = parsed(text)

    def value(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert value("energy_joules_total", engine="fp", component="mac", source="modelled") == 5.0
    assert value("energy_joules_total", engine="bp", component="dram", source="modelled") == 2.0
    assert value("dram_bytes_total", tensor_class="spikes") == 8.0
    assert value("engine_cycles_total", engine="fp") == 7.0
    assert value("operations_total", engine="fp", kind="dense") == 10.0
    assert value("update_bytes_total", direction="up") == 105.0
    assert value("update_bytes_total", direction="down") == 50.0
    assert value("worker_update_bytes_total", worker="a", direction="up") == 45.0
    assert (value("rounds_total"), value("round"), value("rounds_planned")) == (1, 2, 2)
    assert (value("checkpoint_round"), value("updates_total")) == (1, 2)
    assert (value("accuracy_ratio"), value("initial_accuracy_ratio"), value("loss")) == (0.6, 0.1, 1.0)
    assert (value("train_loss"), value("spike_rate_ratio")) == (1.5, 0.25)
    assert value("layer_spike_rate_ratio", layer="conv") == 0.5
    assert value("round_duration_seconds_bucket", le="15") == 0
    assert value("round_duration_seconds_bucket", le="60") == 1
    assert (value("round_duration_seconds_sum"), value("round_duration_seconds_count")) == (20, 1)
    assert (value("worker_quarantined", worker="b"), value("worker_quarantined", worker="a")) == (1, 0)
    assert (value("run_state", state="running"), value("run_state", state="failed")) == (1, 0)


def test_what_workers_say_makes_no_more_series_than_allowed(text: str) -> None:
    energy = [labels for name, labels in parsed(text) if name == "energy_joules_total"]
    assert len(energy) == MAX_LABELS
    assert {dict(labels)["engine"] for labels in energy} == {"bp", "fp"}
    assert "evil" not in text


def test_a_run_is_named_in_one_series_only(text: str) -> None:
    assert [name for name, labels in parsed(text) if ("run_id", "r") in labels] == ["run_info"]


def test_without_runs_there_are_the_numbers_of_the_process(tmp_path: Path) -> None:
    found = parsed(scrape(tmp_path))
    assert found["disk_free_bytes", ()] > 0
    assert ("round", ()) not in found


def test_the_newest_run_is_shown_where_none_is_trained(tmp_path: Path) -> None:
    for name in ("r", "s"):
        run = new_run(tmp_path, name)
        run.log.emit(COMPLETED)
        run.log.close()
    labels = [dict(labels) for name, labels in parsed(scrape(tmp_path)) if name == "run_info"]
    assert [found["run_id"] for found in labels] == ["s"]


def test_promtool_finds_nothing_to_complain_of(text: str) -> None:
    need_program("promtool")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_reference_lists_what_is_served(text: str) -> None:
    reference = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "monitoring.md").read_text()
    served = {family.name for family in text_string_to_metric_families(text) if family.name.startswith("neurofed")}
    section = reference.partition("## Numbers of the aggregator")[2].partition("\n## ")[0]
    listed = {name.removesuffix("_total") for name in re.findall(r"^\| `(neurofed_\w+)", section, re.MULTILINE)}
    boards = {name for name in listed if name.startswith("neurofed_worker_")}  # no worker is connected here
    assert served <= listed
    assert listed - served <= boards
