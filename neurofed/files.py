"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from neurofed.errors import StorageError
from neurofed.rope import Buffer

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")
"""What `write_atomically` calls a file that is not whole yet."""
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def write_atomically(path: Path, data: bytes | Iterable[Buffer], mode: int = 0o644) -> None:
    """Write `data`, be it in parts, to `path`: a temporary file beside it, synced, renamed, the folder synced.

    A crash at any moment leaves the old file or the new one. At no moment has the file more rights than `mode`.

    Raises:
        StorageError: if the disk does not take it; the old file is still there.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder that outlives a power cut.

    Raises:
        StorageError: if the disk does not take it.
    """
    if not folder.is_dir():
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)


def remove_temporaries(folder: Path) -> None:
    """Remove what crashes in the middle of `write_atomically` have left; nobody else may be writing there."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def storing(path: Path) -> Iterator[None]:
    """Say in our words what the operating system has against writing to `path`.

    Raises:
        StorageError: for any `OSError` within.
    """
    try:
        yield
    except OSError as error:
        remedy = "give this user the right to write there" if error.errno in _FORBIDDEN else "make room, then resume"
        raise StorageError(f"expected the disk to take {path}, got: {error.strerror or error}: {remedy}") from error
