"""Frames of the work stream, and the chunks in them, at a small part of what protocol buffers take for them.

They copy a chunk from message to message, on both ends, and once more whenever the memory for the output doubles. Here
the bytes around a chunk are written and read by hand; what is on the wire is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import google_crc32c
from google.protobuf.message import DecodeError

from neurofed.rope import Buffer, Rope, rope
from neurofed.v1 import fleet_pb2

CHUNK_BYTES = 1 << 20
"""Every chunk is this long, only the last of a blob may be shorter."""
Direction = type[fleet_pb2.WorkRequest | fleet_pb2.WorkResponse]
Message = TypeVar("Message", fleet_pb2.WorkRequest, fleet_pb2.WorkResponse)

_FIELDS = fleet_pb2.Chunk.DESCRIPTOR.fields_by_name
_OFFSET_TAG = _FIELDS["offset"].number << 3
_DATA_TAG = _FIELDS["data"].number << 3 | 2
_MAX_TAIL_BYTES = 16


class Chunk(NamedTuple):
    """A part of a blob, as `fleet_pb2.Chunk` has it.

    Attributes:
        offset: where it begins.
        data: its bytes.
        crc32c: their checksum.
    """

    offset: int
    data: bytes
    crc32c: int


@dataclass(frozen=True, slots=True)
class Frame(Generic[Message]):
    """A frame as it arrived.

    Attributes:
        message: what it says, empty for a chunk.
        size_bytes: its length on the wire.
        chunk: the chunk, where it is one.
    """

    message: Message
    size_bytes: int
    chunk: Chunk | None = None

    @property
    def kind(self) -> str | None:
        """The name of the field that is set."""
        return "chunk" if self.chunk else self.message.WhichOneof("frame")


def read_frame(kind: type[Message], data: bytes) -> Frame[Message]:
    """A frame from the wire.

    Raises:
        google.protobuf.message.DecodeError: if it is malformed.
    """
    if chunk := _chunk_in(kind, data):
        return Frame(kind(), len(data), chunk)
    message = kind.FromString(data)
    if message.HasField("chunk"):  # its fields are in another order than ours
        chunk = Chunk(message.chunk.offset, message.chunk.data, message.chunk.crc32c)
        return Frame(kind(), len(data), chunk)
    return Frame(message, len(data))


def _chunk_in(kind: Direction, data: bytes) -> Chunk | None:
    """The chunk in a frame that is laid out as `chunk_frame` does it, None in any other."""
    try:
        if data[0] != _tag_of(kind):
            return None
        size, start = _varint(data, 1)
        at = start
        if data[at] == _OFFSET_TAG:
            _, at = _varint(data, at + 1)
        if data[at] != _DATA_TAG or start + size != len(data):
            return None
        length, begin = _varint(data, at + 1)
        stop = begin + length
        if not 0 <= len(data) - stop <= _MAX_TAIL_BYTES:
            return None
        rest = fleet_pb2.Chunk.FromString(data[start:at] + data[stop:])
    except (IndexError, DecodeError):
        return None
    return None if rest.data else Chunk(rest.offset, data[begin:stop], rest.crc32c)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of protocol buffers' format, and where it ends; IndexError where there is none of sensible length."""
    value = 0
    for shift in range(0, 63, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise IndexError


def _tag_of(kind: Direction) -> int:
    return kind.DESCRIPTOR.fields_by_name["chunk"].number << 3 | 2


def chunk_at(blob: Buffer | Rope, offset: int) -> fleet_pb2.Chunk:
    """The chunk of `blob` that begins at `offset`."""
    data = b"".join(rope(blob).views(offset, offset + CHUNK_BYTES))
    return fleet_pb2.Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))


def chunk_frame(kind: Direction, blob: Rope, offset: int) -> bytes:
    """The serialised frame with the chunk of `blob` that begins at `offset`.

    The bytes are those of `kind(chunk=chunk_at(blob, offset)).SerializeToString()`.
    """
    head, tail = chunk_ends(kind, blob, offset)
    return b"".join((head, *blob.views(offset, offset + CHUNK_BYTES), tail))


def chunk_ends(kind: Direction, blob: Rope, offset: int) -> tuple[bytes, bytes]:
    """What stands before and behind the bytes of `blob` in their frame, see `chunk_frame`."""
    data = b"".join(blob.views(offset, offset + CHUNK_BYTES))
    size = len(data)
    head = fleet_pb2.Chunk(offset=offset).SerializeToString() + _length_prefix(_DATA_TAG, size)
    tail = fleet_pb2.Chunk(crc32c=google_crc32c.value(data)).SerializeToString()
    return _length_prefix(_tag_of(kind), len(head) + size + len(tail)) + head, tail


def _length_prefix(tag: int, size: int) -> bytes:
    """What stands before a field of so many bytes in protocol buffers' format: its tag (wire type 2) and its length."""
    varint = bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((tag, *varint, size))
