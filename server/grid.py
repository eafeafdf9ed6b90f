"""Flower's Grid over the fleet service: the door through which a Flower ServerApp reaches the workers."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from neurofed import flower, metrics
from neurofed.errors import DataError, StoppedError
from neurofed.runstate import one_line
from neurofed.v1 import fleet_pb2, monitor_pb2, records_pb2
from server.fleet import FleetService
from server.roster import Assignment, Outcome, Parcel


@dataclass(frozen=True, slots=True)
class _Open:
    """A task without a reply yet.

    Attributes:
        message: what was asked.
        worker: whom.
        assignment: the task in the worker's hands, which knows when there was progress last.
        timeout_s: how long it may take altogether.
        deadline_s: when that is over, on the monotonic clock.
    """

    message: Message
    worker: str
    assignment: Assignment
    timeout_s: float
    deadline_s: float


class FleetGrid(Grid):
    """Sends Flower messages as tasks and yields the replies as they arrive.

    A task has two limits: its message's time to live, or the shorter time that the caller waits, and the time it may go
    without progress. At either it is withdrawn and replied for with an error.

    Args:
        fleet: the workers.
        run_id: the run, part of every task's name.
        run_number: Flower's number of the run.
        stall_timeout_s: how long a task may go without progress; infinity sets no limit.
    """

    def __init__(self, fleet: FleetService, run_id: str, run_number: int, *, stall_timeout_s: float = math.inf) -> None:
        self._fleet, self._run_id, self._run_number = fleet, run_id, run_number
        self._stall_timeout_s = stall_timeout_s
        self.quarantine = fleet.start_run(run_id)
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._open: dict[str, _Open] = {}
        self._replies: dict[str, Message] = {}
        self._alarm_s = math.inf
        """No open task is due earlier: progress only puts that off."""

    def stop(self) -> None:
        """Make whoever waits for replies raise `StoppedError`. Call from any thread."""
        self._outcomes.put(None)

    # -- Flower's interface

    def set_run(self, run: Run) -> None:
        """Not used: the run is given at construction."""

    @property
    def run(self) -> Run:
        """Flower's own record of the run, which this engine does not keep."""
        raise DataError("this grid keeps no Flower run record: use the event log")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a worker."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Numbers of the workers that can be given tasks."""
        return [worker.node_id for worker in self._fleet.workers()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Workers that can be given tasks, with their names."""
        return [NodeInfo(node_id=w.node_id, name=w.name) for w in self._fleet.workers()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send each message to its worker; returns the tasks' names, in the same order."""
        return self._push(messages, math.inf)

    def _push(self, messages: Iterable[Message], timeout_s: float) -> list[str]:
        names = {worker.node_id: worker.name for worker in self._fleet.workers()}
        shared: _Shared = {}
        task_ids = []
        for message in messages:
            node_id = message.metadata.dst_node_id
            name = names.get(node_id, f"node-{node_id}")
            round_number = _round_of(message)
            task_id = f"{self._run_id}/{round_number}/{message.metadata.message_type}/{name}"
            content, parcel = _content_of(message.content, shared)
            task = fleet_pb2.Task(
                task_id=task_id,
                run_id=self._run_id,
                round=round_number,
                kind=message.metadata.message_type,
                content=content,
            )
            message.metadata.__dict__["_message_id"] = task_id
            now_s, limit_s = time.monotonic(), min(timeout_s, message.metadata.ttl)
            assignment = Assignment(task, parcel, self._outcomes.put, moved_s=now_s)
            self._open[task_id] = given = _Open(message, name, assignment, limit_s, now_s + limit_s)
            self._alarm_s = min(self._alarm_s, self._due_s(given))
            self._fleet.assign(node_id, assignment)
            task_ids.append(task_id)
        return task_ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to the named tasks that have arrived."""
        while not self._outcomes.empty():
            self._settle(self._outcomes.get())
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send the messages now; iterate the result to get the replies in the order of their arrival.

        Workers that have not answered after `timeout` seconds are replied for with an error and their tasks withdrawn.
        So are the open tasks if the iteration is ended early, by `close`: then the rest is not needed.
        """
        return self._exchange(set(self._push(messages, math.inf if timeout is None else timeout)))

    # -- beyond Flower's interface

    def receive(self) -> Message | None:
        """Wait for the next reply to any of the messages; None where none is awaited."""
        while not self._replies:
            if not self._open:
                return None
            self._wait()
        return self._replies.pop(next(iter(self._replies)))

    def withdraw(self, task_ids: Iterable[str], reason: str) -> None:
        """Take tasks back; there will be no reply. Those that have ended already are passed over.

        Args:
            task_ids: their names, as `push_messages` returned them.
            reason: one line for people.
        """
        for task_id in sorted(task_ids):
            self._replies.pop(task_id, None)
            if task := self._open.pop(task_id, None):
                self._fleet.cancel(task_id)
                event = monitor_pb2.TaskWithdrawn(worker=task.worker, round=_round_of(task.message), reason=reason)
                self._fleet.emit(event)

    # -- outcomes become replies and events

    def _exchange(self, waiting: set[str]) -> Iterator[Message]:
        try:
            while waiting:
                self._wait()
                for task_id in [i for i in self._replies if i in waiting]:
                    waiting.remove(task_id)
                    yield self._replies.pop(task_id)
        finally:
            self.withdraw(waiting, "not needed any more: the round is complete")

    def _wait(self) -> None:
        """Wait until a task ends; those that are due are given up, unless their results are here already."""
        remaining_s = None if self._alarm_s == math.inf else max(0.0, self._alarm_s - time.monotonic())
        try:
            self._settle(self._outcomes.get(timeout=remaining_s))
        except queue.Empty:
            self._give_up(time.monotonic())

    def _give_up(self, now_s: float) -> None:
        """Withdraw the tasks that are due, and set the alarm for the others."""
        for task_id, task in sorted(self._open.items(), key=lambda item: item[0]):
            if self._due_s(task) <= now_s:
                late = task.deadline_s <= now_s
                slow, stuck = f"no result within {task.timeout_s:g} s", f"no progress for {self._stall_timeout_s:g} s"
                self._fleet.cancel(task_id)
                self._settle(Outcome(task_id, error=slow if late else stuck))
        self._alarm_s = min(map(self._due_s, self._open.values()), default=math.inf)

    def _due_s(self, task: _Open) -> float:
        return min(task.deadline_s, task.assignment.moved_s + self._stall_timeout_s)

    def _settle(self, outcome: Outcome | None) -> None:
        if outcome is None:
            for task_id in list(self._open):
                self._fleet.cancel(task_id)
            self._open.clear()
            raise StoppedError("the run was stopped")
        if outcome.task_id not in self._open:
            return
        if outcome.fault:
            raise outcome.fault
        task = self._open.pop(outcome.task_id)
        message, worker = task.message, task.worker
        round_number = _round_of(message)
        records: RecordDict | None = None
        reason, rejected = outcome.error, outcome.rejected
        if outcome.content is not None:
            try:
                records = flower.unpacked(flower.records_of(outcome.content, outcome.blob))
            except DataError as error:
                reason, rejected = one_line(str(error)), True
                self.quarantine.add(worker, round_number, reason)
        if records is not None:
            self._fleet.emit(_received_event(worker, round_number, outcome.bytes_up, records))
        elif rejected:
            self._fleet.emit(monitor_pb2.ResultRejected(worker=worker, round=round_number, reason=reason))
        elif not outcome.lost:
            self._fleet.emit(monitor_pb2.TaskFailed(worker=worker, round=round_number, reason=reason))
        code = flower.ERROR_NODE_UNAVAILABLE if outcome.lost else flower.ERROR_CLIENT_APP
        self._replies[outcome.task_id] = flower.reply_message(message, records, f"{worker}: {reason}", code)


def _round_of(message: Message) -> int:
    """Flower's strategies put the round into the configuration."""
    for config in flower.config_records(message.content).values():
        if isinstance(number := config.get("server-round"), int):
            return number
    return 0


_Shared = dict[tuple[int, ...], tuple[list[ArrayRecord], records_pb2.Content, Parcel]]
"""What has been serialised, by the identities of the records, which are kept so that the identities stay their own."""


def _content_of(records: RecordDict, shared: _Shared) -> tuple[records_pb2.Content, Parcel]:
    """Header and bytes of a message; arrays that go to several workers are serialised once."""
    arrays = flower.array_records(records)
    key = tuple(map(id, arrays.values()))
    if key not in shared:
        content, blob = flower.content_of(RecordDict(dict(arrays)))
        shared[key] = (list(arrays.values()), content, Parcel(blob))
    _, common, parcel = shared[key]
    content, _ = flower.content_of(RecordDict({k: v for k, v in records.items() if k not in arrays}))
    for name in common.array_order:
        content.arrays[name].CopyFrom(common.arrays[name])
        content.array_order.append(name)
    content.blob.CopyFrom(common.blob)
    return content, parcel


def _received_event(worker: str, round_number: int, bytes_up: int, records: RecordDict) -> monitor_pb2.ResultReceived:
    numbers: dict[str, float | int] = {}
    for record in flower.metric_records(records).values():
        numbers.update({k: v for k, v in record.items() if isinstance(v, int | float)})
    examples = numbers.get(metrics.NUM_EXAMPLES)
    return monitor_pb2.ResultReceived(
        worker=worker,
        round=round_number,
        bytes_up=bytes_up,
        examples=examples if isinstance(examples, int) else 0,
        metrics=numbers,
    )
