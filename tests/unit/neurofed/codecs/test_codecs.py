"""Codecs by hand: what is on the wire, byte by byte, and what is read of it."""

import struct

import numpy as np
import pytest

from neurofed import codecs, spec
from neurofed.codecs import rice
from neurofed.codecs.allocation import divided, largest
from neurofed.codecs.base import Context, applied, difference, elements
from neurofed.codecs.topk import TopK
from neurofed.errors import ConfigError, DataError, UnknownNameError, UnknownSettingError, UpdateError
from neurofed.tensors import BFLOAT16

MODEL = {"w": np.zeros((2, 4), np.float32), "steps": np.zeros(2, np.int64), "z": np.zeros(2, np.float32)}
CHANGE = {
    "w": np.array([[0, 3, 0, -1], [0, 0, 5, 0]], np.float32),
    "z": np.array([0.5, -2], np.float32),
}
HEAD = struct.Struct("<BI")


def written(name, change=CHANGE, context=None, **settings):
    codec = codecs.choose(name, {k.replace("_", "-"): str(v) for k, v in settings.items()}).up
    return codec, codecs.write(codec, change, 7, context or Context((1, 7, 0))).body


def came_back(name, change=CHANGE, model=MODEL, context=None, **settings):
    codec, data = written(name, change, context, **settings)
    return codecs.read(codec, data, model, 7)


def test_dense_is_what_it_was():
    _, data = written("dense")
    assert data.tobytes() == HEAD.pack(0, 7) + CHANGE["w"].tobytes() + CHANGE["z"].tobytes()
    for name, values in came_back("dense").items():
        assert np.array_equal(values, CHANGE[name])


def test_fp16_rounds_to_nearest_and_keeps_to_its_range():
    change = {"w": np.array([[1 + 2**-12, 1e6, -1e6, 1e-9]] * 2, np.float32), "z": np.zeros(2, np.float32)}
    got = came_back("fp16", change)["w"][0]
    assert got.tolist() == [1.0, 65504.0, -65504.0, 0.0]


def test_int8_has_a_scale_for_each_row_and_rounds_up_as_often_as_it_should():
    rows = np.array([[127, 10.25, 0, -127], [1.27, 0.1025, 0, 0]], np.float32)
    change = {"w": rows, "z": np.zeros(2, np.float32)}
    _, data = written("int8", change)
    assert len(data) == HEAD.size + (2 * 4 + 8) + (4 + 2)
    scales = np.frombuffer(data.tobytes(), "<f4", 2, HEAD.size)
    assert scales == pytest.approx([1.0, 0.01])
    got = np.stack([came_back("int8", change, context=Context((1, n, 0)))["w"] for n in range(400)])
    assert np.abs(got - rows).max() <= 1.0
    assert got[:, 0, 1].mean() == pytest.approx(10.25, abs=0.1)
    assert set(got[:, 0, 1]) == {10.0, 11.0}
    assert (got[:, 0, 2] == 0).all()


def test_int8_of_one_key_has_the_same_bits_and_of_another_key_has_others():
    change = {"w": np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4), "z": np.ones(2, np.float32)}
    first, again, other = (written("int8", change, Context(key))[1] for key in ((3, 1, 0), (3, 1, 0), (3, 1, 1)))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_top_k_byte_by_byte():
    # Elements 0..9: w is 0..7, b is 8 and 9. The three largest are 1 (3), 6 (5) and 9 (-2): gaps 1, 4, 2.
    # With a remainder of 1 bit: quotients 0, 2, 1 and remainders 1, 0, 0. With 0 bits: 7 zeros and 3 ones, as many.
    _, data = written("top-k", fraction=0.3)
    means = np.array([4, 2], BFLOAT16).tobytes()
    lengths = {b: sum(g >> b for g in (1, 4, 2)) + 3 * b for b in range(4)}
    bits = min(lengths, key=lengths.get)
    assert bits == 1
    quotients = np.packbits([1, 0, 0, 1, 0, 1]).tobytes()
    signs_and_remainders = np.packbits([0, 1, 0, 0, 1, 0]).tobytes()
    expected = HEAD.pack(3, 7) + struct.pack("<IHB", 3, 0, 1) + means + quotients + signs_and_remainders
    assert data.tobytes() == expected


def test_top_k_is_read_as_one_magnitude_for_each_tensor():
    got = came_back("top-k", fraction=0.3)
    assert got["w"].tolist() == [[0, 4, 0, 0], [0, 0, 4, 0]]
    assert got["z"].tolist() == [0, -2]


def test_top_k_sends_small_tensors_whole():
    codec = TopK(3, 0.25, "global", whole=2)
    data = codecs.write(codec, CHANGE, 1, Context()).body
    got = codecs.read(codec, data, MODEL, 1)
    assert sorted(got) == ["w", "z"]
    assert got["z"].tolist() == [0.5, -2]
    assert got["w"].tolist() == [[0, 4, 0, 0], [0, 0, 4, 0]]
    only_small = {"z": CHANGE["z"]}
    assert codecs.read(codec, codecs.write(codec, only_small, 1, Context()).body, {"z": MODEL["z"]}, 1)["z"][0] == 0.5


