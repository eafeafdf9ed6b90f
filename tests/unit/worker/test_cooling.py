"""When a board is too hot: a hand-made /sys/class/thermal, and no real waiting."""

import logging

import pytest
from flwr.app import ConfigRecord, RecordDict

from neurofed import flower, spec
from neurofed.v1 import fleet_pb2
from worker import board
from worker.client_app import executor
from worker.cooling import LOOK_S, Cooling
from worker.jobs import RunningTask, TaskCancelled
from workloads import registry
from workloads.parameters import state_arrays


class Board:
    """A board that has the given temperatures, one after each wait."""

    def __init__(self, folder, *temperatures_c):
        self.zone = folder / "thermal_zone0" / "temp"
        self.zone.parent.mkdir()
        self.folder, self._coming, self.waits = folder, list(temperatures_c), []
        self.go_on()

    def go_on(self, seconds=0.0):
        self.zone.write_text(f"{round(self._coming.pop(0) * 1000)}\n")
        if seconds:
            self.waits.append(seconds)

    def cooling(self, limit_c):
        return Cooling(limit_c, self.folder, self.go_on)


def test_a_hot_board_rests_until_it_is_well_below_the_limit(tmp_path):
    board_ = Board(tmp_path, 80.5, 80.0, 76.0, 75.0, 79.9)
    cooling = board_.cooling(80.0)
    cooling.rest()
    assert board_.waits == [LOOK_S] * 3, "80.0 and 76.0 are not yet 5 °C below 80"
    assert cooling.rested_s == 3 * LOOK_S
    board_.go_on()
    cooling.rest()
    assert cooling.rested_s == 3 * LOOK_S, "79.9 is not above the limit"
    assert board.heartbeat(tmp_path, rested_s=cooling.rested_s).rested_s == 3 * LOOK_S


def test_without_a_limit_nothing_rests(tmp_path):
    board_ = Board(tmp_path, 120.0)
    board_.cooling(None).rest()
    assert board_.waits == []


def test_a_limit_on_a_board_without_a_thermometer_has_no_effect_and_that_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        cooling = Cooling(80.0, tmp_path, lambda _: pytest.fail("rested"))
    assert "no zone" in caplog.text
    cooling.rest()
    assert cooling.rested_s == 0


def test_a_thermometer_that_fails_while_the_board_rests_ends_the_rest(tmp_path):
    board_ = Board(tmp_path, 90.0)
    Cooling(80.0, tmp_path, lambda _: board_.zone.write_text("")).rest()


def test_a_task_that_is_withdrawn_is_not_rested_for(tmp_path):
    board_ = Board(tmp_path, 90.0, 90.0, 90.0)
    answers = iter([True, False])
    board_.cooling(80.0).rest(lambda: next(answers))
    assert board_.waits == [LOOK_S]


@pytest.fixture
def running():
    run = spec.default_spec()
    run.preset, run.trace = "tiny", False
    workload = registry.load(run.workload)
    model = workload.prepare(workload.settings("tiny", {}), 0).build_model()
    config = {**spec.to_run_config(run), "server-round": 1, "partition-id": 0, "num-partitions": 5}
    content, blob = flower.content_of(
        RecordDict({"arrays": flower.to_record(state_arrays(model)), "config": ConfigRecord(config)})
    )
    return RunningTask(fleet_pb2.Task(task_id="t", round=1, kind="train", content=content), bytes(blob), 7)


def test_training_may_rest_after_each_step_as_long_as_the_task_is_wanted(tmp_path, running):
    asked = []
    executor("core20_28nm", tmp_path, lambda wanted: asked.append(wanted()))(running)
    assert asked == [True] * 12, "a step each: two passes in batches of 8"


def test_a_task_withdrawn_while_it_rests_ends_at_its_next_step(tmp_path, running):
    def withdraw(wanted):
        running.cancelled = True
        assert not wanted()

    with pytest.raises(TaskCancelled):
        executor("core20_28nm", tmp_path, withdraw)(running)
    assert running.progress.step == 1
