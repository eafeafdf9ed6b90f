"""Both ends of the fleet protocol for tests: an aggregator without runs, and a worker that says what it is told to."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
from google.protobuf.message import Message as Payload

import neurofed
from neurofed import protocol, rpc, tensors
from neurofed.framing import CHUNK_BYTES, chunk_at
from neurofed.rope import Checksum
from neurofed.v1 import fleet_pb2, records_pb2
from neurofed.v1.fleet_pb2_grpc import FleetServiceStub
from server.fleet import FleetService
from server.roster import Assignment, Outcome, Parcel

ARRAYS, METRICS = "arrays", "metrics"
PATIENCE_S = 60.0
"""Only a hang is ever as slow as this."""


def content_of(arrays: Mapping[str, tensors.Array], **numbers: float) -> tuple[records_pb2.Content, bytes]:
    """Header and bytes of one array record and one metric record."""
    content, blob = records_pb2.Content(array_order=[ARRAYS]), tensors.pack(arrays)
    content.arrays[ARRAYS].CopyFrom(tensors.manifest_of(arrays))
    for name, number in numbers.items():
        value = content.metrics[METRICS].values[name.replace("_", "-")]
        value.number, value.integer = (number, 0) if isinstance(number, float) else (0.0, number)
    announce(content, blob)
    return content, blob


def announce(content: records_pb2.Content, blob: bytes) -> None:
    """Let a header announce these bytes."""
    content.blob.size_bytes, content.blob.xxh3_128 = len(blob), Checksum(blob).digest()


def model_of(size: int) -> dict[str, tensors.Array]:
    """A model of `size` bytes in one tensor."""
    return {"w": np.arange(size // 4, dtype=np.float32)}


class ScriptedWorker:
    """Speaks the fleet protocol, honestly unless told otherwise, in blocking calls."""

    def __init__(self, address: str, name: str) -> None:
        self.name, self.instance = name, f"instance of {name}"
        self._channel = grpc.insecure_channel(address, options=rpc.OPTIONS)
        self._stub: Any = FleetServiceStub(self._channel)
        self._out: queue.SimpleQueue[fleet_pb2.WorkRequest | None] = queue.SimpleQueue()
        self._call: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def join(self, **changes: Any) -> fleet_pb2.JoinResponse:
        """Join; `changes` are what to say differently."""
        honest = {
            "name": self.name,
            "instance": self.instance,
            "version": neurofed.__version__,
            "oldest_protocol": protocol.OLDEST,
            "newest_protocol": protocol.NEWEST,
            "capabilities": sorted(protocol.CAPABILITIES),
            "chip": "none",
        }
        response: fleet_pb2.JoinResponse = self._stub.Join(
            fleet_pb2.JoinRequest(**{**honest, **changes}), timeout=PATIENCE_S
        )
        return response

    def open(self, session: str | None = None) -> Self:
        """Join and open the stream."""
        session = self.join().session if session is None else session
        self._out = queue.SimpleQueue()
        self._call = self._stub.Work(iter(self._out.get, None))
        self.send(hello=fleet_pb2.Hello(session=session))
        return self

    def cut(self) -> None:
        """Let the connection break."""
        self._out.put(None)
        self._channel.close()

    def send(self, **frame: Any) -> None:
        """Send a frame."""
        self._out.put(fleet_pb2.WorkRequest(**frame))

    def frames(self) -> Iterator[fleet_pb2.WorkResponse]:
        """What comes, until the stream ends."""
        return iter(self._call)

    def receive(self, kind: str) -> Any:
        """The next frame of a kind; others are passed over."""
        for frame in self._call:
            if frame.WhichOneof("frame") == kind:
                return getattr(frame, kind)
        raise AssertionError(f"the stream ended before {kind}")

    def failure(self) -> grpc.RpcError:
        """The error that ends the stream."""
        try:
            for _ in self._call:
                pass
        except grpc.RpcError as error:
            return error
        raise AssertionError("the stream ended without an error")

    def download(self, task: fleet_pb2.Task, have: bytes = b"", until: int | None = None) -> bytes:
        """Receive a task's blob from where it was, or a part of it."""
        blob, size = bytearray(have), task.content.blob.size_bytes
        self.acknowledge(task, len(blob))
        while len(blob) < (size if until is None else until):
            chunk = self.receive("chunk")
            assert chunk.offset == len(blob)
            blob += chunk.data
            self.acknowledge(task, len(blob))
        return bytes(blob)

    def acknowledge(self, task: fleet_pb2.Task, offset: int) -> None:
        """Acknowledge a part of a task's blob, and ask for all the rest."""
        size = task.content.blob.size_bytes
        self.send(received=fleet_pb2.Received(task_id=task.task_id, offset=offset, limit=size))

    def task(self) -> tuple[fleet_pb2.Task, dict[str, tensors.Array]]:
        """The next task, and the model in it."""
        task: fleet_pb2.Task = self.receive("task")
        (manifest,) = task.content.arrays.values()
        return task, tensors.unpack(manifest, self.download(task))

    def offer(self, task_id: str, content: records_pb2.Content) -> None:
        """Announce a result."""
        self.send(result=fleet_pb2.Result(task_id=task_id, content=content))

    def upload(self, blob: bytes, until: int | None = None) -> int:
        """Wait to be asked for the announced blob and send it, or a part of it; returns where it was asked to begin."""
        allowed = self.receive("received")
        asked: int = allowed.offset
        for offset in range(asked, len(blob) if until is None else until, CHUNK_BYTES):
            while allowed.limit <= offset:
                allowed = self.receive("received")
            self.send(chunk=chunk_at(blob, offset))
        return asked

    def answer(self, task: fleet_pb2.Task, arrays: Mapping[str, tensors.Array], **numbers: float) -> fleet_pb2.Verdict:
        """Answer a task honestly; returns the verdict."""
        content, blob = content_of(arrays, **{"num_examples": 1, **numbers})
        self.offer(task.task_id, content)
        if blob:
            self.upload(blob)
        verdict: fleet_pb2.Verdict = self.receive("verdict")
        return verdict


