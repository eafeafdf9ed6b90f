"""`python -m benchmarks.fleet.paced HOST:PORT COUNT STEPS STEP_S`: many workers in one process that work at a pace."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.fleet.crowd import echo
from neurofed.v1 import records_pb2
from worker.fleet_client import FleetClient, Identity
from worker.jobs import RunningTask


def paced(steps: int, step_s: float) -> Callable[[RunningTask], tuple[records_pb2.Content, Any]]:
    """Takes its time for some steps, tells of each, and sends back what it got."""

    def execute(running: RunningTask) -> tuple[records_pb2.Content, Any]:
        for step in range(1, steps + 1):
            time.sleep(step_s)
            running.report(step, steps, {"loss": 1.0 / step})
        return echo(running)

    return execute


async def _serve(address: str, count: int, steps: int, step_s: float) -> None:
    asyncio.get_running_loop().set_default_executor(_threads(count))
    names = [f"worker-{number:03d}" for number in range(count)]
    clients = [FleetClient(address, Identity(name, "none", 1, ()), paced(steps, step_s)) for name in names]
    await asyncio.gather(*(client.serve() for client in clients))


def _threads(count: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(count + 4)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
