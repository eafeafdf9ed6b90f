"""Files that only their owner may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from neurofed.errors import CredentialsError
from neurofed.files import write_atomically

_MAX_BYTES = 1 << 20


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, for its owner alone; one that exists stays as it is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700)


def write_private(path: Path, data: bytes) -> None:
    """Write a file for its owner alone: whole or not at all."""
    make_folder(path.parent)
    write_atomically(path, data, mode=0o600)


def read_file(path: Path, what: str) -> bytes:
    """Read a small file.

    Raises:
        CredentialsError: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise CredentialsError(f"expected {what} in {path}: {error.strerror or error}") from None


def read_secret(path: Path, what: str) -> bytes:
    """Read a file that holds a secret.

    Raises:
        CredentialsError: if it cannot be read, or if others than its owner may.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise CredentialsError(
                    f"expected {what} that only its owner may read, got {path} with mode {mode:04o}: chmod 600 {path}"
                )
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise CredentialsError(f"expected {what} in {path}: {error.strerror or error}") from None
