"""Tensors and facts in one file that is whole or not there: checkpoints and workers' states are made of these.

It is a safetensors file. Its header holds the facts as JSON and a checksum of facts and tensors, so that a flipped
byte, a missing tensor or a cut is seen. No pickle: a state file may come from anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors

from neurofed.errors import DataError
from neurofed.files import write_atomically
from neurofed.rope import Checksum

Array = npt.NDArray[Any]

_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip
"""The format's names of types."""
_ALIGNMENT = 8


def write(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write a state file; one that is there is replaced as a whole.

    Args:
        path: the file.
        arrays: tensors by name.
        facts: whatever JSON can say.

    Raises:
        StorageError: if the disk does not take it; the old file is still there.
    """
    ordered = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))  # so each is aligned to its type
    rows = {name: np.asarray(arrays[name], arrays[name].dtype.newbyteorder("<"), order="C") for name in ordered}
    text, order = json.dumps(facts, sort_keys=True), json.dumps(list(arrays))
    header = _header(rows, {"facts": text, "order": order, "xxh3_128": _checksum(text + order, rows)})
    write_atomically(path, [header, *(row.reshape(-1).view(np.uint8).data for row in rows.values())])


def _header(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    """What stands before the tensors' bytes in a safetensors file.

    The package's own `save` copies all tensors twice, which would be most of an aggregator's memory, and its
    `save_file` does not tell a full disk from other failures.
    """
    entries: dict[str, Any] = {"__metadata__": metadata}
    offset = 0
    for name, array in arrays.items():
        stop = offset + array.nbytes
        entries[name] = {"dtype": _DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The tensors, in the order in which they were given, and facts of a state file.

    Raises:
        DataError: if the file is not there, or is not what was written.
    """
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            order = json.loads(header["order"])
            arrays = {name: file.get_tensor(name) for name in order}
            whole = len(arrays) == len(file.keys())
        if not whole or _checksum(header["facts"] + header["order"], arrays) != header["xxh3_128"]:
            raise ValueError("the contents do not have the checksum in the header")
        return arrays, json.loads(header["facts"])
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise DataError(f"{path.name}: expected a whole state file, got: {error}") from error


def _checksum(facts: str, arrays: Mapping[str, Array]) -> str:
    """The checksum of everything a state file says, in hexadecimal."""
    checksum = Checksum(facts.encode())
    for name in sorted(arrays):
        array = arrays[name]
        checksum.update(f"\n{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        checksum.update(np.ascontiguousarray(array).data if array.size else b"")
    return checksum.hexdigest()
