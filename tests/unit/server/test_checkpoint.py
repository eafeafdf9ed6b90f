import numpy as np
import pytest

from neurofed.errors import CheckpointError, StorageError
from server.checkpoint import KEEP, Checkpoint, CheckpointStore

STATE = {"best": 0.1 + 0.2, "seed": 7, "history": [1, 2.5, None, "ü"], "nested": {"a": True}}


def _checkpoint(number):
    rng = np.random.default_rng(number)
    model = {
        "layers.b.weight": rng.normal(size=(3, 4, 2)).astype(np.float32),
        "layers.a.gain": rng.normal(size=3).astype(np.float16),
        "empty": np.zeros((0, 2), np.float32),
        "scalar": np.array(number, np.int64),
        "odd": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    }
    return Checkpoint(number, model, {**STATE, "number": number})


def _same(got, expected):
    assert got is not None
    assert got.round_number == expected.round_number
    assert got.state == expected.state
    assert got.model.keys() == expected.model.keys()
    for name, array in expected.model.items():
        assert got.model[name].dtype == array.dtype
        assert got.model[name].shape == array.shape
        assert got.model[name].tobytes() == array.tobytes()


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "run" / "checkpoints")


def test_what_is_saved_is_read_bit_by_bit(store):
    store.save(_checkpoint(0))
    path = store.save(_checkpoint(12))
    assert path.name == "round-000012.safetensors"
    _same(store.newest(), _checkpoint(12))
    _same(CheckpointStore(store.folder).newest(), _checkpoint(12))


def test_what_the_rule_remembers_is_kept_apart_from_the_model(store):
    memory = {"momentum/w": np.arange(3, dtype=np.float64), "rounds": np.array(2, np.int64)}
    store.save(Checkpoint(1, {"w": np.ones(3, np.float32)}, {}, memory))
    got = store.newest()
    assert got.model.keys() == {"w"}
    assert got.memory.keys() == memory.keys()
    assert all(got.memory[name].tobytes() == array.tobytes() for name, array in memory.items())


def test_the_rows_of_a_transposed_array_come_back_in_order(store):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    store.save(Checkpoint(1, {"w": array}, {}))
    np.testing.assert_array_equal(store.newest().model["w"], array)


def test_without_checkpoints_there_is_none(store):
    assert store.newest() is None
    store.folder.mkdir(parents=True)
    (store.folder / "notes.txt").write_text("not a checkpoint")
    left = store.folder / ".round-000001.safetensors.k3_x9abc"
    left.write_bytes(b"left by a crash")
    assert store.newest() is None
    assert not left.exists()


def test_only_the_newest_stay(store):
    for number in range(KEEP + 4):
        store.save(_checkpoint(number))
    names = sorted(p.name for p in store.folder.iterdir())
    assert names == [f"round-{n:06d}.safetensors" for n in range(4, KEEP + 4)]


def test_the_newest_is_the_highest_round_not_the_last_name(store):
    for number in (999_999, 1_000_000):
        store.save(_checkpoint(number))
    assert store.newest().round_number == 1_000_000


def test_a_round_saved_again_replaces_the_first(store):
    store.save(_checkpoint(3))
    other = Checkpoint(3, _checkpoint(4).model, {"again": True})
    store.save(other)
    _same(store.newest(), other)


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, -1])
def test_a_truncated_newest_falls_back(store, keep):
    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    path.write_bytes(path.read_bytes()[:keep])
    _same(store.newest(), _checkpoint(1))


def test_a_longer_newest_falls_back(store):
    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    path.write_bytes(path.read_bytes() + b"\0")
    _same(store.newest(), _checkpoint(1))


def _length_of_header(whole):
    return 8 + int.from_bytes(whole[:8], "little")


def test_any_flipped_byte_of_the_tensors_falls_back(store):
    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    whole = path.read_bytes()
    for position in range(_length_of_header(whole), len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        _same(store.newest(), _checkpoint(1))


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_a_flipped_byte_of_the_header_never_gives_a_wrong_checkpoint(store, flip):
    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    whole = path.read_bytes()
    for position in range(_length_of_header(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= flip
        path.write_bytes(damaged)
        got = store.newest()
        _same(got, _checkpoint(got.round_number if got.round_number == 2 else 1))


def test_a_changed_element_type_falls_back(store):
    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    whole = path.read_bytes()
    assert b'"F32"' in whole
    path.write_bytes(whole.replace(b'"F32"', b'"I32"'))
    _same(store.newest(), _checkpoint(1))


def test_a_checkpoint_without_our_header_falls_back(store):
    from safetensors.numpy import save

    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    path.write_bytes(save({"w": np.zeros(3, np.float32)}))
    _same(store.newest(), _checkpoint(1))


def test_damage_to_two_falls_back_to_the_third(store):
    paths = [store.save(_checkpoint(n)) for n in (1, 2, 3)]
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    _same(store.newest(), _checkpoint(1))


def test_what_is_skipped_is_told(store):
    paths = [store.save(_checkpoint(n)) for n in (1, 2, 3)]
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    told = []
    assert store.newest(lambda path, reason: told.append((path, bool(reason)))).round_number == 1
    assert told == [(paths[2], True), (paths[1], True)]


def test_a_missing_part_falls_back(store):
    from safetensors import safe_open
    from safetensors.numpy import save

    store.save(_checkpoint(1))
    path = store.save(_checkpoint(2))
    with safe_open(path, framework="numpy") as file:
        header, model = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del model["layers.a.gain"]
    path.write_bytes(save(model, metadata=header))
    _same(store.newest(), _checkpoint(1))


def test_a_checkpoint_under_the_name_of_another_round_falls_back(store):
    first = store.save(_checkpoint(1))
    (store.folder / "round-000007.safetensors").write_bytes(first.read_bytes())
    _same(store.newest(), _checkpoint(1))


def test_when_all_are_damaged_the_error_names_them(store):
    paths = [store.save(_checkpoint(n)) for n in (1, 2)]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as caught:
        store.newest()
    assert all(path.name in str(caught.value) for path in paths)


def test_a_failed_write_leaves_the_previous_checkpoint_and_no_rubbish(store, monkeypatch):
    store.save(_checkpoint(1))

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="disk full"):
        store.save(_checkpoint(2))
    assert [p.name for p in store.folder.iterdir()] == ["round-000001.safetensors"]
    _same(store.newest(), _checkpoint(1))