def test_the_same_total_is_divided_uniformly_or_by_activity():
    change = {"a": np.arange(1, 101, dtype=np.float32), "z": np.full(100, 1000, np.float32)}
    uniform = largest(change, 20, "uniform", {})
    assert [(uniform < 100).sum(), (uniform >= 100).sum()] == [10, 10]
    assert uniform[:10].tolist() == list(range(90, 100)), "the largest of the tensor, in ascending order"
    active = largest(change, 20, "activity", {"a": 0.3, "z": 0.1})
    assert [(active < 100).sum(), (active >= 100).sum()] == [15, 5]
    assert (largest(change, 20, "global", {}) >= 100).all()
    assert largest(change, 20, "activity", {}).tolist() == uniform.tolist(), "nothing was counted"


@pytest.mark.parametrize(
    ("total", "sizes", "weights", "expected"),
    [
        (10, [100, 100], [3.0, 1.0], [8, 2]),
        (10, [4, 100], [1e6, 1.0], [4, 6]),
        (104, [4, 100], [1.0, 0.0], [4, 100]),
        (3, [10, 10, 10], [0.0, 0.0, 0.0], [1, 1, 1]),
        (1, [10, 10], [1.0, 1.0], [1, 0]),
        (5, [10, 10], [float("nan"), 1.0], [0, 5]),
        (0, [10], [1.0], [0]),
    ],
)
def test_shares_of_a_total(total, sizes, weights, expected):
    assert divided(total, np.array(sizes), np.array(weights)).tolist() == expected


def test_low_rank_is_exact_for_matrices_of_that_rank():
    rng = np.random.default_rng(0)
    matrix = (rng.standard_normal((30, 2)) @ rng.standard_normal((2, 40))).astype(np.float32)
    model = {"w": np.zeros((30, 5, 8), np.float32), "z": np.zeros(3, np.float32)}
    change = {"w": matrix.reshape(30, 5, 8), "z": np.array([1, 2, 3], np.float32)}
    codec, data = written("low-rank", change, rank=2)
    assert len(data) == HEAD.size + 1 + 2 * 2 * (30 + 40) + 2 * 3
    got = codecs.read(codec, data, model, 7)
    assert got["z"].tolist() == [1, 2, 3]
    assert np.abs(got["w"] - change["w"]).max() < 0.01 * np.abs(matrix).max()


def test_low_rank_comes_closer_to_the_best_with_a_warm_start():
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((60, 80)).astype(np.float32)
    model, change = {"w": np.zeros_like(matrix)}, {"w": matrix}
    codec = codecs.choose("low-rank", {"rank": "3"}).up
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    best = np.linalg.norm(matrix - (u[:, :3] * s[:3]) @ v[:3])
    memory, errors = {}, []
    for _ in range(30):
        encoded = codecs.write(codec, change, 1, Context((1,), memory=memory))
        memory = encoded.memory
        errors.append(np.linalg.norm(matrix - codecs.read(codec, encoded.body, model, 1)["w"]))
    assert errors[-1] < errors[0]
    assert errors[-1] < 1.01 * best


def test_low_rank_starts_afresh_after_a_change_that_was_zero():
    zero = {"w": np.zeros((30, 40), np.float32)}
    codec = codecs.choose("low-rank", {}).up
    memory = codecs.write(codec, zero, 1, Context((1,))).memory
    ones = {"w": np.ones((30, 40), np.float32)}
    data = codecs.write(codec, ones, 2, Context((2,), memory=memory)).body
    assert codecs.read(codec, data, zero, 2)["w"] == pytest.approx(1.0, rel=1e-2)


def test_a_change_is_applied_in_the_models_types_and_leaves_whole_numbers_alone():
    model = {"w": np.ones(2, np.float16), "h": np.ones(2, BFLOAT16), "n": np.array([4], np.int64)}
    after = applied(model, {"w": np.array([0.5, 1e9], np.float32), "h": np.array([1, 2], np.float32)})
    assert [a.dtype for a in after.values()] == [np.float16, BFLOAT16, np.int64]
    assert after["w"].tolist() == [1.5, np.inf], "which an aggregation rule refuses"
    assert after["n"].tolist() == [4]
    assert list(difference({"h": after["h"], "n": after["n"]}, {"h": model["h"], "n": model["n"]})) == ["h"]


def test_a_change_that_is_not_finite_is_not_sent():
    with pytest.raises(DataError, match=r"'w'.*finite"):
        difference({"w": np.array([np.nan], np.float32)}, {"w": np.zeros(1, np.float32)})


