"""The list of certificates that no longer count: a text file with one serial number on each line."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from neurofed.errors import CredentialsError

_LOG = logging.getLogger(__name__)
_SERIAL = re.compile(r"[0-9a-f]{1,40}")


class RevocationList:
    """Revoked serial numbers, read again whenever the file changes.

    Args:
        path: the file; while there has been none, nothing is revoked.

    Raises:
        CredentialsError: if the file is there and malformed.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._serials: frozenset[str] = frozenset()
        if state := self._state():
            self._serials, self._seen = read_serials(self._path), state

    def __contains__(self, serial: str) -> bool:
        if (state := self._state()) != self._seen:
            self._seen = state
            self._read_again()
        return serial in self._serials

    def _state(self) -> tuple[int, ...] | None:
        try:
            stat = self._path.stat() if self._path else None
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else None

    def _read_again(self) -> None:
        """Take over the file's new content; one that cannot be read revokes no less than the last that could."""
        try:
            self._serials = read_serials(self._path)
        except CredentialsError as error:
            _LOG.error("%s; the last good list stays in force", error)
        else:
            _LOG.info("%d certificates are revoked", len(self._serials))


def read_serials(path: Path | None) -> frozenset[str]:
    """The serial numbers in a file; what follows a `#` is for people.

    Raises:
        CredentialsError: if the file cannot be read or a line is no serial number.
    """
    try:
        lines = path.read_text().splitlines() if path else []
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"expected a list of revoked certificates in {path}: {error}") from None
    serials = set()
    for number, line in enumerate(lines, 1):
        serial = line.partition("#")[0].strip().lower().replace(":", "").lstrip("0")
        if serial and not _SERIAL.fullmatch(serial):
            raise CredentialsError(f"expected a hexadecimal serial number, got {line!r} in line {number} of {path}")
        serials.add(serial)
    return frozenset(serials - {""})
