"""An aggregator for tests of what watches one: its real services at a real port, with runs that the test plays."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from neurofed import rpc, spec
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m
from neurofed.v1.control_pb2_grpc import add_ControlServiceServicer_to_server
from neurofed.v1.monitor_pb2_grpc import add_MonitorServiceServicer_to_server
from server.fleet import FleetService

with warnings.catch_warnings():  # flwr imports typer, which imports names that click has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from server.control import ControlService, MonitorService
    from server.runs import RunManager

PATIENCE_S = 60.0
"""Only a hang is ever as slow as this."""
FIELDS = {f.message_type.name: f.name for f in m.Event.DESCRIPTOR.oneofs_by_name["payload"].fields if f.message_type}


def numbered(*payloads: Message) -> list[m.Event]:
    """Events as a log would number them, a second apart."""
    return [
        m.Event(seq=seq, time_unix_s=1.7e9 + seq, **{FIELDS[type(p).__name__]: p})
        for seq, p in enumerate(payloads, start=1)
    ]


def a_spec(workers: int = 2, rounds: int = 3) -> c.RunSpec:
    """A run that the registry knows."""
    run = spec.default_spec()
    run.preset, run.workers, run.rounds = "tiny", workers, rounds
    return run


def a_round(number: int, workers: list[str], *, accuracy: float = 0.5) -> list[Message]:
    """A round as it goes when nothing goes wrong: 1 kB up and 2 kB down, 2 J and 10 examples a worker."""
    numbers = {"loss": 1.0, "spike-rate": 0.125, "energy-j": 2.0, "train-s": 4.0}
    return [
        m.RoundStarted(round=number, workers=workers),
        *(m.TaskSent(worker=w, round=number, kind="train", bytes_down=2000) for w in workers),
        *(m.TaskProgress(worker=w, round=number, step=s, steps=4) for s in (1, 4) for w in workers),
        *(m.ResultReceived(worker=w, round=number, bytes_up=1000, examples=10, metrics=numbers) for w in workers),
        m.RoundAggregated(round=number, updates=len(workers)),
        m.ModelEvaluated(round=number, metrics={"accuracy": accuracy, "loss": 1 / number}, wall_s=1.5),
        m.CheckpointWritten(round=number, file=f"round-{number}"),
    ]


def wait_until(holds: Callable[[], Any], what: str = "it") -> Any:
    """Poll until something holds; returns it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


class Stage:
    """An aggregator that trains nothing; events are emitted by the test. It may be taken down and put up again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def address(self) -> str:
        """HOST:PORT, the same after each start."""
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def up(self) -> None:
        """Begin to answer."""
        self._call(self._start())

    def down(self) -> None:
        """Be gone at once, in the middle of whatever is asked."""
        self._call(self._server.stop(None))
        self.runs.close(stop=False)

    def submit(self, run_id: str, run_spec: c.RunSpec | None = None) -> None:
        """Queue a run."""
        self.runs.submit(run_spec or a_spec(), run_id)

    def play(self, run_id: str, *payloads: Message) -> None:
        """Let things happen in a run."""
        for payload in payloads:
            self.runs.get(run_id).log.emit(payload)

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    async def _start(self) -> None:
        fleet = FleetService()
        self.runs = RunManager(self._folder, fleet)
        self.runs.recover()
        self._server = grpc.aio.server(options=rpc.OPTIONS)
        add_ControlServiceServicer_to_server(ControlService(self.runs, fleet), self._server)
        add_MonitorServiceServicer_to_server(MonitorService(self.runs, fleet), self._server)
        self._port = self._server.add_insecure_port(self.address)
        await self._server.start()
