"""A link between worker and aggregator that can be slowed and cut: a TCP proxy on the loopback interface."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

Direction = Literal["up", "down"]

_BLOCK_BYTES = 1 << 16
_BLOCKS_IN_FLIGHT = 64
"""What a slow link holds before it stops reading: 4 MiB."""


@dataclass(slots=True)
class _Flow:
    """One direction of the link, over all its connections.

    Attributes:
        passed: bytes forwarded.
        cut_at: the value of `passed` at which the link is cut; None never.
    """

    passed: int = 0
    cut_at: int | None = None

    def admit(self, data: bytes) -> bytes:
        """What of `data` still gets through; counts it."""
        if self.cut_at is not None:
            data = data[: self.cut_at - self.passed]
        self.passed += len(data)
        return data

    @property
    def is_due(self) -> bool:
        """True where the link is to be cut now."""
        return self.cut_at is not None and self.passed >= self.cut_at


@dataclass(slots=True)
class _Connection:
    """Both ends of one connection, and the tasks that forward between them."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def abort(self) -> None:
        """Break it; what has not left yet is lost, as in a real cut."""
        for end in self.ends:
            end.transport.abort()
        for pump in self.pumps:
            pump.cancel()


class Link:
    """Forwards every connection to `upstream`. Runs in a thread of its own; all methods may be called from any other.

    Args:
        upstream: `HOST:PORT` of the aggregator; nobody needs to listen there yet.
        delay_s: how much later each byte arrives, in either direction.
        bytes_per_s: the most that passes in each direction; None is unlimited.
    """

    def __init__(self, upstream: str, *, delay_s: float = 0.0, bytes_per_s: float | None = None) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self.delay_s, self.bytes_per_s = delay_s, bytes_per_s
        self.address = ""
        self.cuts = 0
        self._open = True
        self._up, self._down = _Flow(), _Flow()
        self._connections: list[_Connection] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Link:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def bytes_up(self) -> int:
        """Bytes forwarded from the worker to the aggregator so far."""
        return self._up.passed

    @property
    def bytes_down(self) -> int:
        """Bytes forwarded from the aggregator to the worker so far."""
        return self._down.passed

    def cut(self) -> None:
        """Break every connection now; new ones are accepted."""
        self._call(self._cut)

    def cut_after(self, direction: Direction, count: int) -> None:
        """Break every connection as soon as `count` more bytes have passed in a direction; once."""

        def arm() -> None:
            flow = self._up if direction == "up" else self._down
            flow.cut_at = flow.passed + count

        self._call(arm)

    def set_open(self, is_open: bool) -> None:
        """Take the link down (connections break, new ones too) or up again."""

        def turn() -> None:
            self._open = is_open
            if not is_open:
                self._cut()

        self._call(turn)

    # -- in the link's thread

    def _call(self, action: Callable[[], None]) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _cut(self) -> None:
        self.cuts += 1
        self._up.cut_at = self._down.cut_at = None
        for connection in self._connections:
            connection.abort()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_BLOCK_BYTES)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        self._cut()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5.0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not self._open:
                raise ConnectionError("the link is down")
            far_reader, far_writer = await asyncio.open_connection(*self._upstream, limit=_BLOCK_BYTES)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((writer, far_writer))
        connection.pumps = [
            asyncio.create_task(self._pump(reader, far_writer, self._up)),
            asyncio.create_task(self._pump(far_reader, writer, self._down)),
        ]
        self._connections.append(connection)
        await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
        self._connections.remove(connection)
        connection.abort()
        await asyncio.gather(*connection.pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flow: _Flow) -> None:
        """Forward one direction of one connection until it ends."""
        flying: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_BLOCKS_IN_FLIGHT)
        landing = asyncio.create_task(self._land(flying, writer, flow))
        try:
            while data := await reader.read(_BLOCK_BYTES):
                await flying.put((self._loop.time() + self.delay_s, data))
            await flying.put((0.0, b""))
            await landing
        finally:
            landing.cancel()

    async def _land(
        self, flying: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, flow: _Flow
    ) -> None:
        free_s = 0.0
        while True:
            due_s, data = await flying.get()
            if not data:
                return
            free_s = max(free_s, due_s)
            if (wait_s := free_s - self._loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if self.bytes_per_s:
                free_s += len(data) / self.bytes_per_s
            writer.write(flow.admit(data))
            await writer.drain()
            if flow.is_due:
                self._cut()
                return
