"""The aggregator's ports: TLS and the guard at the main one, and the one where workers enrol."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import grpc

from neurofed import rpc
from neurofed.errors import ConfigError
from neurofed.security.options import REVOKED_FILE, Security
from neurofed.v1.enrol_pb2_grpc import add_EnrolServiceServicer_to_server

_LOG = logging.getLogger(__name__)


class Access:
    """Who gets in, and where.

    Args:
        listen: `HOST:PORT` of the main port; port 0 takes any free one.
        security: the files to show and to trust by; without any, the port speaks plain text and guards nothing.
        revoked: the list of revoked certificates; None takes the one in the folder of the other files.

    Raises:
        AddressInUseError: if the port is taken.
        ConfigError: if plain text would leave this machine.
        CredentialsError: if a file cannot be used.
    """

    def __init__(self, listen: str, security: Security, revoked: Path | None = None) -> None:
        self._host, self._port = rpc.split_address(listen)
        self._credentials = security.credentials(self._host)
        self._tasks: set[asyncio.Task[None]] = set()
        self._enrolment: grpc.aio.Server | None = None
        self.interceptors: list[grpc.aio.ServerInterceptor] = []
        if self._credentials:
            from neurofed.security.guard import Guard
            from neurofed.security.revocation import RevocationList

            guard = Guard(RevocationList(revoked or (security.folder and security.folder / REVOKED_FILE)))
            self.interceptors.append(guard)
            self._tasks.add(asyncio.get_running_loop().create_task(guard.watch()))
        rpc.require_free(self._host, self._port)

    def open(self, server: grpc.aio.Server) -> str:
        """Let a server listen at the main port; returns its address."""
        target = rpc.join_address(self._host, self._port)
        if self._credentials:
            self._port = server.add_secure_port(target, self._credentials.for_server())
        else:
            self._port = server.add_insecure_port(target)
        return rpc.join_address(self._host, self._port)

    async def enrol(self, folder: Path, listen: str | None) -> None:
        """Let workers that have no certificate yet enrol, at a port where nothing else answers.

        Args:
            folder: the authority.
            listen: `HOST:PORT`; None takes the port after the main one.

        Raises:
            AddressInUseError: if the port is taken.
            ConfigError: if the aggregator has no certificate to show.
            CredentialsError: if the authority cannot be used.
        """
        if self._credentials is None:
            raise ConfigError("expected --tls-dir beside --enrol-dir: a join token is sent over TLS only")
        from neurofed.security.pki import CaFolder
        from server.enrol import LIMITS, MAX_CALLS, EnrolService

        host, port = rpc.split_address(listen or rpc.join_address(self._host, self._port + 1))
        rpc.require_free(host, port)
        server = grpc.aio.server(options=LIMITS, maximum_concurrent_rpcs=MAX_CALLS)
        add_EnrolServiceServicer_to_server(EnrolService(CaFolder(folder)), server)
        port = server.add_secure_port(rpc.join_address(host, port), self._credentials.for_strangers())
        await server.start()
        self._enrolment = server
        _LOG.info("enrolling workers at %s", rpc.join_address(host, port))

    async def close(self) -> None:
        """Enrol nobody any more."""
        for task in self._tasks:
            task.cancel()
        if self._enrolment:
            await self._enrolment.stop(None)
