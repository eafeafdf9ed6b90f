"""The least that a round can be: a gRPC stream to each worker, the model down in chunks and up again, nothing else."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from benchmarks.fleet import probe
from benchmarks.fleet.processes import Child, free_port
from neurofed import rpc

_METHOD = "/bare/Work"
_CHUNK_BYTES = 1 << 20
_END = b""
_PATIENCE_S = 120.0


class BareFleet:
    """A server in a thread of this process and its workers as processes; leaving it as a context manager ends all.

    Args:
        folder: for logs.
        workers: how many workers.
        model_bytes: what goes down to each and up again in a round.
        environment: the processes' environment.
    """

    def __init__(self, folder: Path, workers: int, model_bytes: int, environment: Mapping[str, str]) -> None:
        self._folder, self._count, self._environment = folder, workers, environment
        whole, rest = divmod(model_bytes, _CHUNK_BYTES)
        self._chunks = [bytes(_CHUNK_BYTES)] * whole + ([bytes(rest)] if rest else [])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bare", daemon=True)
        self._streams: list[Any] = []
        self._children: list[Child] = []

    def __enter__(self) -> BareFleet:
        self._thread.start()
        address = f"127.0.0.1:{free_port()}"
        self._call(self._start(address))
        log = self._folder / "bare.log"
        self._children = [Child((__spec__.name, address), log, self._environment) for _ in range(self._count)]
        deadline = time.monotonic() + _PATIENCE_S
        while len(self._streams) < self._count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"expected {self._count} workers, got {len(self._streams)}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()
        self._call(self._server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def round(self) -> tuple[float, float]:
        """One round; returns the time it took, and the processor time of both sides."""
        pids = [os.getpid(), *(child.pid for child in self._children)]
        cpu_s, began_s = sum(map(probe.cpu_s, pids)), time.perf_counter()
        self._call(self._round())
        return time.perf_counter() - began_s, sum(map(probe.cpu_s, pids)) - cpu_s

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE_S)

    async def _start(self, address: str) -> None:
        self._server = grpc.aio.server(options=rpc.OPTIONS)
        service, _, method = _METHOD.strip("/").partition("/")
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            method: grpc.stream_stream_rpc_method_handler(self._serve)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self._server.add_insecure_port(address)
        await self._server.start()

    async def _serve(self, _: object, context: Any) -> None:
        self._streams.append(context)
        await asyncio.Event().wait()

    async def _round(self) -> None:
        await asyncio.gather(*(self._exchange(context) for context in self._streams))

    async def _exchange(self, context: Any) -> None:
        for chunk in self._chunks:
            await context.write(chunk)
        await context.write(_END)
        while await context.read() != _END:
            pass


async def _work(address: str) -> None:
    """A worker: whatever comes goes back when its end has come."""
    async with grpc.aio.insecure_channel(address, options=rpc.OPTIONS) as channel:
        call: Any = channel.stream_stream(_METHOD)()
        model: list[bytes] = []
        while (chunk := await call.read()) is not grpc.aio.EOF:
            model.append(chunk)
            if chunk == _END:
                for part in model:
                    await call.write(part)
                model = []


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1]))
