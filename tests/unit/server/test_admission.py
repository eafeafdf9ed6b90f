import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from neurofed import flower
from neurofed.errors import NotEnoughWorkersError, UpdateError
from neurofed.v1 import monitor_pb2
from server.admission import FACTOR, NormScreen
from server.aggregation.fedavg import FEDAVG
from server.quarantine import Quarantine
from server.strategy import RuleStrategy

MODEL = {"w": np.full((3, 4), 0.5, np.float32), "b": np.zeros(4, np.float32), "steps": np.array([7], np.int64)}
LENGTH = float(np.sqrt(12 * 0.25))


def _moved(by, **others):
    return {**MODEL, "w": MODEL["w"] + np.float32(by / np.sqrt(12)), **others}


# -- the screen


def test_in_the_first_round_an_update_may_be_some_lengths_of_the_model_away():
    screen = NormScreen()
    assert screen.distance(MODEL, _moved(1.0)) == pytest.approx(1.0, rel=1e-6)
    screen.distance(MODEL, _moved(FACTOR * LENGTH * 0.99))
    with pytest.raises(UpdateError, match=r"within 17\.3 of the global model"):
        screen.distance(MODEL, _moved(FACTOR * LENGTH * 1.01))


def test_later_the_typical_distance_decides_and_it_never_shrinks():
    screen = NormScreen()
    screen.learn([0.1, 0.2, 5.0])
    assert screen.typical == 0.2
    screen.learn([])
    screen.learn([0.01])
    assert screen.typical == 0.2
    screen.distance(MODEL, _moved(1.9))
    with pytest.raises(UpdateError):
        screen.distance(MODEL, _moved(2.1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    weights = MODEL["w"].copy()
    weights[1, 2] = value
    with pytest.raises(UpdateError, match="finite"):
        NormScreen().distance(MODEL, _moved(0, w=weights))


def test_only_averaged_tensors_count():
    assert NormScreen().distance(MODEL, _moved(0, steps=np.array([10**12]))) == 0


def test_a_model_of_zeros_bounds_nothing_and_an_empty_one_neither():
    zeros = {"w": np.zeros(3, np.float32)}
    assert NormScreen().distance(zeros, {"w": np.full(3, 9.0, np.float32)}) > 15
    assert NormScreen().distance({}, {}) == 0


def test_pieces_add_up_to_the_whole():
    rng = np.random.default_rng(1)
    model, update = ({"w": rng.normal(size=600_001).astype(np.float32)} for _ in range(2))
    whole = np.linalg.norm(update["w"].astype(np.float64) - model["w"])
    assert NormScreen().distance(model, update) == pytest.approx(whole, rel=1e-12)


# -- the strategy


class Harness:
    """A strategy and its replies, without a fleet."""

    def __init__(self, state=None):
        self.events = []
        self.quarantine = Quarantine("run", self.events.append)
        self.strategy = RuleStrategy(
            FEDAVG,
            partitions=4,
            quorum=1,
            quarantine=self.quarantine,
            emit=self.events.append,
            after_round=lambda *_: None,
        )
        if state:
            self.strategy.restore(state)
        flower.set_identity(1, flower.SERVER_NODE_ID)

    def get_nodes(self):
        from flwr.proto.node_pb2 import NodeInfo

        return [NodeInfo(node_id=10 + n, name=f"w{n}") for n in range(4)]

    def round(self, number, updates):
        """Do a round; `updates` are models by worker. Returns who was asked, and the new model's bits."""
        messages = list(self.strategy.configure_train(number, flower.to_record(MODEL), ConfigRecord(), self))
        replies = []
        for message in messages:
            name = f"w{message.metadata.dst_node_id - 10}"
            if (update := updates.get(name)) is not None:
                arrays, numbers = flower.to_record(update), MetricRecord({"num-examples": 5, "loss": 0.5})
                flower.set_identity(1, message.metadata.dst_node_id)
                replies.append(Message(RecordDict({"arrays": arrays, "metrics": numbers}), reply_to=message))
                flower.set_identity(1, flower.SERVER_NODE_ID)
        model, _ = self.strategy.aggregate_train(number, replies)
        asked = [f"w{message.metadata.dst_node_id - 10}" for message in messages]
        return asked, {name: array.tobytes() for name, array in flower.to_numpy(model).items()}

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


GOOD = {f"w{n}": _moved(0.1 + 0.01 * n) for n in range(3)}
BAD = {
    "not finite": _moved(0, b=np.full(4, np.nan, np.float32)),
    "far away": _moved(100.0),
    "another shape": _moved(0, b=np.zeros(5, np.float32)),
    "another type": _moved(0, b=np.zeros(4, np.float16)),
    "a tensor less": {"w": MODEL["w"]},
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_update_leaves_no_trace_in_the_model_and_its_worker_is_asked_no_more(kind):
    without, with_it = Harness(), Harness()
    _, expected = without.round(1, GOOD)
    asked, got = with_it.round(1, {**GOOD, "w3": BAD[kind]})
    assert asked == ["w0", "w1", "w2", "w3"]
    assert got == expected
    (refused,) = with_it.of(monitor_pb2.ResultRejected)
    (event,) = with_it.of(monitor_pb2.WorkerQuarantined)
    assert (event.name, event.round, event.reason) == ("w3", 1, refused.reason)
    asked, got = with_it.round(2, GOOD)
    assert asked == ["w0", "w1", "w2"]
    assert got == without.round(2, GOOD)[1]


def test_a_resumed_run_keeps_its_quarantine_and_its_idea_of_updates():
    whole = Harness()
    whole.round(1, {**GOOD, "w3": BAD["far away"]})
    resumed = Harness(state=whole.strategy.state)
    assert resumed.strategy.state == whole.strategy.state
    assert resumed.events == [], "the log has told of it"
    assert resumed.round(2, GOOD) == whole.round(2, GOOD)


def test_a_checkpoint_of_an_older_version_says_nothing_of_either():
    old = Harness(state={"parts": {"w2": 3}})
    expected = {"parts": {"w2": 3}, "typical": 0.0, "quarantined": {}, "speeds": {}, "selection": {}}
    assert {key: old.strategy.state[key] for key in expected} == expected


def test_metrics_that_are_no_numbers_do_not_reach_the_means():
    harness = Harness()
    update = _moved(0.1)
    messages = list(harness.strategy.configure_train(1, flower.to_record(MODEL), ConfigRecord(), harness))
    replies = []
    for message, loss in zip(messages, (0.5, float("nan"), 1.5, float("inf")), strict=True):
        numbers = MetricRecord({"num-examples": 5, "loss": loss})
        replies.append(Message(RecordDict({"a": flower.to_record(update), "m": numbers}), reply_to=message))
    _, means = harness.strategy.aggregate_train(1, replies)
    assert dict(means) == {"loss": 1.0}


def test_when_nobody_is_left_the_run_says_so():
    harness = Harness()
    with pytest.raises(NotEnoughWorkersError, match="round 1"):
        harness.round(1, {"w0": BAD["not finite"]})


def test_the_first_reason_stays_and_is_told_once():
    events = []
    quarantine = Quarantine("run", events.append)
    quarantine.add("w", 1, "first\nline")
    quarantine.add("w", 2, "second")
    assert quarantine.reasons == {"w": "first line"}
    assert len(events) == 1
    quarantine.late("v", ("another run", 3), "late")
    assert len(events) == 1
    quarantine.late("v", ("run", 3), "late")
    assert (events[-1].worker, events[-1].round) == ("v", 3)
    assert "v" not in quarantine
