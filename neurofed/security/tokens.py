"""One-time join tokens: the file that a worker is given, and the aggregator's store, which holds only hashes."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from neurofed.errors import CredentialsError, TokenError
from neurofed.security.private import read_secret, write_private


@dataclass(frozen=True, slots=True)
class Token:
    """A join token as a worker's file holds it.

    Attributes:
        name: the worker it is for.
        secret: what proves it.
        expires: ISO 8601 time until which it counts.
        ca: PEM of the authority that vouches for the aggregator, so that not even the first call trusts a stranger.
    """

    name: str
    secret: str
    expires: str
    ca: str

    def write(self, path: Path) -> None:
        """Write the file that the worker is given."""
        write_private(path, json.dumps(asdict(self), indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> Token:
        """Read a worker's token file.

        Raises:
            CredentialsError: if it is missing, malformed, or readable by others.
        """
        try:
            fields = json.loads(read_secret(path, "a join token"))
            token = cls(**fields)
        except (ValueError, TypeError):
            token = None
        if token is None or not all(isinstance(value, str) for value in asdict(token).values()):
            raise CredentialsError(f"expected a file that `neurofed provision token` made, got {path}")
        return token


class TokenStore:
    """The tokens that an aggregator waits for, one file each, named by the hash of the secret.

    Args:
        folder: where the files are; a token is valid from the moment its file is there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self, name: str, lifetime: timedelta, ca: str) -> Token:
        """Make a token."""
        expires = (datetime.now(UTC) + lifetime).isoformat(timespec="seconds")
        token = Token(name, secrets.token_urlsafe(32), expires, ca)
        self._write(self._path(token.secret), {"name": name, "expires": expires, "used_by": ""})
        return token

    def redeem(self, secret: str, name: str, key: str) -> None:
        """Use a token, for one key and for good.

        Args:
            secret: the token's secret.
            name: whom it is used for.
            key: fingerprint of the public key it is used with.

        Raises:
            TokenError: if it does not count.
        """
        path = self._path(secret)
        try:
            entry: dict[str, str] = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise TokenError("expected a join token of this aggregator, got an unknown one") from None
        if entry["name"] != name:
            raise TokenError(f"expected a request for {entry['name']!r}, whom the join token is for, got {name!r}")
        if entry["used_by"] not in ("", key):
            raise TokenError("expected an unused join token, got one that was used already: make another")
        if datetime.now(UTC) > datetime.fromisoformat(entry["expires"]):
            raise TokenError(f"expected a join token that counts, got one that expired at {entry['expires']}")
        if not entry["used_by"]:
            self._write(path, {**entry, "used_by": key})

    def _path(self, secret: str) -> Path:
        return self._folder / f"{hashlib.sha256(secret.encode()).hexdigest()}.json"

    @staticmethod
    def _write(path: Path, entry: dict[str, str]) -> None:
        write_private(path, json.dumps(entry).encode())