@pytest.mark.parametrize("name", codecs.NAMES)
def test_bytes_of_another_round_codec_or_length_are_refused(name):
    model = {"w": np.zeros((40, 50), np.float32), "z": np.zeros(2, np.float32)}
    rng = np.random.default_rng(0)
    change = {k: rng.standard_normal(a.shape).astype(np.float32) for k, a in model.items()}
    codec, data = written(name, change)
    with pytest.raises(UpdateError, match="round 8"):
        codecs.read(codec, data, model, 8)
    other = codecs.choose("int8" if name != "int8" else "fp16", {}).up
    with pytest.raises(UpdateError, match="codec"):
        codecs.read(other, data, model, 7)
    for wrong in (data[:-1], np.append(data, np.uint8(0)), data[:3], data.astype(np.int8), data[None]):
        with pytest.raises(UpdateError):
            codecs.read(codec, wrong, model, 7)


@pytest.mark.parametrize(("name", "place"), [("dense", 5), ("fp16", 5), ("int8", 5), ("top-k", 12), ("low-rank", 6)])
def test_numbers_that_are_not_finite_are_refused(name, place):
    model = {"w": np.zeros((40, 50), np.float32)}
    codec, data = written(name, {"w": np.ones((40, 50), np.float32)})
    data[place : place + 4] = 0xFF
    with pytest.raises(UpdateError, match="finite"):
        codecs.read(codec, data, model, 7)


def test_scales_whose_product_is_infinite_are_refused():
    codec, data = written("int8", {"w": np.full((1, 4), 1e38, np.float32)})
    data[5:9] = np.frombuffer(np.float32(3e38).tobytes(), np.uint8)
    with pytest.raises(UpdateError, match="finite"):
        codecs.read(codec, data, {"w": np.zeros((1, 4), np.float32)}, 7)


def test_another_k_or_an_index_behind_the_model_is_refused():
    codec, data = written("top-k", fraction=0.3)
    more = data.copy()
    more[5] = 4
    with pytest.raises(UpdateError, match="expected 3 of 10 elements"):
        codecs.read(codec, more, MODEL, 7)
    gaps = np.array([1, 4, 3])
    section = np.concatenate([rice.write_quotients(gaps, 1), rice.write_columns([np.zeros(3), gaps & 1])])
    with pytest.raises(UpdateError, match="below 10, got 10"):
        codecs.read(codec, np.concatenate([data[:16], section]), MODEL, 7)


def test_a_model_without_floating_tensors_has_changes_without_bytes():
    model = {"n": np.arange(3)}
    for name in codecs.NAMES:
        codec, data = written(name, {})
        assert codecs.read(codec, data, model, 7) == {}
    assert elements(model) == 0


@pytest.mark.parametrize(
    ("name", "settings", "error", "text"),
    [
        ("top-kk", {}, UnknownNameError, "'top-k'"),
        ("top-k", {"down": "zip"}, UnknownNameError, "'zip'"),
        ("top-k", {"fractoin": "1"}, UnknownSettingError, "'fraction'"),
        ("int8", {"fraction": "0.1"}, UnknownSettingError, "'top-k'"),
        ("top-k", {"down-rank": "1"}, UnknownSettingError, "'low-rank'"),
        ("top-k", {"fraction": "0"}, ConfigError, r"\(0, 1\]"),
        ("top-k", {"fraction": "nan"}, ConfigError, r"\(0, 1\]"),
        ("top-k", {"fraction": "much"}, ConfigError, "a float"),
        ("top-k", {"turns": "maybe"}, ConfigError, "true or false"),
        ("top-k", {"feedback": "2"}, ConfigError, r"\[0, 1\]"),
        ("top-k", {"allocation": "fair"}, ConfigError, "uniform"),
        ("low-rank", {"rank": "0"}, ConfigError, "1 to 255"),
    ],
)
def test_wrong_settings_say_what_would_be_right(name, settings, error, text):
    with pytest.raises(error, match=text):
        codecs.choose(name, settings)


def test_nothing_is_encoded_unless_it_was_asked_for():
    assert codecs.choose("dense", {}).plain
    assert not codecs.choose("dense", {"down": "fp16"}).plain
    assert not codecs.choose("dense", {"down": "fp16"}).feedback, "nothing is left over"
    chosen = codecs.choose("top-k", {"fraction": "0.5", "down": "top-k", "down-fraction": "0.25"})
    assert (chosen.up.fraction, chosen.down.fraction, chosen.feedback) == (0.5, 0.25, 1.0)


def test_the_specification_of_a_run_knows_all_codecs():
    assert spec.CODECS == codecs.NAMES


def test_senders_that_take_turns_never_send_the_same_element():
    workers, size = 3, 20
    codec = codecs.choose("top-k", {"fraction": "1"}, workers).up
    model, change = {"w": np.zeros(size, np.float32)}, {"w": np.ones(size, np.float32)}
    seen = []
    for turn in (5, 6, 7):
        body = codecs.write(codec, change, 1, Context(turn=turn)).body
        seen.append(np.flatnonzero(codecs.read(codec, body, model, 1)["w"]).tolist())
    assert sorted(index for chosen in seen for index in chosen) == list(range(size))
    assert seen[0] == list(range(2, size, 3)), "5 modulo 3 comes first"
    assert (codec.gain, codecs.choose("top-k", {"fraction": "1"}, workers).feedback) == (3.0, 0.5)
    assert codecs.choose("top-k", {"turns": "false"}, workers).feedback == 1.0
