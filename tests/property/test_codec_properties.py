"""What must hold of any update that is encoded, and of any bytes that claim to be one."""

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurofed import codecs
from neurofed.codecs import numbers, rice
from neurofed.codecs.base import Context
from neurofed.errors import DataError, UpdateError

# A busy machine is no failure.
untimed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

ROUND = 5
shapes = st.lists(st.integers(0, 12), min_size=0, max_size=3).map(tuple)
models = st.dictionaries(st.text("abc.", min_size=1, max_size=4), shapes, max_size=5).map(
    lambda found: {name: np.zeros(shape, np.float32) for name, shape in found.items()}
)
choices = st.one_of(
    st.sampled_from([("dense", {}), ("fp16", {}), ("int8", {})]),
    st.builds(
        lambda fraction, allocation, turns: (
            "top-k",
            {"fraction": str(fraction), "allocation": allocation, "turns": str(turns)},
        ),
        st.floats(0.001, 1.0),
        st.sampled_from(["global", "uniform", "activity"]),
        st.booleans(),
    ),
    st.builds(lambda rank: ("low-rank", {"rank": str(rank)}), st.integers(1, 4)),
)


def codec_of(choice, workers=3):
    return codecs.choose(*choice, workers=workers).up


def change_of(model, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return {name: (scale * rng.standard_normal(a.shape)).astype(np.float32) for name, a in model.items()}


@untimed
@given(models, choices, st.integers(0, 99), st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]))
def test_what_is_written_is_read_and_never_farther_away_than_nothing_at_all(model, choice, seed, scale):
    codec, change = codec_of(choice), change_of(model, seed, scale)
    context = Context((1, ROUND, seed), {name: float(n) for n, name in enumerate(model)}, turn=seed)
    sent = codecs.write(codec, change, ROUND, context)
    assert sent.body.tobytes() == codecs.write(codec, change, ROUND, context).body.tobytes()
    got = codecs.read(codec, sent.body, model, ROUND)
    assert {name: (a.shape, a.dtype) for name, a in got.items()} == {n: (a.shape, a.dtype) for n, a in change.items()}
    if choice[0] != "int8" and scale <= 1.0:  # int8 rounds either way, fp16 has a range
        total = sum(float(np.square(v.astype(float)).sum()) for v in change.values())
        left = sum(float(np.square(got[n].astype(float) - v).sum()) for n, v in change.items())
        assert left <= total * 1.001 + 1e-12


@untimed
@given(models, choices, st.binary(max_size=200))
def test_any_bytes_are_a_change_or_refused(model, choice, data):
    codec = codec_of(choice)
    head = bytes([codec.code]) + ROUND.to_bytes(4, "little")
    for text in (data, head + data):
        try:
            got = codecs.read(codec, np.frombuffer(text, np.uint8), model, ROUND)
        except UpdateError:
            continue
        assert {name: a.shape for name, a in got.items()} == {name: a.shape for name, a in model.items()}
        assert all(np.isfinite(a).all() for a in got.values())


@untimed
@given(
    models,
    choices,
    st.integers(0, 99),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-9, 9),
)
def test_a_damaged_encoding_is_a_change_or_refused(model, choice, seed, flips, longer):
    codec = codec_of(choice)
    body = codecs.write(codec, change_of(model, seed), ROUND, Context((seed,), turn=seed)).body.copy()
    for place, value in flips:
        body[place % body.size] = value
    body = np.append(body, np.zeros(longer, np.uint8)) if longer > 0 else body[: max(0, body.size + longer)]
    try:
        got = codecs.read(codec, body, model, ROUND)
    except UpdateError:
        return
    assert all(np.isfinite(a).all() and a.shape == model[name].shape for name, a in got.items())


@pytest.mark.parametrize("name", codecs.NAMES)
@pytest.mark.parametrize("seed", range(8))
def test_nothing_takes_more_memory_than_a_few_models(name, seed):
    model = {"w": np.zeros((256, 512), np.float32), "z": np.zeros(512, np.float32)}
    model_bytes = sum(a.nbytes for a in model.values())
    codec, rng = codec_of((name, {})), np.random.default_rng(seed)
    honest = codecs.write(codec, change_of(model, seed), ROUND, Context((seed,))).body
    damaged = honest.copy()
    damaged[5:12] = rng.integers(0, 256, 7)
    bomb = np.concatenate([honest[:5], rng.integers(0, 256, 50_000, np.uint8)])
    most = np.concatenate([honest[:5], np.full(4 * model_bytes, 0xFF, np.uint8)])
    for body in (honest, damaged, bomb, most, honest[:12]):
        tracemalloc.start()
        try:
            codecs.read(codec, body, model, ROUND)
        except UpdateError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak <= 6 * model_bytes


@untimed
@given(st.sets(st.integers(0, 5000)), st.integers(0, 14))
def test_any_set_of_numbers_comes_back(chosen, bits):
    indices = np.array(sorted(chosen), np.int64)
    gaps = rice.gaps_of(indices)
    quotients = rice.read_quotients(rice.write_quotients(gaps, bits), len(indices), 5001 >> bits)
    columns = rice.bit_columns(gaps, bits)
    low = (
        rice.read_columns(rice.write_columns(columns), len(indices), bits) if bits else np.zeros((len(indices), 0), int)
    )
    assert rice.indices_of((quotients << bits) | rice.number_of(low)).tolist() == indices.tolist()


@untimed
@given(st.integers(1, 6).map(lambda n: 10.0**-n), st.integers(0, 9))
def test_random_sets_take_little_more_than_their_entropy(density, seed):
    size = 200_000
    count = max(200, int(density * size))
    indices = np.sort(np.random.default_rng(seed).choice(size, count, replace=False))
    gaps = rice.gaps_of(indices)
    bits = rice.best_bits(gaps)
    p = count / size
    entropy = -size * (p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert 8 * len(rice.write_quotients(gaps, bits)) + bits * count <= 1.05 * entropy + 8


@untimed
@given(st.dictionaries(st.text(max_size=9), st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1)), max_size=9))
def test_any_table_of_numbers_comes_back(table):
    if any("\0" in name for name in table):
        return
    got = numbers.unpack(numbers.pack(table))
    assert list(got) == list(table)
    with np.errstate(over="ignore"):
        for name, value in table.items():
            expected = value if isinstance(value, int) else float(np.float32(value))
            assert got[name] == expected or got[name] != got[name]


@untimed
@given(st.binary(max_size=100))
def test_any_bytes_are_a_table_or_refused(data):
    with contextlib.suppress(DataError):
        assert len(numbers.unpack(data)) <= numbers.MAX_NUMBERS
