import xxhash
from hypothesis import given
from hypothesis import strategies as st

from neurofed.rope import CHECKSUM_BYTES, Rope, rope

pieces = st.lists(st.binary(max_size=20), max_size=8)


@given(pieces, st.integers(0, 200), st.integers(0, 200))
def test_a_rope_is_the_concatenation_of_its_pieces(parts, start, stop):
    whole, made = b"".join(parts), Rope(parts)
    assert (len(made), bytes(made)) == (len(whole), whole)
    assert b"".join(made.views(start, stop)) == whole[start:stop]


@given(pieces, pieces)
def test_ropes_are_joined_in_order(one, other):
    assert bytes(Rope.joined([Rope(one), Rope(other)])) == b"".join(one + other)


@given(pieces)
def test_the_checksum_does_not_tell_where_the_pieces_end(parts):
    checksum = Rope(parts).checksum()
    assert len(checksum) == CHECKSUM_BYTES
    assert checksum == Rope([b"".join(parts)]).checksum() == xxhash.xxh3_128_digest(b"".join(parts))


def test_nothing_is_copied():
    memory = bytearray(b"abcdef")
    made = Rope([memoryview(memory)[:4], memoryview(memory)[4:]])
    memory[3:5] = b"XY"
    assert bytes(made) == b"abcXYf"
    assert [bytes(view) for view in made.views(3, 5)] == [b"X", b"Y"]
    assert rope(made) is made
    assert bytes(rope(b"abc")) == b"abc"


def test_the_checksum_is_that_of_the_published_test_vector():
    assert Rope([]).checksum().hex() == "99aa06d3014798d86001c324468d497f"
