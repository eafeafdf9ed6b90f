"""The aggregator process: everything is put together here, and taken down in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from neurofed import rpc
from neurofed.errors import ConfigError
from neurofed.files import write_atomically
from neurofed.security.options import Security
from neurofed.v1.control_pb2_grpc import add_ControlServiceServicer_to_server
from neurofed.v1.monitor_pb2_grpc import add_MonitorServiceServicer_to_server
from server.access import Access
from server.control import ControlService, MonitorService
from server.fleet import FleetService
from server.runs import RunManager

if TYPE_CHECKING:
    from server.web.serve import WebServer

_LOG = logging.getLogger(__name__)
_GRACE_S = 5.0
_M_ARENA_MAX, _M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -8, -3, -1
"""Of malloc.h."""
_LARGE_BYTES, _SPARE_BYTES = 4 << 20, 4 << 20
SERVICES = ("", "neurofed.v1.FleetService", "neurofed.v1.ControlService", "neurofed.v1.MonitorService")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How the aggregator is started.

    Attributes:
        listen: `HOST:PORT` to listen on; port 0 takes any free one.
        out: folder of the runs.
        resume: unfinished runs are taken up again; a name takes up that run whatever its state.
        address_file: where the address is written once it answers.
        torch_threads: threads for evaluating the global model.
        grace_s: how long a worker whose stream broke may stay away.
        reflection: whether strangers to the protocol can ask what is spoken here.
        parent_pid: end when this process is no longer the parent; 0 does not care.
        security: the files to show and to trust by.
        tls_revoked: the list of revoked certificates; None takes the one beside the certificate, if there is one.
        enrol_dir: the authority that signs the keys of workers which bring a join token; None enrols nobody.
        enrol_listen: `HOST:PORT` to enrol at; None takes the port after that of `listen`.
        http: `HOST:PORT` of the page; None serves none.
        http_token_file: who may see and do what there; None lets everybody on this machine do everything.
    """

    listen: str
    out: Path
    resume: str | None = None
    address_file: Path | None = None
    torch_threads: int = 2
    grace_s: float = 5.0
    reflection: bool = False
    parent_pid: int = 0
    security: Security = field(default_factory=Security)
    tls_revoked: Path | None = None
    enrol_dir: Path | None = None
    enrol_listen: str | None = None
    http: str | None = None
    http_token_file: Path | None = None


async def serve(options: ServerOptions) -> None:
    """Run the aggregator until SIGTERM or SIGINT.

    Raises:
        AddressInUseError: if a port is taken.
        ConfigError: if plain text would leave this machine.
        RunNotFoundError: if there is nothing to resume.
        SecurityError: if a key or certificate cannot be used.
    """
    access = Access(options.listen, options.security, options.tls_revoked)
    web = _web(options)
    _use_one_heap()
    _set_threads(options.torch_threads)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    fleet = FleetService(grace_s=options.grace_s, folder=options.out)
    runs = RunManager(options.out, fleet)
    if not options.parent_pid:  # who starts an aggregator for one run wants that run and no other
        runs.recover()
    if options.resume is not None:
        runs.resume(options.resume)
    server, health = await _server(fleet, runs, access.interceptors)
    if options.reflection:
        reflection.enable_server_reflection((*SERVICES[1:], reflection.SERVICE_NAME), server)
    address = access.open(server)
    if options.enrol_dir:
        await access.enrol(options.enrol_dir, options.enrol_listen)
    await server.start()
    runs.start()
    if web:
        web.start(runs, fleet, options.out)
    if options.address_file:
        write_atomically(options.address_file, "\n".join((address, *((web.url,) if web else ()))).encode())
    _LOG.info("aggregator listening on %s, runs in %s", address, os.path.abspath(options.out))  # noqa: PTH100
    await _ended(stopped, options.parent_pid)
    _LOG.info("stopping")
    await health.enter_graceful_shutdown()
    launched = bool(options.parent_pid)
    await asyncio.to_thread(runs.close, stop=launched)
    if launched:  # else the workers wait for the next aggregator, which goes on with the runs
        fleet.drain("the aggregator is stopping")
        await asyncio.sleep(0.2)
    if web:
        await web.close()
    await server.stop(_GRACE_S)
    await access.close()


def _web(options: ServerOptions) -> WebServer | None:
    if options.http is None:
        if options.http_token_file:
            raise ConfigError("expected --http HOST:PORT beside --http-token-file, got none")
        return None
    from server.web.serve import WebServer

    return WebServer(options.http, options.security, options.http_token_file)


async def _server(
    fleet: FleetService, runs: RunManager, interceptors: Sequence[grpc.aio.ServerInterceptor]
) -> tuple[grpc.aio.Server, health_aio.HealthServicer]:
    server = grpc.aio.server(interceptors=interceptors, options=rpc.OPTIONS)
    fleet.add_to(server)
    add_ControlServiceServicer_to_server(ControlService(runs, fleet), server)
    add_MonitorServiceServicer_to_server(MonitorService(runs, fleet), server)
    health = health_aio.HealthServicer()
    for name in SERVICES:
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    return server, health


async def _ended(stopped: asyncio.Event, parent_pid: int) -> None:
    """Wait for a signal, or for the parent to be gone."""
    while not stopped.is_set() and (not parent_pid or os.getppid() == parent_pid):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), 1.0)


def _use_one_heap() -> None:
    """Have glibc keep less memory that nobody uses: one heap for all threads, models outside of it.

    By default it has a heap for each thread, and once a large block was freed it takes others as large from the heap,
    which shrinks at its end only.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such settings
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _SPARE_BYTES)  # else each chunk of a blob takes new pages from the kernel


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def main(options: ServerOptions) -> None:
    """Run the aggregator to its end."""
    logging.getLogger("flwr").setLevel(logging.WARNING)
    asyncio.run(serve(options))