class Aggregator:
    """A fleet service at a real port, in a thread of its own; no runs, tasks are given by hand."""

    def __init__(self, folder: Path | None = None, grace_s: float = 0.3) -> None:
        self.events: list[Payload] = []
        self.outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._folder, self._grace_s = folder, grace_s

    def __enter__(self) -> Self:
        self._thread.start()
        self.address = self.call(self._start).result(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> str:
        self.fleet = FleetService(grace_s=self._grace_s, folder=self._folder)
        self.fleet.emit = self.events.append
        self.fleet.start_run("run")
        self._server = grpc.aio.server(options=rpc.OPTIONS)
        self.fleet.add_to(self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def _stop(self) -> None:
        await self._server.stop(None)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Start an asynchronous function in the event loop."""
        return asyncio.run_coroutine_threadsafe(function(), self._loop)

    def assign(
        self, worker: str, model: Mapping[str, tensors.Array], number: int = 1, parcel: Parcel | None = None
    ) -> fleet_pb2.Task:
        """Give a worker the task of a round."""
        content, blob = content_of(model)
        task = fleet_pb2.Task(
            task_id=f"run/{number}/train/{worker}", run_id="run", round=number, kind="train", content=content
        )
        (known,) = [w for w in self.fleet.roster() if w.name == worker]
        self.fleet.assign(known.node_id, Assignment(task, parcel or Parcel(blob), self.outcomes.put))
        return task

    def outcome(self) -> Outcome:
        """The next outcome."""
        return self.outcomes.get(timeout=PATIENCE_S)

    def of(self, kind: type[Payload]) -> list[Any]:
        """The events of a kind so far."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    def wait_for(self, kind: type[Payload]) -> Any:
        """The first event of a kind, as soon as it is there."""
        return self.wait_until(lambda: next(iter(self.of(kind)), None))

    def wait_until(self, found: Callable[[], Any]) -> Any:
        """Poll until something is there."""
        for _ in range(int(PATIENCE_S / 0.01)):
            if result := found():
                return result
            threading.Event().wait(0.01)
        raise AssertionError("waited in vain")
