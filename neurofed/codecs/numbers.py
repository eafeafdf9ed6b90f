"""A table of numbers in few bytes: beside an update of a few hundred bytes, what is reported would be most of the wire.

Names and values are deflated (RFC 1951) with a dictionary of the names that are always there. Whole numbers stay what
they are; others are rounded to float32, that is to seven digits.

    bytes     what
    2         how many
    rest      deflated: names, with a zero behind each; a byte for each, 1 for a whole number; 8 bytes for each whole
              number; 4 bytes for each other
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from neurofed import metrics
from neurofed.errors import DataError

MAX_NUMBERS = 4096
_MAX_BYTES = MAX_NUMBERS * 64
_HEAD = struct.Struct("<H")
_RAW = -15
"""Deflate without zlib's header and checksum: chunks have their own."""
_PARTS = ("multiply", "add", "register", "sram", "neuron", "control", "leakage", "dram")
_NAMES = (
    metrics.ACCURACY, f"{metrics.SPIKE_RATE}/layer", f"{metrics.GRADIENT_DENSITY}/layer",
    *(f"{metrics.CORE_BUSY}/{core:02}" for core in range(20)), metrics.TRAIN_S,
    *(f"{metrics.ENERGY_J}/{engine}/{part}" for engine in metrics.ENGINES for part in _PARTS),
    *(f"{metrics.DRAM_BYTES}/{name}" for name in ("input", "membrane", "optimizer", "spikes", "gradient", "weight")),
    *(f"{metrics.CYCLES}/{engine}" for engine in metrics.ENGINES),
    *(f"{name}/{e}" for e in metrics.ENGINES[:3] for name in (metrics.OPS_DENSE, metrics.OPS_EXECUTED)),
    metrics.NUM_EXAMPLES, metrics.LOSS, metrics.SPIKE_RATE, metrics.STEPS, metrics.ENERGY_J, metrics.DRAM_BYTES,
    metrics.CYCLES, metrics.CHIP_S, metrics.LINK_BYTES_PER_S, metrics.LINK_PJ_PER_BIT,
)  # fmt: skip
_DICTIONARY = b"".join(name.encode() + b"\0" for name in _NAMES)
"""Part of the format: changing a name changes what older bytes mean."""

Numbers = Mapping[str, float | int]


def pack(numbers: Numbers) -> bytes:
    """Write a table.

    Raises:
        DataError: if it has too many names, or one with a zero in it.
    """
    if len(numbers) > MAX_NUMBERS or any("\0" in name for name in numbers):
        raise DataError(f"expected at most {MAX_NUMBERS} numbers with plain names, got {len(numbers)}")
    whole = [type(value) is int for value in numbers.values()]
    with np.errstate(over="ignore"):
        text = b"".join(
            (
                b"".join(name.encode() + b"\0" for name in numbers),
                bytes(whole),
                np.array([v for v in numbers.values() if type(v) is int], "<i8").tobytes(),
                np.array([v for v in numbers.values() if type(v) is not int], "<f4").tobytes(),
            )
        )
    deflate = zlib.compressobj(9, zlib.DEFLATED, _RAW, zdict=_DICTIONARY)
    return _HEAD.pack(len(numbers)) + deflate.compress(text) + deflate.flush()


def unpack(data: bytes) -> dict[str, float | int]:
    """Read a table from bytes that may be anything.

    Raises:
        DataError: if they are none.
    """
    if len(data) < _HEAD.size:
        raise DataError(f"expected packed numbers of at least {_HEAD.size} bytes, got {len(data)}")
    (count,) = _HEAD.unpack_from(data)
    text = _inflated(data[_HEAD.size :])
    names = text.split(b"\0", count)
    if count > MAX_NUMBERS or len(names) != count + 1:
        raise DataError(f"expected {count} packed names, at most {MAX_NUMBERS}, got {len(names) - 1}")
    whole, values = names[count][:count], names[count][count:]
    integers = sum(whole)
    if len(whole) != count or set(whole) - {0, 1} or len(values) != 8 * integers + 4 * (count - integers):
        raise DataError(f"expected {count} packed numbers, got {len(values)} bytes of them")
    read = iter(np.frombuffer(values[: 8 * integers], "<i8").tolist())
    rest = iter(np.frombuffer(values[8 * integers :], "<f4").tolist())
    try:
        table = {n.decode(): next(read) if w else next(rest) for n, w in zip(names[:count], whole, strict=True)}
    except UnicodeDecodeError:
        raise DataError("expected packed names in UTF-8, got other bytes") from None
    if len(table) != count:
        raise DataError("expected packed names that differ, got one twice")
    return table


def _inflated(data: bytes) -> bytes:
    """What was deflated, never more than a table may take.

    Raises:
        DataError: if it is more, or less than whole.
    """
    inflate = zlib.decompressobj(_RAW, zdict=_DICTIONARY)
    try:
        text = inflate.decompress(data, _MAX_BYTES)
    except zlib.error as error:
        raise DataError(f"expected packed numbers, got bytes that cannot be inflated: {error}") from None
    if not inflate.eof or inflate.unused_data:
        raise DataError(f"expected packed numbers of at most {_MAX_BYTES} bytes, got more or fewer")
    return text
