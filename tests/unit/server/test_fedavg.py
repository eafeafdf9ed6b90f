import random

import numpy as np
import pytest

from neurofed.errors import UpdateError
from server.aggregation.base import MAX_ABS, MAX_EXAMPLES, Update, most_examples
from server.aggregation.fedavg import FEDAVG

SHAPES = {"layers.a.weight": (5, 3, 2), "layers.a.gain": (5,), "empty": (0, 4)}


def _model(rng, scale=1.0):
    model = {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in SHAPES.items()}
    return {**model, "steps": np.array([7, 8], np.int64)}


def _updates(count, seed=0):
    rng = np.random.default_rng(seed)
    return [Update(_model(rng), int(rng.integers(1, 500))) for _ in range(count)]


def _average(model, updates, workers=None):
    state = FEDAVG.init(model, workers or len(updates))
    for update in updates:
        state = FEDAVG.add(state, update)
    return FEDAVG.finish(state)


def _bits(model):
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in model.items()}


def test_any_order_of_arrival_gives_the_same_bits():
    start, updates = _model(np.random.default_rng(9)), _updates(13)
    expected = _bits(_average(start, updates))
    shuffler = random.Random(1)
    for _ in range(20):
        shuffler.shuffle(updates)
        assert _bits(_average(start, updates)) == expected


def test_the_result_is_the_weighted_mean():
    start, updates = _model(np.random.default_rng(9)), _updates(13)
    result = _average(start, updates)
    weights = [u.examples for u in updates]
    for name in SHAPES:
        mean = np.average([u.model[name].astype(np.float64) for u in updates], axis=0, weights=weights)
        np.testing.assert_allclose(result[name], mean, rtol=1e-6, atol=1e-9)
        assert result[name].dtype == np.float32


def test_names_keep_the_order_of_the_model_and_integers_its_values():
    start, updates = _model(np.random.default_rng(9)), _updates(3)
    for update in updates:
        update.model["steps"][:] = 99
    result = _average(start, updates)
    assert list(result) == list(start)
    assert result["steps"].tolist() == [7, 8]


def test_one_update_is_returned_as_it_came():
    (update,) = _updates(1)
    result = _average(update.model, [update])
    for name in SHAPES:
        np.testing.assert_allclose(result[name], update.model[name], rtol=2**-24, atol=2**-40)


def test_updates_and_model_are_left_alone():
    start, updates = _model(np.random.default_rng(9)), _updates(3)
    before = [_bits(start), *(_bits(u.model) for u in updates)]
    _average(start, updates)
    assert [_bits(start), *(_bits(u.model) for u in updates)] == before


def _with(value, name="layers.a.gain"):
    (update,) = _updates(1, seed=5)
    update.model[name].flat[-1] = value
    return update


def _changed(**arrays):
    (update,) = _updates(1, seed=5)
    return Update({**update.model, **arrays}, update.examples)


def _without(name):
    (update,) = _updates(1, seed=5)
    return Update({k: v for k, v in update.model.items() if k != name}, update.examples)


REFUSED = {
    "nan": (_with(np.nan), "finite"),
    "infinite": (_with(np.inf), "finite"),
    "minus infinite": (_with(-np.inf), "finite"),
    "nan in the first tensor": (_with(np.nan, "layers.a.weight"), "finite"),
    "too large": (_with(np.nextafter(np.float32(MAX_ABS), np.float32(100))), "at most 64"),
    "too small": (_with(-65.0), "at most 64"),
    "wrong shape": (_changed(**{"layers.a.gain": np.zeros(6, np.float32)}), "shape"),
    "shape that would broadcast": (_changed(**{"layers.a.gain": np.zeros(1, np.float32)}), "shape"),
    "no examples": (Update(_updates(1)[0].model, 0), "examples"),
    "negative examples": (Update(_updates(1)[0].model, -3), "examples"),
    "too many examples": (Update(_updates(1)[0].model, MAX_EXAMPLES), "examples"),
    "missing tensor": (_without("layers.a.gain"), "tensors"),
    "unknown tensor": (_changed(more=np.zeros(1, np.float32)), "tensors"),
}


@pytest.mark.parametrize("position", [0, 2, 4])
@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_update_is_refused_and_leaves_no_mark(case, position):
    bad, text = REFUSED[case]
    start, good = _model(np.random.default_rng(9)), _updates(4)
    expected = _bits(_average(start, good, workers=5))
    state = FEDAVG.init(start, 5)
    for n, update in enumerate([*good[:position], bad, *good[position:]]):
        if n == position:
            with pytest.raises(UpdateError, match=text):
                FEDAVG.add(state, update)
        else:
            state = FEDAVG.add(state, update)
    assert _bits(FEDAVG.finish(state)) == expected


@pytest.mark.parametrize("workers", [1, 2, 5, 1000])
@pytest.mark.parametrize("value", [MAX_ABS, -MAX_ABS])
def test_extremes_do_not_overflow(workers, value):
    model = {"w": np.full(3, value, np.float32)}
    result = _average(model, [Update(model, most_examples(workers))] * workers)
    assert result["w"].tolist() == [value] * 3


def test_the_most_examples_are_shared_among_the_workers():
    update = _updates(1)[0]
    most = most_examples(1024)
    assert most == MAX_EXAMPLES // 1024
    FEDAVG.add(FEDAVG.init(update.model, 1024), Update(update.model, most))
    with pytest.raises(UpdateError, match="examples"):
        FEDAVG.add(FEDAVG.init(update.model, 1024), Update(update.model, most + 1))


def test_nothing_added_is_an_error():
    with pytest.raises(UpdateError, match="at least one update"):
        FEDAVG.finish(FEDAVG.init(_updates(1)[0].model, 2))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_type_of_the_model_is_kept(dtype):
    model = {"w": np.array([0.5, -1.25], dtype)}
    result = _average(model, [Update(model, 3), Update(model, 4)])
    assert result["w"].dtype == dtype
    assert result["w"].tolist() == [0.5, -1.25]


def test_a_scalar_is_averaged_like_any_other():
    updates = [Update({"w": np.array(value, np.float32)}, 1) for value in (1.0, 2.0)]
    result = _average(updates[0].model, updates)
    assert result["w"].shape == ()
    assert result["w"] == 1.5
