"""The page's port: HTTP or HTTPS in the aggregator's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn

from neurofed import rpc
from neurofed.errors import ConfigError
from neurofed.security.options import Security, is_loopback
from server.fleet import FleetService
from server.runs import RunManager
from server.watch import STALL_S
from server.web.app import build
from server.web.feeds import Feeds
from server.web.gate import Gate, read_tokens

_LOG = logging.getLogger(__name__)
_BACKLOG: Final = 128
_GRACE_S: Final = 1
_MAX_CONNECTIONS: Final = 1024


class _Server(uvicorn.Server):
    """Leaves signals to the aggregator."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class WebServer:
    """Serves the page.

    Args:
        listen: `HOST:PORT`, or a port of the loopback interface; port 0 takes any free one.
        security: the certificate to show; without one, plain HTTP.
        token_file: who may see and do what; None lets everybody on this machine do everything.

    Raises:
        AddressInUseError: if the port is taken.
        ConfigError: if others could reach the page unasked, or plain text would leave this machine.
        CredentialsError: if a file cannot be used.
    """

    def __init__(self, listen: str, security: Security, token_file: Path | None) -> None:
        self._host, port = rpc.split_address(f"127.0.0.1:{listen}" if listen.isdecimal() else listen)
        credentials = security.credentials(self._host)
        if token_file is None and not is_loopback(self._host):
            raise ConfigError(
                f"expected --http-token-file beside --http {listen}, which others can reach, got none: write a file "
                "with a line `operator TOKEN`, mode 600"
            )
        self._tokens = read_tokens(token_file) if token_file else {}
        self._files = credentials.files if credentials else None
        rpc.require_free(self._host, port, "--http")
        self._socket = _listen(self._host, port)
        self._task: asyncio.Task[None] | None = None
        self._feeds: Feeds | None = None

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        address = rpc.join_address(self._host, self._socket.getsockname()[1])
        return f"{'https' if self._files else 'http'}://{address}/"

    def start(self, runs: RunManager, fleet: FleetService, folder: Path) -> None:
        """Serve from now on. Call in the event loop.

        Args:
            runs: the runs.
            fleet: the workers.
            folder: of the runs.
        """
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._feeds = Feeds(runs, fleet)
        gate = Gate(build(runs, fleet, self._feeds, folder), self._tokens, frozenset({self._host, "localhost"}))
        config = uvicorn.Config(
            gate,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
            ssl_certfile=self._files[0] if self._files else None,
            ssl_keyfile=self._files[1] if self._files else None,
        )
        self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(self._server.serve([self._socket]))
        _LOG.info("the page is at %s", self.url)

    async def close(self) -> None:
        """End all connections."""
        if self._task is None or self._feeds is None:
            self._socket.close()
            return
        self._feeds.close()
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=_GRACE_S + 2)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket whose connections the kernel ends when nothing they are sent is taken for too long."""
    family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL_S * 1000))
    listening.bind(target)
    listening.listen(_BACKLOG)
    return listening
