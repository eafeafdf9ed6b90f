"""`python -m benchmarks.fleet.viewers HOST:PORT RUN COUNT SECONDS FILE`: viewers of the page, one of which never reads.

Writes to FILE, as JSON, for each event that a viewer read how long after it had happened that was, in seconds, and how
many events were lost or came twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from neurofed.files import write_atomically


async def view(address: str, run_id: str, late_s: list[float], *, reads: bool) -> int:
    """Watch until cancelled; returns how many events were lost or came twice."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    writer.write(f"GET /api/runs/{run_id}/events HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    last, wrong = 0, 0
    try:
        if not reads:
            reader._transport.pause_reading()  # type: ignore[attr-defined]  # as a page on a frozen phone
            await asyncio.Event().wait()
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            now_s, message = time.time(), json.loads(line[6:])
            for event in () if message.get("whole") else message.get("events", ()):
                wrong += event["seq"] != (last or event["seq"] - 1) + 1
                last = event["seq"]
                late_s.append(now_s - event["time_unix_s"])
            last = message.get("seq", last)
    except asyncio.CancelledError:
        pass
    finally:
        writer.transport.abort()
    return wrong


async def _watch(address: str, run_id: str, count: int, seconds: float) -> dict[str, Any]:
    late_s: list[float] = []
    tasks = [asyncio.create_task(view(address, run_id, late_s, reads=bool(number))) for number in range(count)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    wrong = 0
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            wrong += await task
    return {"late_s": late_s, "wrong": wrong}


if __name__ == "__main__":
    found = asyncio.run(_watch(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    write_atomically(Path(sys.argv[5]), json.dumps(found).encode())
