"""The workers the aggregator knows, and what each is doing."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from neurofed.errors import StorageError
from neurofed.framing import CHUNK_BYTES, chunk_ends
from neurofed.rope import Buffer, Rope, rope
from neurofed.v1 import fleet_pb2, monitor_pb2, records_pb2
from neurofed.v1.monitor_pb2 import WorkerEntry, WorkerState
from server.intake import Intake
from server.stream import WorkStream

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a worker may be called."""


def node_id_of(name: str) -> int:
    """Flower's number for a worker: a function of its name, so that it survives restarts of either side."""
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1) | 2


class Parcel:
    """A blob shared by every stream that carries it; its frames are made as they go, the blob stays where it is."""

    def __init__(self, blob: Buffer | Rope) -> None:
        self._blob = rope(blob)
        self.size_bytes = len(self._blob)
        self._ends: dict[int, tuple[bytes, bytes]] = {}

    def frame(self, offset: int) -> bytes:
        """The frame with the chunk that begins at `offset`."""
        if offset not in self._ends:
            self._ends[offset] = chunk_ends(fleet_pb2.WorkResponse, self._blob, offset)
        head, tail = self._ends[offset]
        return b"".join((head, *self._blob.views(offset, offset + CHUNK_BYTES), tail))


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
        fault: why the aggregator itself cannot go on.
    """

    task_id: str
    content: records_pb2.Content | None = None
    blob: Buffer = b""
    bytes_up: int = 0
    error: str = ""
    rejected: bool = False
    lost: bool = False
    fault: StorageError | None = None


@dataclass(slots=True)
class Assignment:
    """A task in the hands of one worker.

    Attributes:
        task: what is asked for.
        parcel: the bytes of its arrays; shared by all workers that get the same model.
        deliver: called once with the outcome, in the event loop's thread.
        bytes_down: serialised frames sent for it that no event has told of yet.
        moved_s: when there was progress last, on the monotonic clock: a part of it or of its result arrived, or a step
            was done.
    """

    task: fleet_pb2.Task
    parcel: Parcel
    deliver: Callable[[Outcome], None]
    bytes_down: int = 0
    moved_s: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Worker:
    """One worker across its connections.

    Attributes:
        intake: what it uploads.
        stream: its open stream; None while there is none.
        assignment: the task it works on.
        lost: True once it was given up; it may still come back.
        draining: True once it was asked to leave.
        facts: its board, as the last heartbeat told.
        told_s: when its progress was last told of.
        patience: ends the grace time of a worker without a stream.
    """

    name: str
    node_id: int
    intake: Intake
    instance: str = ""
    session: str = ""
    chip: str = ""
    cores: int = 0
    version: str = ""
    capabilities: tuple[str, ...] = ()
    stream: WorkStream | None = None
    assignment: Assignment | None = None
    lost: bool = False
    draining: bool = False
    last_seen_s: float = field(default_factory=time.monotonic)
    facts: fleet_pb2.Heartbeat = field(default_factory=fleet_pb2.Heartbeat)
    told_s: float = 0.0
    patience: asyncio.TimerHandle | None = None

    @property
    def connected(self) -> bool:
        """True while its stream is open."""
        return self.stream is not None

    def entry(self) -> WorkerEntry:
        """The worker as `ListWorkers` shows it."""
        state = WorkerState.WORKER_STATE_TRAINING if self.assignment else WorkerState.WORKER_STATE_IDLE
        return WorkerEntry(
            name=self.name,
            state=state if self.connected else WorkerState.WORKER_STATE_LOST,
            chip=self.chip,
            version=self.version,
            heartbeat_age_s=time.monotonic() - self.last_seen_s,
            cpu_s=self.facts.cpu_s,
            rss_bytes=self.facts.rss_bytes,
            temperature_c=self.facts.temperature_c if self.facts.HasField("temperature_c") else None,
            rested_s=self.facts.rested_s,
        )


def joined_event(worker: Worker, *, rejoined: bool) -> monitor_pb2.WorkerJoined:
    """The event that tells of a worker's arrival."""
    return monitor_pb2.WorkerJoined(
        name=worker.name, chip=worker.chip, cores=worker.cores, version=worker.version, rejoined=rejoined
    )
