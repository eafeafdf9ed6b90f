import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from neurofed import tensors
from neurofed.errors import ManifestError
from neurofed.v1 import records_pb2 as pb

LIMIT = 1 << 30
F32 = pb.ELEMENT_TYPE_FLOAT32


def _arrays():
    return {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.array([1.5, -0.0, np.nan], np.float16),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(-(2**62), np.int64),
        "bytes": np.array([[0, 255]], np.uint8),
        "half": np.array([1.0, -3.140625, np.inf], ml_dtypes.bfloat16),
    }


def _manifest(*specs):
    return pb.Manifest(tensors=[pb.TensorSpec(name=n, dtype=d, shape=s) for n, d, s in specs])


def _same(got, expected):
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert got[name].tobytes() == array.tobytes()


def test_arrays_come_back_bit_by_bit_and_in_order():
    manifest, data = tensors.manifest_of(_arrays()), tensors.pack(_arrays())
    assert tensors.size_bytes(manifest, LIMIT) == len(data) == 24 + 6 + 0 + 8 + 2 + 6
    for form in (data, memoryview(data)):
        _same(tensors.unpack(manifest, form), _arrays())
    assert not tensors.unpack(manifest, data)["b"].flags.writeable


def test_nothing_is_a_model_too():
    assert tensors.unpack(tensors.manifest_of({}), tensors.pack({})) == {}


def test_layout_and_byte_order_of_the_host_do_not_show():
    plain = np.arange(6, dtype="<f4").reshape(2, 3)
    for other in (plain.astype(">f4"), np.asfortranarray(plain), np.repeat(plain, 2, axis=1)[:, ::2]):
        assert tensors.pack({"w": other}) == tensors.pack({"w": plain})
        assert tensors.manifest_of({"w": other}) == tensors.manifest_of({"w": plain})
        assert tensors.model_digest({"w": other}) == tensors.model_digest({"w": plain})


@pytest.mark.parametrize("dtype", [np.float64, np.int32, np.bool_, np.complex64, "S3", object])
def test_other_types_may_not_leave(dtype):
    with pytest.raises(ManifestError, match="'w'"):
        tensors.manifest_of({"w": np.zeros(2, dtype)})


LIES = {
    "huge": _manifest(("w", F32, [1 << 40])),
    "huge product": _manifest(("w", F32, [1 << 32, 1 << 32, 1 << 32])),
    "product that is 0 in 64 bits": _manifest(("w", F32, [1 << 32, 1 << 32])),
    "product that is 16 bytes in 64 bits": _manifest(("w", F32, [(1 << 62) + 4])),
    "many": _manifest(*((f"w{n}", F32, [1 << 20]) for n in range(1000))),
    "negative": _manifest(("w", F32, [-4])),
    "two negatives": _manifest(("w", F32, [-2, -2])),
    "negative after a zero": _manifest(("w", F32, [0, -1])),
    "debt paid by another": _manifest(("w", F32, [-4]), ("v", F32, [8])),
    "twice": _manifest(("w", F32, [2]), ("w", F32, [2])),
    "no name": _manifest(("", F32, [4])),
    "long name": _manifest(("w" * (tensors.MAX_NAME_LENGTH + 1), F32, [4])),
    "no type": _manifest(("w", pb.ELEMENT_TYPE_UNSPECIFIED, [4])),
    "unknown type": _manifest(("w", 77, [4])),
    "half the size": _manifest(("w", pb.ELEMENT_TYPE_BFLOAT16, [4])),
    "deep": _manifest(("w", F32, [1] * tensors.MAX_RANK + [4])),
    "too little": _manifest(("w", F32, [3])),
    "too much": _manifest(("w", F32, [5])),
    "nothing": _manifest(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_manifest_is_refused_before_anything_is_allocated(lie):
    tracemalloc.start()
    try:
        with pytest.raises(ManifestError):
            tensors.unpack(LIES[lie], bytes(16))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[0, 1 << 62, 1 << 62], [1 << 62, 1 << 62, 0], [0, (1 << 63) - 1]])
def test_an_empty_tensor_with_huge_extents_is_refused_or_empty(shape):
    try:
        array = tensors.unpack(_manifest(("w", F32, shape)), b"")["w"]
    except ManifestError:
        return
    assert array.size == 0


def test_too_many_tensors_are_refused():
    manifest = _manifest(*((str(n), F32, [0]) for n in range(tensors.MAX_TENSORS + 1)))
    with pytest.raises(ManifestError, match="at most"):
        tensors.size_bytes(manifest, LIMIT)


def test_the_limit_itself_is_acceptable():
    manifest = _manifest(("w", F32, [2]), ("v", F32, [2]))
    assert tensors.size_bytes(manifest, 16) == 16
    with pytest.raises(ManifestError, match="15 bytes"):
        tensors.size_bytes(manifest, 15)


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(17)])
def test_the_bytes_must_be_as_many_as_declared(data):
    with pytest.raises(ManifestError):
        tensors.unpack(_manifest(("w", F32, [4])), data)


def test_the_same_tensors_in_another_order_are_the_same():
    arrays = _arrays()
    other = tensors.manifest_of(dict(reversed(arrays.items())))
    tensors.require_same(other, tensors.manifest_of(arrays), "w1")


@pytest.mark.parametrize(
    ("got", "text"),
    [
        (_manifest(("v", F32, [2])), "expected tensor 'w'"),
        (_manifest(("w", F32, [2]), ("x", F32, [2]), ("v", F32, [2])), "'x' is not part"),
        (_manifest(("w", F32, [3]), ("v", F32, [2])), "'w': expected float32 [2], got float32 [3]"),
        (_manifest(("w", 77, [2]), ("v", F32, [2])), "'w': expected float32 [2], got 77 [2]"),
        (_manifest(("w", F32, [2]), ("v", pb.ELEMENT_TYPE_FLOAT16, [2])), "'v'"),
    ],
)
def test_the_first_difference_is_named(got, text):
    with pytest.raises(ManifestError) as caught:
        tensors.require_same(got, _manifest(("w", F32, [2]), ("v", F32, [2])), "worker 3")
    assert text in str(caught.value)
    assert str(caught.value).startswith("worker 3: ")


def test_the_digest_of_a_model_sees_everything_but_the_order():
    arrays = _arrays()
    digest = tensors.model_digest(arrays)
    assert tensors.model_digest(dict(reversed(arrays.items()))) == digest
    others = [
        {**arrays, "b": arrays["b"].reshape(3, 2)},
        {**arrays, "b": arrays["b"] + 1},
        {**arrays, "b": arrays["b"].view(np.uint8)},
        {("c" if k == "b" else k): v for k, v in arrays.items()},
        {k: v for k, v in arrays.items() if k != "empty"},
    ]
    assert len({digest, *map(tensors.model_digest, others)}) == 1 + len(others)
