"""The grid over the fleet: limits of tasks, withdrawal, and replies one by one."""

import math

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from support_fleet import Aggregator, ScriptedWorker, content_of, model_of

from neurofed import flower
from neurofed.errors import StoppedError, StorageError
from neurofed.v1 import fleet_pb2, monitor_pb2
from server import grid as grid_module
from server.grid import FleetGrid
from server.quarantine import Quarantine
from server.roster import Outcome

MODEL = ArrayRecord({"w": Array(np.ones(2, np.float32))})


class Clock:
    """Time as the test wishes."""

    now_s = 1000.0

    def monotonic(self):
        return self.now_s


class Known:
    def __init__(self, name):
        self.name, self.node_id = name, 10 + ord(name)


class Fleet:
    """Takes tasks and lets the test say how they end."""

    def __init__(self, names):
        self._workers = [Known(name) for name in names]
        self.events, self.cancelled, self.tasks = [], [], {}
        self.emit = self.events.append

    def start_run(self, run_id):
        return Quarantine(run_id, self.emit)

    def workers(self):
        return self._workers

    def assign(self, node_id, assignment):
        self.tasks[chr(node_id - 10)] = assignment

    def cancel(self, task_id):
        self.cancelled.append(task_id)

    def answer(self, name):
        assignment = self.tasks[name]
        content, blob = content_of(model_of(8), num_examples=1)
        assignment.deliver(Outcome(assignment.task.task_id, content, blob))

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(grid_module, "time", clock)
    return clock


def _grid(fleet, **how):
    flower.set_identity(1, flower.SERVER_NODE_ID)
    return FleetGrid(fleet, "run", 1, **how)


def _messages(fleet, number=1, ttl=None):
    return [
        Message(
            RecordDict({"arrays": MODEL, "config": ConfigRecord({"server-round": number})}),
            worker.node_id,
            MessageType.TRAIN,
            group_id=str(number),
            ttl=ttl,
        )
        for worker in fleet.workers()
    ]


def _at(fleet, moved_s):
    """Let each worker's task have moved last at a time."""
    for name, when_s in moved_s.items():
        fleet.tasks[name].moved_s = when_s


def test_a_task_without_progress_is_given_up_and_a_slow_one_is_not(clock):
    fleet = Fleet("ab")
    grid = _grid(fleet, stall_timeout_s=30)
    replies = grid.send_and_receive(_messages(fleet), timeout=600)
    _at(fleet, {"a": 1000.0, "b": 1000.0})
    clock.now_s = 1020.0
    _at(fleet, {"b": 1020.0})
    clock.now_s = 1031.0
    assert next(replies).has_error()
    (failed,) = fleet.of(monitor_pb2.TaskFailed)
    assert (failed.worker, failed.reason) == ("a", "no progress for 30 s")
    assert fleet.cancelled == ["run/1/train/a"]
    clock.now_s = 1049.0
    fleet.answer("b")
    assert not next(replies).has_error()
    assert list(replies) == []


def test_a_task_that_moves_and_moves_ends_at_the_rounds_limit(clock):
    fleet = Fleet("a")
    grid = _grid(fleet, stall_timeout_s=30)
    replies = grid.send_and_receive(_messages(fleet), timeout=600)
    clock.now_s = 1600.0
    _at(fleet, {"a": 1599.0})
    assert next(replies).has_error()
    assert fleet.of(monitor_pb2.TaskFailed)[0].reason == "no result within 600 s"


def test_without_a_stall_limit_only_the_rounds_counts(clock):
    fleet = Fleet("a")
    replies = _grid(fleet, stall_timeout_s=math.inf).send_and_receive(_messages(fleet), timeout=600)
    _at(fleet, {"a": 1000.0})
    clock.now_s = 1599.0
    fleet.answer("a")
    assert not next(replies).has_error()


def test_a_result_that_came_in_time_counts_however_late_it_is_looked_at(clock):
    fleet = Fleet("ab")
    replies = _grid(fleet, stall_timeout_s=30).send_and_receive(_messages(fleet), timeout=600)
    fleet.answer("a")
    clock.now_s = 5000.0
    assert [reply.has_error() for reply in replies] == [False, True]


def test_each_message_has_its_own_time_to_live(clock):
    fleet = Fleet("a")
    grid = _grid(fleet)
    grid.push_messages(_messages(fleet, ttl=50))
    clock.now_s = 1051.0
    assert grid.receive().has_error()
    assert fleet.of(monitor_pb2.TaskFailed)[0].reason == "no result within 50 s"
    assert grid.receive() is None, "nothing is awaited any more"


