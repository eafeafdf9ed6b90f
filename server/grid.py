"""Flower's Grid over the fleet service: the door through which a Flower ServerApp reaches the workers."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Iterator

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


class FleetGrid(Grid):
    """Sends Flower messages as tasks and yields the replies as they arrive.

    Args:
        fleet: the workers.
        run_id: the run, part of every task's name.
        run_number: Flower's number of the run.
    """

    def __init__(self, fleet: FleetService, run_id: str, run_number: int) -> None:
        self._fleet, self._run_id, self._run_number = fleet, run_id, run_number
        self.quarantine = fleet.start_run(run_id)
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._open: dict[str, tuple[Message, str]] = {}
        self._replies: dict[str, Message] = {}

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
        """Send each message to its worker; returns the tasks' names."""
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
            self._open[task_id] = (message, name)
            self._fleet.assign(node_id, Assignment(task, parcel, self._outcomes.put))
            task_ids.append(task_id)
        return task_ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to the named tasks that have arrived."""
        while not self._outcomes.empty():
            self._settle(self._outcomes.get())
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send the messages now; iterate the result to get the replies in the order of their arrival.

        Workers that have not answered after `timeout` seconds are replied for with an error and their tasks cancelled.
        """
        return self._receive(set(self.push_messages(messages)), timeout)

    # -- outcomes become replies and events

    def _receive(self, waiting: set[str], timeout: float | None) -> Iterator[Message]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while waiting:
            try:
                remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
                self._settle(self._outcomes.get(timeout=remaining))
            except queue.Empty:
                for task_id in sorted(waiting):
                    self._fleet.cancel(task_id)
                    self._settle(Outcome(task_id, error=f"no result within {timeout:g} s"))
            for task_id in [i for i in waiting if i in self._replies]:
                waiting.remove(task_id)
                yield self._replies.pop(task_id)

    def _settle(self, outcome: Outcome | None) -> None:
        if outcome is None:
            for task_id in list(self._open):
                self._fleet.cancel(task_id)
            self._open.clear()
            raise StoppedError("the run was stopped")
        if outcome.task_id not in self._open:
            return
        message, worker = self._open.pop(outcome.task_id)
        round_number = _round_of(message)
        records: RecordDict | None = None
        reason, rejected = outcome.error, outcome.rejected
        if outcome.content is not None:
            try:
                records = flower.records_of(outcome.content, outcome.blob)
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
    for config in message.content.config_records.values():
        if isinstance(number := config.get("server-round"), int):
            return number
    return 0


_Shared = dict[int, tuple[ArrayRecord, records_pb2.Content, Parcel]]
"""What has been serialised, by the identity of the record, which is kept so that the identity stays its own."""


def _content_of(records: RecordDict, shared: _Shared) -> tuple[records_pb2.Content, Parcel]:
    """Header and bytes of a message; a model that goes to several workers is serialised once."""
    arrays = list(records.array_records.items())
    if len(arrays) != 1:
        content, blob = flower.content_of(records)
        return content, Parcel(blob)
    (name, record) = arrays[0]
    if id(record) not in shared:
        content, blob = flower.content_of(RecordDict({name: record}))
        shared[id(record)] = (record, content, Parcel(blob))
    _, model, parcel = shared[id(record)]
    rest = RecordDict({k: v for k, v in records.items() if k != name})
    content, _ = flower.content_of(rest)
    content.arrays[name].CopyFrom(model.arrays[name])
    content.array_order.append(name)
    content.blob.CopyFrom(model.blob)
    return content, parcel


def _received_event(worker: str, round_number: int, bytes_up: int, records: RecordDict) -> monitor_pb2.ResultReceived:
    numbers: dict[str, float | int] = {}
    for record in records.metric_records.values():
        numbers.update({k: v for k, v in record.items() if isinstance(v, int | float)})
    examples = numbers.get(metrics.NUM_EXAMPLES)
    return monitor_pb2.ResultReceived(
        worker=worker,
        round=round_number,
        bytes_up=bytes_up,
        examples=examples if isinstance(examples, int) else 0,
        metrics=numbers,
    )
