import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from neurofed import framing
from neurofed.framing import Chunk, chunk_frame, read_frame
from neurofed.rope import Rope
from neurofed.v1 import fleet_pb2

KINDS = st.sampled_from([fleet_pb2.WorkRequest, fleet_pb2.WorkResponse])
CHUNKS = st.builds(
    fleet_pb2.Chunk,
    offset=st.integers(0, 2**62),
    data=st.binary(max_size=300),
    crc32c=st.integers(0, 2**32 - 1),
)


def _as_protobuf_has_it(kind, data):
    """What a frame says, or None where it is malformed."""
    try:
        message = kind.FromString(data)
    except DecodeError:
        return None
    chunk = message.chunk
    return message.WhichOneof("frame"), (chunk.offset, chunk.data, chunk.crc32c) if message.HasField("chunk") else None


def _as_we_have_it(kind, data):
    try:
        frame = read_frame(kind, data)
    except DecodeError:
        return None
    return frame.kind, None if frame.chunk is None else tuple(frame.chunk)


@given(KINDS, CHUNKS)
def test_a_chunk_is_read_as_protocol_buffers_read_it(kind, chunk):
    data = kind(chunk=chunk).SerializeToString()
    frame = read_frame(kind, data)
    assert frame.chunk == Chunk(chunk.offset, chunk.data, chunk.crc32c)
    assert (frame.kind, frame.size_bytes) == ("chunk", len(data))


@given(KINDS, CHUNKS, st.data())
def test_whatever_is_done_to_a_frame_both_read_the_same(kind, chunk, data):
    frame = bytearray(kind(chunk=chunk).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frame)))
        match data.draw(st.sampled_from(["flip", "insert", "cut", "append"])):
            case "flip" if at < len(frame):
                frame[at] = data.draw(st.integers(0, 255))
            case "insert":
                frame[at:at] = data.draw(st.binary(max_size=5))
            case "cut":
                del frame[at : at + 3]
            case "append":
                frame += data.draw(st.sampled_from([kind(chunk=chunk), fleet_pb2.Chunk(data=b"x")])).SerializeToString()
    assert _as_we_have_it(kind, bytes(frame)) == _as_protobuf_has_it(kind, bytes(frame))


@given(KINDS, st.binary(max_size=60))
def test_any_bytes_are_read_the_same(kind, data):
    assert _as_we_have_it(kind, data) == _as_protobuf_has_it(kind, data)


@pytest.mark.parametrize("kind", [fleet_pb2.WorkRequest, fleet_pb2.WorkResponse])
def test_fields_in_another_order_are_a_chunk_all_the_same(kind):
    tail = fleet_pb2.Chunk(crc32c=7).SerializeToString()
    body = tail + fleet_pb2.Chunk(data=b"abc").SerializeToString() + fleet_pb2.Chunk(offset=5).SerializeToString()
    tag = kind.DESCRIPTOR.fields_by_name["chunk"].number << 3 | 2
    assert read_frame(kind, bytes((tag, len(body))) + body).chunk == Chunk(5, b"abc", 7)


@pytest.mark.parametrize("kind", [fleet_pb2.WorkRequest, fleet_pb2.WorkResponse])
def test_our_own_frames_are_not_parsed_as_a_whole(kind, monkeypatch):
    blob = Rope([bytes(range(256)) * (framing.CHUNK_BYTES // 128)])
    frame = chunk_frame(kind, blob, framing.CHUNK_BYTES)
    parsed = framing._chunk_in(kind, frame)
    assert parsed is not None
    assert (parsed.offset, parsed.data) == (framing.CHUNK_BYTES, b"".join(blob.views(1 << 20, 2 << 20)))
