"""The way down in few bytes: the chain of models, who is sent a change of it, and what becomes of who lacks it."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from neurofed import codecs, flower, metrics
from neurofed.codecs.base import applied, digest
from neurofed.errors import DataError, UpdateError
from neurofed.records import ARRAYS, CHANGE, CONFIG, DIGEST, LACKS, MODEL_BYTES, NUMBERS, UPDATE
from neurofed.v1 import fleet_pb2, monitor_pb2, records_pb2
from server.aggregation.base import Update
from server.aggregation.fedavg import FEDAVG
from server.downloads import Downloads
from server.intake import budget_bytes
from server.quarantine import Quarantine
from server.strategy import RuleStrategy
from server.wire import Wire
from worker.updates import Holder, Sender, activity

TOP_K = {"down": "top-k", "down-fraction": "0.25", "down-whole": "0"}


def model_of(*values):
    return {"w": np.array(values, np.float32), "n": np.array([3], np.int64)}


def chain(initial=None):
    return Downloads(codecs.choose("dense", TOP_K).down, 1, initial or model_of(0, 0, 0, 0))


def test_what_a_change_leaves_out_is_in_the_next():
    downloads = chain()
    downloads.advance(model_of(1, 2, 3, 4), 1)
    assert downloads.model["w"].tolist() == [0, 0, 0, 4], "the largest of four"
    downloads.advance(model_of(1, 2, 3, 4.5), 2)
    assert downloads.model["w"].tolist() == [0, 0, 3, 4]
    for number in (3, 4, 5):
        downloads.advance(model_of(1, 2, 3, 4.5), number)
    assert downloads.model["w"].tolist() == [1, 2, 3, 4.5]
    assert downloads.model["n"].tolist() == [3]


def test_who_was_not_there_in_the_last_round_is_sent_all_of_it():
    downloads = chain()
    downloads.advance(model_of(1, 2, 3, 4), 1)
    assert downloads.may_change("a"), "before the first round all hold the initial model"
    downloads.learn("a", 1)
    downloads.advance(model_of(1, 2, 3, 4), 2)
    assert [downloads.may_change(name) for name in "ab"] == [True, False]
    downloads.forget("a")
    assert not downloads.may_change("a")


def test_a_resumed_chain_has_the_same_links():
    whole, cut = chain(), chain()
    rng = np.random.default_rng(0)
    models = [model_of(*rng.standard_normal(4)) for _ in range(5)]
    for number, model in enumerate(models, 1):
        whole.advance(model, number)
        if number == 3:
            for early, link in enumerate(models[:3], 1):
                cut.advance(link, early)
            cut.learn("a", 3)
            resumed = chain()
            shuffled = dict(sorted(cut.arrays.items(), reverse=True))
            resumed.restore(json.loads(json.dumps(cut.state)), shuffled)
        elif number > 3:
            resumed.advance(model, number)
            assert resumed.change.tobytes() == whole.change.tobytes()
            assert resumed.digest == whole.digest == digest(whole.model)
    assert resumed.state == {"round": 5, "holders": {"a": 3}}


class Store(dict):
    """Where a worker of these tests keeps things."""

    def load(self, name):
        return dict(sorted(self.get(name, {}).items(), reverse=True))

    def save(self, name, arrays):
        self[name] = {key: array.copy() for key, array in arrays.items()}


def test_a_worker_puts_the_same_links_together_and_knows_when_it_cannot():
    downloads, store = chain(), Store()
    holder = Holder(codecs.choose("dense", TOP_K).down, store, lambda: model_of(0, 0, 0, 0))
    for number in (1, 2):
        downloads.advance(model_of(number, 2, 3, 4), number)
        model = holder.changed(downloads.change, number, downloads.digest)
        assert model["w"].tolist() == downloads.model["w"].tolist()
    store.clear()
    downloads.advance(model_of(9, 2, 3, 4), 3)
    assert holder.changed(downloads.change, 3, downloads.digest) is None, "its state was lost"
    holder.keep(downloads.model)
    downloads.advance(model_of(9, 9, 3, 4), 4)
    assert digest(holder.changed(downloads.change, 4, downloads.digest)) == downloads.digest
    other = Holder(codecs.choose("dense", TOP_K).down, Store(), lambda: {"v": np.zeros(9, np.float32)})
    assert other.changed(downloads.change, 4, downloads.digest) is None, "of another model"


@dataclass
class Grid:
    """Workers that hold what they were sent, until they lose it in the rounds that say so; all move by their step."""

    steps: dict[str, float]
    loses: set[tuple[int, str]] = field(default_factory=set)
    settings: dict[str, str] = field(default_factory=lambda: dict(TOP_K))
    sent: list[tuple[int, str, str]] = field(default_factory=list)
    stubborn: str = ""

    def __post_init__(self):
        self.stores = {name: Store() for name in self.steps}
        self.codecs = codecs.choose("dense", self.settings)
        flower.set_identity(1, flower.SERVER_NODE_ID)

    def get_nodes(self):
        return [NodeInfo(node_id=ord(name), name=name) for name in self.steps]

    def send_and_receive(self, messages, *, timeout=None):
        for message in messages:
            yield self.reply(message)

    def reply(self, message):
        name = chr(message.metadata.dst_node_id)
        (config,) = flower.config_records(message.content).values()
        ((kind, record),) = flower.array_records(message.content).items()
        number, got = config["server-round"], flower.to_numpy(record)
        self.sent.append((number, name, kind))
        store = self.stores[name]
        if (number, name) in self.loses and kind == CHANGE:
            store.clear()
            store.save("codec-model", model_of(7, 7, 7, 7))
        holder = Holder(self.codecs.down, store, lambda: model_of(0, 0, 0, 0))
        if kind == CHANGE and name != self.stubborn:
            model = holder.changed(got[CHANGE], number, config[DIGEST])
        else:
            model = got
            holder.keep(model)
        flower.set_identity(1, message.metadata.dst_node_id)
        try:
            if model is None or name == self.stubborn:
                lacks = {LACKS: np.array([number], np.uint8)}
                return Message(RecordDict({LACKS: flower.to_record(lacks)}), reply_to=message)
            trained = applied(model, {"w": np.full(4, self.steps[name], np.float32)})
            body = Sender(self.codecs.up, 0.0, store).write(trained, model, number, codecs.Context())
            numbers = flower.packed({metrics.NUM_EXAMPLES: 1})
            return Message(RecordDict({UPDATE: flower.to_record({UPDATE: body}), NUMBERS: numbers}), reply_to=message)
        finally:
            flower.set_identity(1, flower.SERVER_NODE_ID)


def run(grid, rounds=3, **how):
    events, models = [], []
    strategy = RuleStrategy(
        FEDAVG,
        partitions=len(grid.steps),
        quorum=1,
        **how,
        wire=Wire("dense", grid.settings, 1, len(grid.steps), lambda: model_of(0, 0, 0, 0)),
        quarantine=Quarantine("run", events.append),
        emit=events.append,
        after_round=lambda _number, model, _state: models.append(model["w"].tolist()),
    )
    strategy.start(grid, flower.to_record(model_of(1, 2, 3, 4)), rounds)
    return events, models


def test_workers_are_sent_changes_and_the_aggregator_adds_what_they_learnt_to_its_own_model():
    grid = Grid({"a": 1.0, "b": 3.0})
    _, models = run(grid)
    assert {kind for *_, kind in grid.sent} == {CHANGE}
    assert models == [[3, 4, 5, 6], [5, 6, 7, 8], [7, 8, 9, 10]], "exact, though links are behind"


def test_a_worker_that_lost_its_state_is_sent_the_whole_model_in_the_same_round():
    undisturbed, grid = Grid({"a": 1.0, "b": 3.0}), Grid({"a": 1.0, "b": 3.0}, {(2, "a"), (3, "b")})
    events, models = run(grid)
    assert models == run(undisturbed)[1]
    assert grid.sent[2:] == [
        (2, "a", CHANGE), (2, "b", CHANGE), (2, "a", ARRAYS),
        (3, "a", CHANGE), (3, "b", CHANGE), (3, "b", ARRAYS),
    ]  # fmt: skip
    assert not [e for e in events if isinstance(e, monitor_pb2.WorkerQuarantined | monitor_pb2.ResultRejected)]
    aggregated = [e.updates for e in events if isinstance(e, monitor_pb2.RoundAggregated)]
    assert aggregated == [2, 2, 2]


def test_a_worker_that_says_so_of_a_whole_model_is_in_quarantine():
    events, models = run(Grid({"a": 1.0, "b": 3.0}, stubborn="a"), rounds=2)
    (bad,) = [e for e in events if isinstance(e, monitor_pb2.WorkerQuarantined)]
    assert bad.name == "a"
    assert models[-1] == [7, 8, 9, 10]


class OpenGrid(Grid):
    """The same where rounds overlap."""

    waiting = None

    def push_messages(self, messages):
        self.waiting = self.waiting or []
        self.waiting += list(messages)
        return [f"{message.metadata.group_id}/{message.metadata.dst_node_id}" for message in messages]

    def receive(self):
        return self.reply(self.waiting.pop(0)) if self.waiting else None

    def withdraw(self, task_ids, reason):
        self.waiting = [
            m for m in self.waiting or [] if f"{m.metadata.group_id}/{m.metadata.dst_node_id}" not in task_ids
        ]


def test_where_rounds_overlap_who_lacks_the_model_is_asked_again_at_once():
    grid = OpenGrid({"a": 1.0, "b": 3.0}, {(2, "a")})
    events, _ = run(grid, enough=2, max_staleness=5)
    assert grid.sent[2:5] == [(2, "a", CHANGE), (2, "b", CHANGE), (2, "a", ARRAYS)]
    assert not [e for e in events if isinstance(e, monitor_pb2.WorkerQuarantined | monitor_pb2.ResultRejected)]


def test_an_update_may_be_as_long_as_the_model_however_short_the_change_was():
    content = records_pb2.Content()
    content.blob.size_bytes = 1000
    small = budget_bytes(fleet_pb2.Task(content=content))
    content.configs[CONFIG].values[MODEL_BYTES].integer = 100 << 20
    assert small < 20 << 20 < 400 << 20 <= budget_bytes(fleet_pb2.Task(content=content))


@pytest.mark.parametrize("packed", [1, "text", b"", b"nonsense"])
def test_numbers_that_cannot_be_unpacked_are_refused(packed):
    with pytest.raises(DataError):
        flower.unpacked(RecordDict({NUMBERS: ConfigRecord({NUMBERS: packed})}))


def test_updates_of_workers_that_take_turns_are_multiplied_so_that_a_mean_is_whole():
    wire = Wire("top-k", {"fraction": "1"}, 0, 2)
    codec = codecs.choose("top-k", {"fraction": "1"}, 2).up
    base, mean = {"w": np.zeros(4, np.float32)}, np.zeros(4)
    for part in (0, 1):
        body = codecs.write(codec, {"w": np.full(4, 3, np.float32)}, 5, codecs.Context(turn=5 + part)).body
        mean += wire.decoded(Update({UPDATE: body}, 1), base, 5).model["w"] / 2
    assert mean.tolist() == [3, 3, 3, 3]


def test_anything_but_an_encoded_update_is_refused():
    wire = Wire("fp16")
    for model in ({}, {"w": np.zeros(4, np.float32)}, {UPDATE: np.zeros(4, np.float32)}):
        with pytest.raises(UpdateError, match="encoded"):
            wire.decoded(Update(model, 1), {"w": np.zeros(4, np.float32)}, 1)


def test_activity_is_gradients_times_the_spikes_that_come_in():
    numbers = {
        "spike-rate": 0.9,
        "spike-rate/one": 0.25,
        "gradient-density/one": 0.5,
        "gradient-density/two": 1.0,
        "gradient-density": 0.1,
    }
    names = ("l.one.weight", "l.one.bias", "l.two.weight", "l.two.bias", "other.weight")
    model = {name: np.zeros((2, 2) if name.endswith("weight") else 2) for name in names}
    assert activity(numbers, model) == {
        "l.one.weight": 0.5,
        "l.one.bias": 0.5,
        "l.two.weight": 0.25,
        "l.two.bias": 1.0,
    }
    assert activity({}, model) == {}


def test_asking_for_the_budget_leaves_the_task_as_it_is() -> None:
    content = records_pb2.Content()
    content.configs["config"].values["seed"].integer = 1
    task = fleet_pb2.Task(content=content)
    before = task.SerializeToString()
    budget_bytes(task)
    assert task.SerializeToString() == before
