"""Sums in fixed point: kernels and numpy, one word and two."""

import itertools
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from neurofed.errors import UpdateError
from server.aggregation import exact, native
from server.aggregation.base import MAX_ABS, MAX_EXAMPLES, is_floating
from server.aggregation.exact import LOW_WEIGHT, ExactSum


@pytest.fixture(params=["kernel", "numpy"])
def arithmetic(request, monkeypatch):
    """Both ways to compute, one after the other."""
    if request.param == "numpy":
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("needs a C compiler")


def _values(seed, size=5000):
    values = np.random.default_rng(seed).normal(0, 1, size).astype(np.float32)
    values[:6] = [MAX_ABS, -MAX_ABS, 2.0**-41, 3 * 2.0**-41, -0.0, np.finfo(np.float32).smallest_subnormal]
    return values


def _exact_mean(arrays, weights):
    """In fractions, with each value rounded to 40 bits."""
    sums = [sum(round(Fraction(float(x)) * 2**40) * w for x, w in zip(column, weights, strict=True))
            for column in zip(*arrays, strict=True)]  # fmt: skip
    return [float(Fraction(s, 2**40 * sum(weights))) for s in sums]


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_the_mean_is_that_of_fractions(dtype):
    arrays, weights = [_values(seed, 50).astype(dtype) for seed in range(3)], [1, 1000, 37]
    total = ExactSum({"w": arrays[0]})
    for array, weight in zip(arrays, weights, strict=True):
        total.add({"w": array}, weight)
    result = total.settle()["w"]
    assert result.dtype == dtype
    expected = np.array(_exact_mean(arrays, weights)).astype(dtype).astype(np.float64)
    np.testing.assert_allclose(result.astype(np.float64), expected, rtol=2**-50 if dtype == np.float64 else 0)


def test_kernel_and_numpy_give_the_same_bits(monkeypatch):
    if native.library() is None:
        pytest.skip("needs a C compiler")
    results = []
    for _ in range(2):
        total = ExactSum({"v": _values(0), "w": _values(1).reshape(50, 100)})
        for seed in range(4):
            total.add({"v": _values(seed), "w": _values(seed + 9).reshape(50, 100)}, 31 + seed)
        results.append({name: array.tobytes() for name, array in total.settle().items()})
        monkeypatch.setattr(native, "library", lambda: None)
    assert results[0] == results[1]


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 64.01, -1e30])
@pytest.mark.parametrize("already", [0, 1])
def test_what_is_refused_is_taken_out_again(bad, already):
    poison = _values(3)
    poison[-1] = bad
    results = []
    for attack in (False, True):
        total = ExactSum({"a": _values(0), "b": _values(0)})
        for seed in range(already):
            total.add({"a": _values(seed), "b": _values(seed)}, 5)
        if attack:
            with pytest.raises(UpdateError, match="'b'"):
                total.add({"a": _values(3), "b": poison}, 99)
        total.add({"a": _values(1), "b": _values(2)}, 7)
        assert total.weight == 5 * already + 7
        results.append(total.settle()["b"].tobytes())
    assert results[0] == results[1]


@pytest.mark.usefixtures("arithmetic")
@pytest.mark.parametrize("weights", [(LOW_WEIGHT, 1, 5), (3 * LOW_WEIGHT + 11, 2, LOW_WEIGHT), (1 << 22, 77, 1 << 22)])
def test_weights_beyond_one_word_are_carried_in_any_order(weights):
    arrays = [np.array([MAX_ABS, -MAX_ABS, 0.3, -1e-9, 0.0], np.float32) * scale for scale in (1, 0.5, -1)]
    arrays = [array.astype(np.float32) for array in arrays]
    results = set()
    for order in itertools.permutations(range(3)):
        total = ExactSum({"w": arrays[0]})
        for i in order:
            total.add({"w": arrays[i]}, weights[i])
        result = total.settle()["w"]
        results.add(result.tobytes())
        assert result.tolist() == np.array(_exact_mean(arrays, weights)).astype(np.float32).tolist()
    assert len(results) == 1


@pytest.mark.parametrize("value", [MAX_ABS, -MAX_ABS])
def test_the_largest_sum_that_may_be_fits(value):
    total = ExactSum({"w": np.full(3, value, np.float32)})
    while total.weight < MAX_EXAMPLES:
        total.add({"w": np.full(3, value, np.float32)}, min(1 << 22, MAX_EXAMPLES - total.weight))
    with pytest.raises(UpdateError, match="weight"):
        total.add({"w": np.full(3, value, np.float32)}, 1)
    assert total.settle()["w"].tolist() == [value] * 3


def test_taking_back_leaves_no_mark():
    total = ExactSum({"w": _values(0)})
    total.add({"w": _values(1)}, 3)
    total.add({"w": _values(2)}, 4)
    total.take_back({"w": _values(1)}, 3)
    alone = ExactSum({"w": _values(0)})
    alone.add({"w": _values(2)}, 4)
    assert total.settle()["w"].tobytes() == alone.settle()["w"].tobytes()


def test_a_sum_that_is_settled_is_spent():
    total = ExactSum({"w": _values(0)})
    total.add({"w": _values(1)}, 3)
    total.settle()
    with pytest.raises(UpdateError, match="at least one"):
        total.settle()
    with pytest.raises(ValueError, match="as many values as sums"):
        total.add({"w": _values(1)}, 3)


def test_strided_arrays_are_what_they_show():
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    total = ExactSum({"w": wide.T})
    total.add({"w": wide.T}, 2)
    assert total.settle()["w"].tolist() == wide.T.tolist()


def test_views_into_a_blob_need_not_be_aligned():
    values = _values(1)
    blob = np.frombuffer(b"." + values.tobytes(), np.uint8)[1:].view(np.float32)
    assert not blob.flags.aligned
    results = []
    for array in (values, blob):
        total = ExactSum({"w": values})
        total.add({"w": array}, 3)
        results.append(total.settle()["w"].tobytes())
    assert results[0] == results[1]


def test_bfloat16_is_averaged_too():
    assert is_floating(np.zeros(1, ml_dtypes.bfloat16))
    assert not is_floating(np.zeros(1, np.int64))


def test_a_broken_compiler_is_no_failure(monkeypatch, tmp_path):
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    monkeypatch.setenv("NEUROFED_CACHE", str(tmp_path / "cache"))
    native.library.cache_clear()
    try:
        assert native.library() is None
        total = ExactSum({"w": _values(0)})
        total.add({"w": _values(0)}, 2)
        np.testing.assert_allclose(total.settle()["w"], _values(0), atol=2**-41)
    finally:
        native.library.cache_clear()


def test_the_magic_number_rounds_as_numpy_does():
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 2**24 + 0.5]) * 2.0**-40
    sums = np.zeros(6, np.int64)
    exact._add_numpy(sums, values, 1, first=True)
    assert sums.tolist() == np.rint(values * 2.0**40).astype(np.int64).tolist() == [0, 2, 2, 0, -2, 2**24]
