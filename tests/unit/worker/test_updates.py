"""Error feedback: what was not sent is late, not lost, and a task that is done twice gives the same bits."""

import numpy as np
import pytest

from neurofed import codecs
from neurofed.codecs.base import applied, difference
from worker.state import State, StateStore
from worker.updates import Sender


class Kept:
    """As the ClientApp keeps things."""

    def __init__(self, folder, number):
        self.store, self.number = StateStore(folder), number

    def load(self, name):
        state = self.store.load("run", name, self.number)
        return state.arrays if state else {}

    def save(self, name, arrays):
        self.store.save("run", name, State(self.number, arrays))


def send(folder, number, step, codec, feedback=1.0, size=8):
    base = {"w": np.zeros((2, size // 2), np.float32)}
    after = applied(base, {"w": step.reshape(2, -1)})
    body = Sender(codec, feedback, Kept(folder, number)).write(
        after, base, number, codecs.Context((1, number, 0), turn=number)
    )
    return body, codecs.read(codec, body, base, number)["w"].reshape(-1)


def test_what_is_not_sent_comes_later(tmp_path):
    codec = codecs.choose("top-k", {"fraction": "0.125", "turns": "false"}).up
    step = np.array([0, 0, 3, 0, 2, 0, 0, 1], np.float32)
    _, first = send(tmp_path, 1, step, codec)
    assert first.tolist() == [0, 0, 3, 0, 0, 0, 0, 0]
    _, second = send(tmp_path, 2, step * 0, codec)
    assert second.tolist() == [0, 0, 0, 0, 2, 0, 0, 0]
    _, third = send(tmp_path, 3, step * 0, codec)
    assert third.tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


def test_half_of_it_comes_later_with_a_feedback_of_a_half_and_nothing_with_none(tmp_path):
    codec = codecs.choose("top-k", {"fraction": "0.125", "turns": "false"}).up
    step = np.array([0, 0, 3, 0, 2, 0, 0, 1], np.float32)
    for feedback, expected in ((0.5, 1.0), (0.0, 0.0)):
        folder = tmp_path / str(feedback)
        send(folder, 1, step, codec, feedback)
        assert send(folder, 2, step * 0, codec, feedback)[1][4] == expected
    assert not (tmp_path / "0.0").exists(), "nothing to keep"


@pytest.mark.parametrize("name", ["fp16", "int8", "top-k", "low-rank"])
def test_all_that_was_sent_and_what_is_left_is_all_that_was_learnt(tmp_path, name):
    codec = codecs.choose(name, {"rank": "1"} if name == "low-rank" else {}, workers=2).up
    rng = np.random.default_rng(0)
    steps = [rng.standard_normal(800).astype(np.float32) for _ in range(4)]
    sent = sum(send(tmp_path, number, step, codec, size=800)[1] for number, step in enumerate(steps, 1))
    kept = Kept(tmp_path, 5).load("codec-update")
    assert sent + kept["rest/w"].reshape(-1) == pytest.approx(sum(steps), abs=1e-5)


@pytest.mark.parametrize("name", ["int8", "top-k", "low-rank"])
def test_a_round_done_again_gives_the_same_bits_whatever_came_after(tmp_path, name):
    codec = codecs.choose(name, {"rank": "1"} if name == "low-rank" else {}, workers=2).up
    rng = np.random.default_rng(1)
    steps = [rng.standard_normal(800).astype(np.float32) for _ in range(5)]
    whole = [send(tmp_path / "whole", n, s, codec, size=800)[0].tobytes() for n, s in enumerate(steps, 1)]
    cut = tmp_path / "cut"
    for number in (1, 2, 3, 4, 3, 3, 4, 5):
        body = send(cut, number, steps[number - 1], codec, size=800)[0]
        assert body.tobytes() == whole[number - 1]


def test_what_is_left_of_a_model_of_another_shape_is_left_alone(tmp_path):
    codec = codecs.choose("top-k", {"turns": "false"}).up
    send(tmp_path, 1, np.arange(8, dtype=np.float32), codec)
    _, got = send(tmp_path, 2, np.array([0, 0, 0, 5], np.float32), codec, size=4)
    assert got.tolist() == [0, 0, 0, 5]


def test_the_change_is_in_float32_whatever_the_model_is():
    change = difference({"w": np.array([1.5], np.float16)}, {"w": np.array([1], np.float16)})
    assert change["w"].dtype == np.float32
