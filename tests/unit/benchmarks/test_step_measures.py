"""How steps are timed and compared, and what becomes of numbers that could not be measured."""

import pytest
import torch

from benchmarks import train_step
from benchmarks.common import must
from benchmarks.snn import gradients, timing
from benchmarks.snn.peers import LIBRARIES
from benchmarks.snn.timing import Timing
from neuro_engine.layers import SpikingConv2d
from neuro_engine.neuron import LIF


class _Recorder:
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def step(self, inputs, targets):
        self.calls.append(self.name)


def test_contestants_take_turns_after_a_warm_up():
    calls = []
    trainers = {name: _Recorder(name, calls) for name in "ab"}
    timings = timing.interleaved(trainers, torch.zeros(1), torch.zeros(1), rounds=3, passes=2)
    assert "".join(calls) == "aabb" + "ab" * 6
    assert [len(t.cpu_s) for t in timings.values()] == [3, 3]


def test_ratio_is_the_median_of_the_rounds():
    assert timing.ratio(Timing([2.0, 9.0, 8.0]), Timing([1.0, 3.0, 1.0])) == 3.0


def test_quartiles_of_one_round_are_that_round():
    assert timing.quartiles([2.0]) == [2.0, 2.0, 2.0]
    assert timing.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 3.0, 4.0]


def test_what_could_not_be_measured_is_not_met():
    assert must("a", None, "<=", 1.0) == {"name": "a", "value": None, "op": "<=", "limit": 1.0, "met": False}


@pytest.mark.parametrize("absent", [None, "Norse"])
def test_speed_needs_all_libraries(absent):
    ratios = {library: 3.0 + n for n, library in enumerate(LIBRARIES) if library != absent}
    ratios[str(train_step.UNCOUNTED)] = 0.98
    variants = [str(train_step.WEIGHT), str(train_step.BATCH)]
    rows = [{"net": "a", "contestant": v, "times_faster_than": ratios, "highest_rate": 0.08} for v in variants]
    speeds = [row["value"] for row in train_step.step_musts(rows) if "faster" in row["name"]]
    assert speeds == ([None, None] if absent else [3.0, 3.0])
    (counting,) = [row for row in train_step.step_musts(rows) if "counting" in row["name"]]
    assert counting["value"] == pytest.approx(1 / 0.98)


def test_memory_is_compared_with_the_leanest():
    rows = [{"net": "a", "contestant": name, "peak_mb": 90.0} for name in LIBRARIES]
    rows[2]["peak_mb"] = 60.0
    assert train_step.memory_must([*rows, {"net": "a", "contestant": str(train_step.WEIGHT), "peak_mb": 15.0}])["met"]
    assert train_step.memory_must(rows[:2])["value"] is None


@pytest.mark.parametrize("norm", ["weight", "batch", "none"])
def test_gradients_of_a_layer_agree_with_float64(norm):
    torch.manual_seed(0)
    layer = SpikingConv2d(3, 8, 3, padding=1, norm=norm)
    errors = gradients.layer_errors(layer, (torch.rand(4, 2, 3, 6, 6) < 0.3).float())
    assert {"input", "weight"} < errors.keys()
    assert max(errors.values()) <= 1e-5


def test_a_wrong_gradient_is_seen():
    torch.manual_seed(0)
    layer = SpikingConv2d(3, 8, 3, padding=1)
    layer.register_full_backward_hook(lambda module, grads, _: (grads[0] * 1.001,))
    errors = gradients.layer_errors(layer, (torch.rand(4, 2, 3, 6, 6) < 0.3).float())
    assert errors["input"] == pytest.approx(1e-3, rel=0.01)


def test_the_reference_refuses_a_neuron_that_it_does_not_know():
    layer = SpikingConv2d(3, 8, 3, padding=1, neuron=LIF(reset="soft"))
    with pytest.raises(AssertionError):
        gradients.layer_errors(layer, torch.rand(2, 1, 3, 6, 6))
