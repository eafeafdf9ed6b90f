"""A run whose events are written by hand, and what a viewer of the page makes of its messages."""

from __future__ import annotations

import json
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

with warnings.catch_warnings():  # flwr imports typer, which imports names that click has deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from server.run import Run

COMPLETED = m.RunFinished(state=c.RUN_STATE_COMPLETED)


def new_run(folder: Path, name: str = "r", workers: tuple[str, ...] = ("a", "b")) -> Run:
    """A run in the first of two rounds."""
    run = Run(folder / name)
    spec = c.RunSpec(workload="w", preset="small", workers=len(workers), rounds=2, strategy="fedavg", codec="dense")
    run.log.emit(m.RunSubmitted(run_id=name, spec=spec, version="1"))
    run.log.emit(m.RunStarted(first_round=1, model_bytes=40, parameters=10, workers=workers))
    run.log.emit(m.RoundStarted(round=1, workers=workers))
    return run


def messages(data: bytes) -> list[tuple[str, str, Any]]:
    """Messages of Server-Sent Events as (identifier, kind, content)."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


class Viewer:
    """Takes messages as the page does: parts come whole."""

    def __init__(self) -> None:
        self.last = ""
        self.seen: list[int] = []
        self.whole: dict[str, Any] = {}
        self.rounds: dict[str, Any] = {}
        self.ended = False

    async def read(self, frames: AsyncIterator[bytes], count: int | None = None) -> None:
        """Read some frames, or all."""
        async for frame in frames:
            self.take(frame)
            count = None if count is None else count - 1
            if count == 0:
                return

    def take(self, frame: bytes) -> None:
        """Take a frame in."""
        for identifier, kind, content in messages(frame):
            self.last = identifier or self.last
            self.seen += [event["seq"] for event in content.get("events", ())]
            self.ended = kind == "end"
            if kind == "news":
                self.rounds = {} if content.get("whole") else self.rounds
                self.whole = content
                self.rounds |= content["rounds"]
                gone = [n for n in self.rounds if int(n) > content.get("last_round", int(n))]
                for number in gone:
                    del self.rounds[number]
