"""`python -m benchmarks.fleet.viewers HOST:PORT RUN COUNT SECONDS FILE`: viewers of the page.

One never reads, and every second one is cut off again and again and comes back. Writes to FILE, as JSON, for each event
that a viewer read how long after it had happened that was, in seconds; how many events were lost or came twice; how
often viewers came back; and the processor time that all of them took.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from neurofed.files import write_atomically

_STAY_S: Final = 3.0
"""How long those stay that are cut off."""


@dataclass
class Viewer:
    """One viewer and what it has noticed."""

    address: str
    run_id: str
    place: str = ""
    last: int = 0
    wrong: int = 0
    returns: int = 0
    late_s: list[float] = field(default_factory=list)

    async def watch(self, *, reads: bool, restless: bool) -> None:
        """Watch until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STAY_S if restless else None):
                    await self._connection(reads=reads)
            self.returns += 1

    async def _connection(self, *, reads: bool) -> None:
        host, _, port = self.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
        place = f"Last-Event-ID: {self.place}\r\n" if self.place else ""
        request = f"GET /api/runs/{self.run_id}/events HTTP/1.1\r\nHost: {self.address}\r\n{place}\r\n"
        writer.write(request.encode())
        identifier = ""
        try:
            if not reads:
                reader._transport.pause_reading()  # type: ignore[attr-defined]  # as a page on a frozen phone
                await asyncio.Event().wait()
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    identifier = line[4:].strip().decode()
                elif line.startswith(b"data: "):
                    self._take(json.loads(line[6:]))
                    self.place = identifier or self.place
        finally:
            writer.transport.abort()

    def _take(self, message: dict[str, Any]) -> None:
        now_s = time.time()
        for event in () if message.get("whole") else message.get("events", ()):
            self.wrong += event["seq"] != (self.last or event["seq"] - 1) + 1
            self.last = event["seq"]
            self.late_s.append(now_s - event["time_unix_s"])
        self.last = message.get("seq", self.last)


async def _watch(address: str, run_id: str, count: int, seconds: float) -> dict[str, Any]:
    viewers = [Viewer(address, run_id) for _ in range(count)]
    tasks = [
        asyncio.create_task(viewer.watch(reads=bool(number), restless=bool(number % 2)))
        for number, viewer in enumerate(viewers)
    ]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return {
        "late_s": [late_s for viewer in viewers for late_s in viewer.late_s],
        "wrong": sum(viewer.wrong for viewer in viewers),
        "returns": sum(viewer.returns for viewer in viewers),
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    found = asyncio.run(_watch(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    write_atomically(Path(sys.argv[5]), json.dumps(found).encode())
