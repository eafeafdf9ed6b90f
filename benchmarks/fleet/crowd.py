"""`python -m benchmarks.fleet.crowd HOST:PORT COUNT`: many workers in one process, which send back what they got."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from neurofed.v1 import records_pb2
from worker.fleet_client import FleetClient, Identity
from worker.jobs import RunningTask


def echo(running: RunningTask) -> tuple[records_pb2.Content, Any]:
    """The model of a task as its answer, trained on one example."""
    asked = running.task.content
    content = records_pb2.Content(array_order=asked.array_order, blob=asked.blob)
    for name, manifest in asked.arrays.items():
        content.arrays[name].CopyFrom(manifest)
    content.metrics["metrics"].values["num-examples"].integer = 1
    return content, running.blob


async def _serve(address: str, count: int) -> None:
    names = [f"worker-{number:03d}" for number in range(count)]
    clients = [FleetClient(address, Identity(name, "none", 1, ()), echo) for name in names]
    await asyncio.gather(*(client.serve() for client in clients))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