def test_ending_the_iteration_withdraws_the_rest():
    fleet = Fleet("abc")
    replies = _grid(fleet).send_and_receive(_messages(fleet), timeout=600)
    fleet.answer("b")
    assert next(replies).metadata.src_node_id == 10 + ord("b")
    replies.close()
    assert fleet.cancelled == ["run/1/train/a", "run/1/train/c"]
    withdrawn = fleet.of(monitor_pb2.TaskWithdrawn)
    assert [(event.worker, event.round) for event in withdrawn] == [("a", 1), ("c", 1)]
    assert fleet.of(monitor_pb2.TaskFailed) == []


def test_a_result_that_crosses_the_withdrawal_is_passed_over():
    fleet = Fleet("ab")
    grid = _grid(fleet)
    names = list(grid.push_messages(_messages(fleet)))
    assert names == ["run/1/train/a", "run/1/train/b"]
    grid.withdraw([names[0], "run/0/train/none"], "not needed")
    fleet.answer("a")
    fleet.answer("b")
    assert grid.receive().metadata.reply_to_message_id == names[1]
    assert grid.receive() is None
    assert [event.worker for event in fleet.of(monitor_pb2.ResultReceived)] == ["b"]


def test_replies_of_several_rounds_come_one_by_one():
    fleet = Fleet("a")
    grid = _grid(fleet)
    grid.push_messages(_messages(fleet, 1))
    fleet.answer("a")
    grid.push_messages(_messages(fleet, 2))
    fleet.answer("a")
    assert [grid.receive().metadata.group_id for _ in range(2)] == ["1", "2"]


def test_a_stopped_run_waits_for_nobody():
    fleet = Fleet("ab")
    grid = _grid(fleet)
    grid.push_messages(_messages(fleet))
    grid.stop()
    with pytest.raises(StoppedError):
        grid.receive()
    assert sorted(fleet.cancelled) == ["run/1/train/a", "run/1/train/b"]
    assert grid.receive() is None


def test_an_aggregator_that_cannot_go_on_says_why():
    fleet = Fleet("ab")
    grid = _grid(fleet)
    replies = grid.send_and_receive(_messages(fleet))
    assignment = fleet.tasks["b"]
    assignment.deliver(Outcome(assignment.task.task_id, error="no room", fault=StorageError("the disk is full")))
    with pytest.raises(StorageError, match="the disk is full"):
        list(replies)
    assert sorted(fleet.cancelled) == ["run/1/train/a", "run/1/train/b"]


def test_progress_counts_as_a_sign_and_a_heartbeat_does_not():
    with Aggregator() as aggregator, ScriptedWorker(aggregator.address, "w") as worker:
        worker.open()
        aggregator.wait_for(monitor_pb2.WorkerJoined)
        aggregator.assign("w", model_of(8))
        task, model = worker.task()
        aggregator.wait_for(monitor_pb2.TaskSent)
        (known,) = aggregator.fleet.roster()
        before_s = known.assignment.moved_s
        worker.send(heartbeat=fleet_pb2.Heartbeat(cpu_s=7.0))
        aggregator.wait_until(lambda: known.facts.cpu_s == 7.0)
        assert known.assignment.moved_s == before_s
        worker.send(progress=fleet_pb2.Progress(task_id=task.task_id, step=1, steps=2))
        aggregator.wait_for(monitor_pb2.TaskProgress)
        assert known.assignment.moved_s > before_s
        worker.answer(task, model)


def test_arrays_that_go_to_several_workers_are_serialised_once():
    fleet, control = Fleet("abc"), ArrayRecord({"w": Array(np.full(2, 3, np.float32))})
    grid, messages = _grid(fleet), _messages(fleet)
    for message in messages[:2]:
        message.content["control"] = control
    grid.push_messages(messages)
    a, b, c = (fleet.tasks[name] for name in "abc")
    assert a.parcel is b.parcel is not c.parcel
    assert a.task.content == b.task.content
    assert list(a.task.content.array_order) == ["arrays", "control"]
    blob = np.array([1, 1, 3, 3], np.float32).tobytes()
    records = flower.records_of(a.task.content, blob)
    assert {name: flower.to_numpy(record)["w"].tolist() for name, record in flower.array_records(records).items()} == {
        "arrays": [1, 1],
        "control": [3, 3],
    }
    assert a.task.content.blob.size_bytes == 16
    assert a.task.content.blob.xxh3_128 != c.task.content.blob.xxh3_128
