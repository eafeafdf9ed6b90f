"""Reported numbers in few bytes."""

import zlib

import numpy as np
import pytest

from neurofed import metrics
from neurofed.codecs import numbers
from neurofed.errors import DataError

TABLE = {
    metrics.NUM_EXAMPLES: 240,
    metrics.LOSS: 2.3548,
    metrics.STEPS: 48,
    **{f"{metrics.CORE_BUSY}/{core:02}": 0.0482 for core in range(20)},
    "größe": -1.5,
    "big": 2**62,
    "nan": float("nan"),
}


def test_whole_numbers_are_exact_and_others_have_the_precision_of_float32():
    got = numbers.unpack(numbers.pack(TABLE))
    assert list(got) == list(TABLE)
    for name, value in TABLE.items():
        assert type(got[name]) is type(value)
        assert np.array_equal(got[name], value if type(value) is int else float(np.float32(value)), equal_nan=True)


def test_names_that_are_always_there_take_next_to_nothing():
    table = {f"{metrics.CORE_BUSY}/{core:02}": 1.0 for core in range(20)}
    assert len(numbers.pack(table)) < 40


def test_too_many_names_are_not_packed():
    with pytest.raises(DataError, match="4096"):
        numbers.pack({str(n): 0 for n in range(5000)})
    with pytest.raises(DataError, match="plain"):
        numbers.pack({"a\0b": 1})


def raw(text, count=1):
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return count.to_bytes(2, "little") + deflate.compress(text) + deflate.flush()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        b"\1\0nonsense",
        raw(b"a\0\1" + b"\0" * 7),
        raw(b"a\0\2" + b"\0" * 4),
        raw(b"\xff\0\0" + b"\0" * 4),
        raw(b"a\0a\0\0\0" + b"\0" * 8, 2),
        raw(b"a", 60000),
        raw(b"a\0\0" + b"\0" * 4)[:-1],
        raw(b"a\0\0" + b"\0" * 4) + b"!",
        raw(b"\0" * 100_000_000),
    ],
)
def test_what_is_no_table_is_refused(data):
    with pytest.raises(DataError):
        numbers.unpack(data)
