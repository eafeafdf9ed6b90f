"""A worker's own numbers, over a real port."""

from __future__ import annotations

import subprocess
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import need_program

from neurofed.errors import AddressInUseError, ConfigError
from neurofed.security.options import Security
from neurofed.tensors import Buffer
from neurofed.v1 import fleet_pb2, records_pb2
from worker.jobs import RunningTask, TaskCancelled
from worker.metrics import WorkerNumbers, serve

REPORTED = {"steps": 4, "train-s": 2.0, "loss": 0.5, "energy-j": 3.0, "energy-j/fp/mac": 3.0, "cycles/fp": 10.0}


def task() -> RunningTask:
    return RunningTask(fleet_pb2.Task(task_id="t"), b"", 1)


def answer(_: RunningTask) -> tuple[records_pb2.Content, Buffer]:
    content = records_pb2.Content()
    for name, value in REPORTED.items():
        entry = content.metrics["metrics"].values[name]
        if isinstance(value, int):
            entry.integer = value
        else:
            entry.number = value
    return content, b""


def withdrawn(_: RunningTask) -> tuple[records_pb2.Content, Buffer]:
    raise TaskCancelled("t")


def broken(_: RunningTask) -> tuple[records_pb2.Content, Buffer]:
    raise ValueError("no memory")


@pytest.fixture(scope="module")
def text() -> str:
    numbers = WorkerNumbers()
    for _ in range(2):
        numbers.observed(answer)(task())
    with pytest.raises(TaskCancelled):
        numbers.observed(withdrawn)(task())
    with pytest.raises(ValueError, match="no memory"):
        numbers.observed(broken)(task())
    url = serve(numbers, "0", Security())
    with urllib.request.urlopen(url) as response:
        found: str = response.read().decode()
    return found


def test_numbers_of_two_tasks_done_one_withdrawn_one_failed(text: str) -> None:
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["neurofed_worker_tasks_total", "done"] == 2
    assert found["neurofed_worker_tasks_total", "withdrawn"] == 1
    assert found["neurofed_worker_tasks_total", "failed"] == 1
    assert found["neurofed_worker_steps_total",] == 8
    assert found["neurofed_worker_train_seconds_total",] == 4.0
    assert found["neurofed_worker_energy_joules_total", "fp", "mac"] == 6.0
    assert found["neurofed_worker_engine_cycles_total", "fp"] == 20.0
    assert found["neurofed_worker_loss",] == 0.5
    assert found["neurofed_worker_busy",] == 0


def test_promtool_finds_nothing_to_complain_of(text: str) -> None:
    need_program("promtool")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_off_the_loopback_interface_tls_is_needed() -> None:
    with pytest.raises(ConfigError, match="TLS"):
        serve(WorkerNumbers(), "0.0.0.0:0", Security())


def test_a_port_that_is_taken() -> None:
    port = serve(WorkerNumbers(), "0", Security()).partition("127.0.0.1:")[2].partition("/")[0]
    with pytest.raises(AddressInUseError, match="--metrics"):
        serve(WorkerNumbers(), port, Security())
