"""The workers the aggregator knows, and what each is doing."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from neurofed.v1 import fleet_pb2, monitor_pb2, records_pb2
from neurofed.v1.monitor_pb2 import WorkerEntry, WorkerState

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a worker may be called."""


def node_id_of(name: str) -> int:
    """Flower's number for a worker: a function of its name, so that it survives restarts of either side."""
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1) | 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        task_id: the task.
        content: the records of the result, or None.
        blob: the bytes of their arrays.
        bytes_up: serialised frames received for it, measured.
        error: why there is no content, in one line.
        rejected: True where a result came and was refused.
        lost: True where the worker is gone.
    """

    task_id: str
    content: records_pb2.Content | None = None
    blob: bytes = b""
    bytes_up: int = 0
    error: str = ""
    rejected: bool = False
    lost: bool = False


@dataclass(slots=True)
class Assignment:
    """A task in the hands of one worker.

    Attributes:
        task: what is asked for.
        chunks: the bytes of its arrays; shared by all workers that get the same model.
        deliver: called once with the outcome, in the event loop's thread.
        round_number: the round it belongs to.
    """

    task: fleet_pb2.Task
    chunks: Sequence[fleet_pb2.Chunk]
    deliver: Callable[[Outcome], None]
    round_number: int


Outgoing = fleet_pb2.WorkResponse | Assignment
"""What waits to be sent to a worker: a frame, or a task with all its chunks."""


@dataclass(slots=True)
class Worker:
    """One worker across its connections.

    Attributes:
        outbox: what waits to be sent on the open stream; None while there is none.
        assignment: the task it works on.
        lost: True once it was given up; it may still come back.
    """

    name: str
    node_id: int
    instance: str
    session: str
    chip: str
    cores: int
    version: str
    outbox: asyncio.Queue[Outgoing] | None = None
    assignment: Assignment | None = None
    lost: bool = False
    last_seen_s: float = field(default_factory=time.monotonic)
    cpu_s: float = 0.0
    rss_bytes: int = 0

    @property
    def connected(self) -> bool:
        """True while its stream is open."""
        return self.outbox is not None

    def entry(self) -> WorkerEntry:
        """The worker as `ListWorkers` shows it."""
        state = WorkerState.WORKER_STATE_TRAINING if self.assignment else WorkerState.WORKER_STATE_IDLE
        return WorkerEntry(
            name=self.name,
            state=state if self.connected else WorkerState.WORKER_STATE_LOST,
            chip=self.chip,
            version=self.version,
            heartbeat_age_s=time.monotonic() - self.last_seen_s,
            cpu_s=self.cpu_s,
            rss_bytes=self.rss_bytes,
        )


def joined_event(worker: Worker, *, rejoined: bool) -> monitor_pb2.WorkerJoined:
    """The event that tells of a worker's arrival."""
    return monitor_pb2.WorkerJoined(
        name=worker.name, chip=worker.chip, cores=worker.cores, version=worker.version, rejoined=rejoined
    )
