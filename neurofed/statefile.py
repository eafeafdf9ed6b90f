"""Tensors and facts in one file that is whole or not there: checkpoints and workers' states are made of these.

It is a safetensors file. Its header holds the facts as JSON and a digest of facts and tensors, so that a flipped byte,
a missing tensor or a cut is seen. No pickle: a state file may come from anywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
from safetensors.numpy import save

from neurofed.errors import DataError
from neurofed.files import write_atomically

Array = npt.NDArray[Any]


def write(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write a state file; one that is there is replaced as a whole.

    Args:
        path: the file.
        arrays: tensors by name.
        facts: whatever JSON can say.

    Raises:
        StorageError: if the disk does not take it; the old file is still there.
    """
    rows = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(facts, sort_keys=True)
    write_atomically(path, save(rows, metadata={"facts": text, "sha256": _digest(text, rows)}))


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors and facts of a state file.

    Raises:
        DataError: if the file is not there, or is not what was written.
    """
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if _digest(header["facts"], arrays) != header["sha256"]:
            raise ValueError("the contents do not have the digest in the header")
        return arrays, json.loads(header["facts"])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path.name}: expected a whole state file, got: {error}") from error


def _digest(facts: str, arrays: Mapping[str, Array]) -> str:
    """SHA-256 of everything a state file says, in hexadecimal."""
    sha = hashlib.sha256(facts.encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"\n{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).data if array.size else b"")
    return sha.hexdigest()
