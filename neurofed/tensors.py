"""Tensors on the wire: raw little-endian bytes, checked against a manifest before anything is allocated.

No pickle, no numpy file format: a manifest names the tensors, their types and shapes, and the bytes are exactly as many
as it says. Everything here treats its input as hostile.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from neurofed.errors import ManifestError
from neurofed.rope import Buffer, Rope
from neurofed.v1 import records_pb2 as pb

Array = npt.NDArray[Any]

MAX_TENSORS = 10_000
MAX_RANK = 8
MAX_NAME_LENGTH = 512
MAX_EXTENT = 1 << 40

_DTYPES: dict[int, np.dtype[Any]] = {
    pb.ELEMENT_TYPE_FLOAT32: np.dtype("<f4"),
    pb.ELEMENT_TYPE_FLOAT16: np.dtype("<f2"),
    pb.ELEMENT_TYPE_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    pb.ELEMENT_TYPE_INT64: np.dtype("<i8"),
    pb.ELEMENT_TYPE_UINT8: np.dtype("u1"),
}
"""The frozen list of types that may cross the network."""
BFLOAT16 = _DTYPES[pb.ELEMENT_TYPE_BFLOAT16]
_ELEMENT_TYPES = {dtype: element for element, dtype in _DTYPES.items()}


def manifest_of(arrays: Mapping[str, Array]) -> pb.Manifest:
    """Declare `arrays` in their order.

    Raises:
        ManifestError: if an array has an element type that may not cross the network.
    """
    manifest = pb.Manifest()
    for name, array in arrays.items():
        element = _ELEMENT_TYPES.get(array.dtype.newbyteorder("<"))
        if element is None:
            raise ManifestError(
                f"tensor {name!r}: expected one of {sorted(str(d) for d in _ELEMENT_TYPES)}, got {array.dtype}"
            )
        manifest.tensors.add(name=name, dtype=element, shape=array.shape)
    return manifest


def size_bytes(manifest: pb.Manifest, limit_bytes: int) -> int:
    """Bytes that `manifest` declares, without allocating them.

    Args:
        manifest: a declaration from the network.
        limit_bytes: the most that is acceptable.

    Raises:
        ManifestError: if the declaration is malformed or exceeds the limit.
    """
    if len(manifest.tensors) > MAX_TENSORS:
        raise ManifestError(f"expected at most {MAX_TENSORS} tensors, got {len(manifest.tensors)}")
    total, names = 0, set()
    for spec in manifest.tensors:
        if not 0 < len(spec.name) <= MAX_NAME_LENGTH or spec.name in names:
            raise ManifestError(
                f"expected distinct tensor names of 1 to {MAX_NAME_LENGTH} characters, got {spec.name!r}"
            )
        names.add(spec.name)
        if spec.dtype not in _DTYPES:
            raise ManifestError(f"tensor {spec.name!r}: element type {spec.dtype} is not acceptable")
        if len(spec.shape) > MAX_RANK or not all(0 <= extent <= MAX_EXTENT for extent in spec.shape):
            raise ManifestError(f"tensor {spec.name!r}: shape {list(spec.shape)} is not acceptable")
        total += math.prod(spec.shape) * _DTYPES[spec.dtype].itemsize
        if total > limit_bytes:
            raise ManifestError(
                f"expected at most {limit_bytes} bytes of tensors, got more: raise the limit or send less"
            )
    return total


def rope_of(arrays: Mapping[str, Array]) -> Rope:
    """The bytes of `arrays` in their order, little-endian, row-major: where they are if they are so already."""
    return Rope(map(_bytes_of, arrays.values()))


def pack(arrays: Mapping[str, Array]) -> bytes:
    """A copy of the same."""
    return bytes(rope_of(arrays))


def _bytes_of(array: Array) -> memoryview:
    """The bytes of an array, where they are if they are as on the wire."""
    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data.toreadonly()


def unpack(manifest: pb.Manifest, data: Buffer) -> dict[str, Array]:
    """Arrays as `manifest` declares them, as read-only views of `data`.

    Raises:
        ManifestError: if `data` is not exactly as long as declared.
    """
    declared = size_bytes(manifest, limit_bytes=len(data))
    if declared != len(data):
        raise ManifestError(f"expected {declared} bytes as declared, got {len(data)}")
    arrays: dict[str, Array] = {}
    offset = 0
    for spec in manifest.tensors:
        dtype = _DTYPES[spec.dtype]
        count = math.prod(spec.shape)
        view = np.frombuffer(data, dtype, count, offset) if count else np.empty(0, dtype)
        try:
            arrays[spec.name] = view.reshape(tuple(spec.shape))
        except ValueError:  # no elements, but extents whose product numpy cannot hold
            raise ManifestError(f"tensor {spec.name!r}: shape {list(spec.shape)} is not acceptable") from None
        offset += count * dtype.itemsize
    return arrays


def require_same(manifest: pb.Manifest, expected: pb.Manifest, who: str) -> None:
    """Check that `manifest` declares the tensors of `expected`, in any order.

    Raises:
        ManifestError: naming the first tensor that is missing, unknown, or of another type or shape.
    """
    want = {spec.name: spec for spec in expected.tensors}
    got = {spec.name: spec for spec in manifest.tensors}
    if missing := next((name for name in want if name not in got), None):
        raise ManifestError(f"{who}: expected tensor {missing!r}, got none of that name")
    if unknown := next((name for name in got if name not in want), None):
        raise ManifestError(f"{who}: tensor {unknown!r} is not part of the model")
    for name, spec in want.items():
        if got[name] != spec:
            raise ManifestError(f"{who}: tensor {name!r}: expected {_describe(spec)}, got {_describe(got[name])}")


def _describe(spec: pb.TensorSpec) -> str:
    dtype = _DTYPES.get(spec.dtype)
    return f"{dtype or spec.dtype} {list(spec.shape)}"


def model_digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 of a model in hexadecimal: of its names, types, shapes and bytes, in the order of names."""
    ordered = {name: arrays[name] for name in sorted(arrays)}
    sha = hashlib.sha256(manifest_of(ordered).SerializeToString(deterministic=True))
    for array in ordered.values():
        sha.update(_bytes_of(array))
    return sha.hexdigest()
