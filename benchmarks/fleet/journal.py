"""Follows an event log without reading it again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One event.

    Attributes:
        time_s: when it happened, in Unix time.
        kind: name of its payload.
        body: the payload.
    """

    time_s: float
    kind: str
    body: dict[str, Any]


class Journal:
    """The events of one log, which somebody else writes and need not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._entries: list[Entry] = []

    def entries(self) -> list[Entry]:
        """All events so far. What is not a whole line is none."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._entries.append(_parse(line))
        return self._entries


def _parse(line: bytes) -> Entry:
    fields = json.loads(line)
    kind = next((key for key in fields if key not in ("seq", "time_unix_s")), "")
    return Entry(float(fields.get("time_unix_s", 0)), kind, fields.get(kind, {}))
