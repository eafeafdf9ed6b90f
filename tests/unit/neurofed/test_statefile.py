import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from neurofed import statefile
from neurofed.errors import DataError

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


def _arrays():
    return {
        **{f"x-{dtype}": np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES},
        "odd": np.arange(3, dtype=np.uint8),
        "scalar": np.array(7, np.int64),
        "empty": np.empty((0, 4), np.float32),
        "big-endian": np.arange(4, dtype=">f4"),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    }


def test_what_is_written_is_a_safetensors_file_as_the_package_writes_it(tmp_path):
    statefile.write(tmp_path / "state", _arrays(), {"round": 3})
    loaded = load_file(tmp_path / "state")
    expected = load(save({name: np.asarray(array, order="C") for name, array in _arrays().items()}))
    assert loaded.keys() == expected.keys()
    for name, array in expected.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(loaded[name], array)


def test_tensors_and_facts_come_back(tmp_path):
    facts = {"round": 3, "name": '\u00e9\u2028"', "list": [1.5, None, {"a": True}]}
    statefile.write(tmp_path / "state", _arrays(), facts)
    read, told = statefile.read(tmp_path / "state")
    assert told == facts
    assert {name: array.tolist() for name, array in read.items()} == {n: a.tolist() for n, a in _arrays().items()}
    assert list(read) == list(_arrays()), "in the same order: a model has other bytes on the wire in another"


def test_no_tensors_at_all_are_a_state_too(tmp_path):
    statefile.write(tmp_path / "state", {}, {"a": 1})
    assert statefile.read(tmp_path / "state") == ({}, {"a": 1})


def test_each_tensor_is_aligned_to_its_type(tmp_path):
    statefile.write(tmp_path / "state", _arrays(), {})
    data = (tmp_path / "state").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    assert start % 8 == 0
    whole = np.arange(6).reshape(2, 3).astype("f8").tobytes()
    assert (data.index(whole, start) - start) % 8 == 0


@pytest.mark.parametrize("where", ["header", "tensors", "end"])
def test_any_changed_byte_is_seen(tmp_path, where):
    statefile.write(tmp_path / "state", _arrays(), {"round": 3})
    data = bytearray((tmp_path / "state").read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    at = {"header": data.index(b"round"), "tensors": start + 5, "end": len(data) - 1}[where]
    data[at] ^= 1
    (tmp_path / "state").write_bytes(data)
    with pytest.raises(DataError, match="whole state file"):
        statefile.read(tmp_path / "state")
