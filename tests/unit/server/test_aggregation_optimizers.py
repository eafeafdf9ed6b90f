"""Rules that remember: computed by hand, and resumed."""

import math

import numpy as np
import pytest

from neurofed import statefile
from neurofed.errors import UpdateError
from server.aggregation import BUILT_IN, rule
from server.aggregation.base import Update

MODEL = {"w": np.array([1.0, -2.0], np.float32), "n": np.array([3])}
REMEMBERING = ("fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold")


def _update(values, examples=1, extra=(0.0, 0.0)):
    return Update({"w": np.array(values, np.float32), "n": np.array([9])}, examples, {"w": np.array(extra, np.float32)})


def _rounds(strategy, deltas, model=MODEL, memory=None):
    memory = {} if memory is None else memory
    for delta in deltas:
        state = strategy.init(model, 2, memory)
        for part, examples in ((delta - 0.25, 1), (delta + 0.25, 1)):
            update = _update(model["w"] + np.float32(part), examples, (part, -part))
            state = strategy.add(state, update if strategy.sends_memory else Update(update.model, examples))
        model, memory = strategy.finish(state), strategy.memory(state)
    return model, memory


def test_fedavgm_adds_its_momentum():
    model, memory = _rounds(rule("fedavgm", {"lr": 0.5, "momentum": 0.5}), [0.5, 1.0])
    # m = 0.5, then 0.25 + 1.0; the model moves by half of each
    np.testing.assert_allclose(model["w"], MODEL["w"] + 0.5 * 0.5 + 0.5 * 1.25, rtol=1e-6)
    np.testing.assert_allclose(memory["m/w"], [1.25, 1.25], rtol=1e-6)
    assert model["n"].tolist() == [3]


def test_fedadagrad_divides_by_the_root_of_the_sum_of_squares():
    model, _ = _rounds(rule("fedadagrad", {"lr": 0.1, "tau": 0.001}), [0.5, 1.0])
    moved = 0.1 * 0.5 / (0.5 + 0.001) + 0.1 * 1.0 / (math.sqrt(1.25) + 0.001)
    np.testing.assert_allclose(model["w"], MODEL["w"] + moved, rtol=1e-6)


def test_fedadam_is_adam_on_the_mean():
    model, memory = _rounds(rule("fedadam", {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.001}), [0.5, 1.0])
    first = 0.1 * math.sqrt(1 - 0.99**2) / (1 - 0.9**2) * 0.05 / (math.sqrt(0.0025) + 0.001)
    m, v = 0.9 * 0.05 + 0.1, 0.99 * 0.0025 + 0.01
    second = 0.1 * math.sqrt(1 - 0.99**3) / (1 - 0.9**3) * m / (math.sqrt(v) + 0.001)
    np.testing.assert_allclose(model["w"], MODEL["w"] + first + second, rtol=1e-6)
    assert memory["rounds"] == 2


def test_fedyogi_lets_the_second_moment_grow_only_so_fast():
    model, memory = _rounds(rule("fedyogi", {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.001}), [0.5, 1.0])
    v = [0.0025, 0.0025 + 0.01]
    moved = 0.1 * 0.05 / (math.sqrt(v[0]) + 0.001) + 0.1 * 0.145 / (math.sqrt(v[1]) + 0.001)
    np.testing.assert_allclose(model["w"], MODEL["w"] + moved, rtol=1e-6)
    np.testing.assert_allclose(memory["v/w"], [v[1]] * 2, rtol=1e-6)


def test_scaffold_moves_its_control_by_the_share_of_workers_that_came():
    strategy = rule("scaffold")
    state = strategy.init(MODEL, 4, {"w": np.array([1.0, 1.0], np.float32)})
    state = strategy.add(state, _update([2.0, 0.0], 3, (4.0, -2.0)))
    state = strategy.add(state, _update([6.0, 4.0], 1, (0.0, 2.0)))
    assert strategy.finish(state)["w"].tolist() == [3.0, 1.0]
    assert strategy.memory(state)["w"].tolist() == [1.0 + (4.0 + 0.0) / 4, 1.0]


@pytest.mark.parametrize("wrong", [{}, {"w": np.zeros(3, np.float32)}, {"w": np.full(2, np.nan, np.float32)}], ids=str)
def test_scaffold_refuses_a_control_that_does_not_fit(wrong):
    strategy = rule("scaffold")
    state = strategy.init(MODEL, 2)
    with pytest.raises(UpdateError):
        strategy.add(state, Update({"w": MODEL["w"], "n": MODEL["n"]}, 1, wrong))


def test_scaffold_takes_a_good_control_out_again_where_its_model_is_refused():
    strategy, states = rule("scaffold"), []
    for attack in (False, True):
        state = strategy.init(MODEL, 3)
        if attack:
            with pytest.raises(UpdateError):
                strategy.add(state, _update([np.nan, 0.0], 1, (1.0, 1.0)))
        state = strategy.add(state, _update([1.0, 0.0], 1, (0.5, 0.25)))
        strategy.finish(state)
        states.append(strategy.memory(state)["w"].tobytes())
    assert states[0] == states[1]


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_run_resumed_from_its_state_file_has_the_same_bits(name, tmp_path):
    deltas = [0.5, -0.3, 0.11, 0.7]
    through, through_memory = _rounds(rule(name), deltas)
    model, memory = _rounds(rule(name), deltas[:2])
    statefile.write(tmp_path / "state", memory, {})
    model, memory = _rounds(rule(name), deltas[2:], model, statefile.read(tmp_path / "state")[0])
    assert model["w"].tobytes() == through["w"].tobytes()
    assert {n: a.tobytes() for n, a in memory.items()} == {n: a.tobytes() for n, a in through_memory.items()}


@pytest.mark.parametrize("name", REMEMBERING)
def test_the_memory_that_was_given_is_left_alone(name):
    _, memory = _rounds(rule(name), [0.5])
    before = {n: np.asarray(a).tobytes() for n, a in memory.items()}
    _rounds(rule(name), [0.25], memory=memory)
    assert {n: np.asarray(a).tobytes() for n, a in memory.items()} == before


def test_all_others_remember_nothing():
    for name in set(BUILT_IN) - set(REMEMBERING):
        strategy = rule(name)
        assert strategy.memory(strategy.init(MODEL, 9)) == {}
