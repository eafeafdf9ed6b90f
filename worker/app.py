"""The worker process: a Flower ClientApp on an emulated core group, served to one aggregator."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from neurofed import rpc
from neurofed.security.options import Security
from neurofed.tracing.live import trace_work
from worker import board, memory
from worker.client_app import executor
from worker.cooling import Cooling
from worker.fleet_client import FleetClient, Identity
from worker.jobs import Execute
from worker.state import default_folder
from worker.trainer import load_chip
from workloads import registry


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker is started.

    Attributes:
        address: `HOST:PORT` of the aggregator.
        name: the worker's name in the federation.
        chip: the chip it emulates, where a run does not name one.
        threads: threads that torch may use.
        state_dir: where it keeps what must outlive a restart; None is the user's state folder.
        give_up_after_s: how long to try to reach an aggregator; None tries for ever.
        parent_pid: end when this process is no longer the parent; 0 does not care.
        security: the files to show and to trust by.
        metrics: `HOST:PORT` of its numbers for Prometheus; None serves none.
        max_temperature_c: training rests while the board is hotter, in degrees Celsius; None never rests.
        memory_limit_mib: the most data that the process may hold, in MiB; None sets no limit.
    """

    address: str
    name: str
    chip: str
    threads: int = 1
    state_dir: Path | None = None
    give_up_after_s: float | None = None
    parent_pid: int = 0
    security: Security = field(default_factory=Security)
    metrics: str | None = None
    max_temperature_c: float | None = None
    memory_limit_mib: int | None = None


def main(options: WorkerOptions) -> None:
    """Run the worker until it is drained or told to end.

    Raises:
        NeuroFedError: if it cannot join.
    """
    credentials = options.security.credentials(rpc.split_address(options.address)[0])
    import torch

    torch.set_num_threads(options.threads)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    chip = load_chip(options.chip)
    identity = Identity(options.name, chip.name, chip.cores.count, tuple(registry.available()))
    cooling = Cooling(options.max_temperature_c)
    execute: Execute = trace_work(
        executor(options.chip, options.state_dir or default_folder(options.name), cooling.rest), options.name
    )
    if options.memory_limit_mib is not None:
        memory.bound(options.memory_limit_mib)
        execute = memory.told(execute, options.memory_limit_mib)
    if options.metrics is not None:
        from worker.metrics import WorkerNumbers, serve

        numbers = WorkerNumbers()
        execute = numbers.observed(execute)
        serve(numbers, options.metrics, options.security)
    client = FleetClient(
        options.address,
        identity,
        execute,
        credentials=credentials,
        give_up_after_s=options.give_up_after_s,
        still_wanted=lambda: not options.parent_pid or os.getppid() == options.parent_pid,
        heartbeat=lambda: board.heartbeat(rested_s=cooling.rested_s),
    )
    asyncio.run(_until_signalled(client))


async def _until_signalled(client: FleetClient) -> None:
    serving = asyncio.ensure_future(client.serve())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        logging.getLogger(__name__).info("stopping")
