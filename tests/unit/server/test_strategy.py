"""The strategy on a scripted grid: who is asked for what, and what becomes of it. Numbers are computed by hand."""

import json
import math

import numpy as np
import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.proto.node_pb2 import NodeInfo

from neurofed import flower, metrics
from neurofed.errors import ConfigError, NotEnoughWorkersError
from neurofed.v1 import monitor_pb2
from server.aggregation import rule
from server.aggregation.fedavg import FEDAVG
from server.grid import FleetGrid
from server.quarantine import Quarantine
from server.selection import Selector, selection
from server.strategy import Mailbox, RuleStrategy

STEP = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
"""How far each worker moves the model."""
CHIP_S = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}
STEPS = 8


class FlowerGrid:
    """Workers that finish in a scripted order, on what Flower's grid offers.

    `order` names who finishes next; `!name` finishes with an error. Whoever is named and has nothing to do is passed
    over; when it is used up, nobody finishes any more.
    """

    def __init__(self, names, order=""):
        self.names, self.order = list(names), iter(order.split())
        self.open, self.asked, self.withdrawn = {}, [], []
        self.sent, self.controls = [], []
        self.changes = {}
        flower.set_identity(1, flower.SERVER_NODE_ID)

    def get_nodes(self):
        return [NodeInfo(node_id=ord(name), name=name) for name in self.names]

    def push_messages(self, messages):
        task_ids = []
        for message in messages:
            (config,) = message.content.config_records.values()
            name, number = chr(message.metadata.dst_node_id), config["server-round"]
            arrays = message.content["arrays"]
            self.asked.append((number, name))
            if "control" in message.content:
                self.controls.append((number, name, float(flower.to_numpy(message.content["control"])["w"][0])))
            self.sent.append((name, dict(config), float(flower.to_numpy(arrays)["w"][0])))
            task_ids.append(f"{number}/{name}")
            self.open[name] = (task_ids[-1], message)
        return task_ids

    def _next(self):
        while self.open:
            name = next(self.order, "")
            if not name:
                return self._reply(min(self.open), fails=True)
            if name.removeprefix("!") in self.open:
                return self._reply(name.removeprefix("!"), fails=name.startswith("!"))
        return None

    def _reply(self, name, fails):
        _, message = self.open.pop(name)
        flower.set_identity(1, message.metadata.dst_node_id)
        try:
            if fails:
                return Message(Error(2, "it failed"), reply_to=message)
            (config,), arrays = message.content.config_records.values(), message.content["arrays"]
            steps = math.ceil(STEPS * config.get("work", 1.0))
            numbers = {metrics.NUM_EXAMPLES: 1, metrics.STEPS: steps, metrics.CHIP_S: CHIP_S[name] * steps}
            numbers |= {metrics.ENERGY_J: 10.0, metrics.LOSS: STEP[name]}
            model = {"w": flower.to_numpy(arrays)["w"] + np.float32(STEP[name])}
            records = {"arrays": flower.to_record(model), "metrics": MetricRecord(numbers)}
            if (change := self.changes.get(name)) is not None:
                records["control"] = flower.to_record({"w": np.full(2, change, np.float32)})
            return Message(RecordDict(records), reply_to=message)
        finally:
            flower.set_identity(1, flower.SERVER_NODE_ID)

    def send_and_receive(self, messages, *, timeout=None):
        waiting = set(self.push_messages(messages))
        return self._exchange(waiting)

    def _exchange(self, waiting):
        try:
            while (reply := self._next()) is not None:
                yield reply
        finally:
            self._withdraw(waiting)

    def _withdraw(self, task_ids):
        for name, (task_id, _) in sorted(self.open.items()):
            if task_id in task_ids:
                self.withdrawn.append(task_id)
                del self.open[name]


class OpenGrid(FlowerGrid):
    """The same with what rounds that overlap need."""

    def receive(self):
        return self._next()

    def withdraw(self, task_ids, reason):
        assert reason
        self._withdraw(set(task_ids))


class Run:
    """A strategy at work, and what it left."""

    def __init__(self, grid, rounds, first_round=1, start=0.0, state=None, after=None, rule=FEDAVG, memory=None, **how):
        self.events, self.models, self.states, self.memories = [], [], [], []
        self.strategy = RuleStrategy(
            rule,
            **{"partitions": len(grid.names), "quorum": 1, **how},
            quarantine=Quarantine("run", self.events.append),
            emit=self.events.append,
            after_round=self._after,
        )
        if state:
            self.strategy.restore(state)
        if memory:
            self.strategy.memory = memory
        self._hook = after or (lambda number: None)
        self.strategy.start(grid, flower.to_record(_model(start)), rounds, first_round=first_round)

    def _after(self, number, model, state):
        self.models.append(float(model["w"][0]))
        self.states.append(state)
        self.memories.append(dict(self.strategy.memory))
        self._hook(number)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def _model(value):
    return {"w": np.full(2, value, np.float32)}


def test_the_fleets_grid_is_a_mailbox():
    assert issubclass(FleetGrid, Mailbox)
    assert isinstance(OpenGrid("a"), Mailbox)
    assert not isinstance(FlowerGrid("a"), Mailbox)


# -- rounds that wait for all, or for enough


def test_by_default_a_round_is_the_mean_of_all():
    run = Run(FlowerGrid("abc", "c a b  a b c"), 2)
    assert run.models == pytest.approx([7 / 3, 14 / 3])
    assert [event.updates for event in run.of(monitor_pb2.RoundAggregated)] == [3, 3]


def test_a_round_is_complete_with_enough_updates_and_the_rest_is_withdrawn():
    grid = FlowerGrid("abcd", "d b  a a c")
    run = Run(grid, 2, enough=2)
    assert run.models == [5.0, 5.0 + 2.5]
    assert grid.withdrawn == ["1/a", "1/c", "2/b", "2/d"]
    assert [list(event.workers) for event in run.of(monitor_pb2.RoundStarted)] == [list("abcd")] * 2


def test_failures_do_not_count_towards_enough():
    grid = FlowerGrid("abc", "!a b !c")
    run = Run(grid, 1, enough=2)
    assert run.models == [2.0]
    assert grid.withdrawn == []


def test_a_round_below_its_quorum_ends_the_run():
    with pytest.raises(NotEnoughWorkersError, match="round 1: expected updates of at least 2 workers, got 1"):
        Run(FlowerGrid("abc", "!a b !c"), 1, quorum=2, enough=2)


@pytest.mark.parametrize("name", ["fedavgm", "fedadam", "fedyogi", "fedadagrad"])
def test_a_rule_remembers_from_round_to_round_and_across_a_restart(name):
    whole = Run(FlowerGrid("ab", "a b " * 4), 4, rule=rule(name))
    forgetful = Run(FlowerGrid("ab", "a b " * 2), 4, 3, start=whole.models[1], state=whole.states[1], rule=rule(name))
    again = Run(
        FlowerGrid("ab", "a b " * 2), 4, 3, whole.models[1], whole.states[1], rule=rule(name), memory=whole.memories[1]
    )
    assert again.models == whole.models[2:] != forgetful.models


# -- rounds that overlap


def test_a_late_update_counts_in_a_later_round_by_its_age():
    """Round 1 is the mean of 1 and 2. In round 2, c comes with 4 on top of the old model: 1.5 + 4/sqrt(2), and a."""
    grid = OpenGrid("abc", "a b  c a")
    run = Run(grid, 2, enough=2, max_staleness=5)
    assert run.models == pytest.approx([1.5, 2 + math.sqrt(2)], rel=1e-6)
    second = run.of(monitor_pb2.RoundAggregated)[1]
    assert second.updates == 2
    assert second.train_metrics[metrics.STALENESS] == 0.5
    assert metrics.STALENESS not in run.of(monitor_pb2.RoundAggregated)[0].train_metrics


def test_the_order_within_a_buffer_is_without_effect():
    one = Run(OpenGrid("abc", "a b  c a"), 2, enough=2, max_staleness=5)
    other = Run(OpenGrid("abc", "b a  a c"), 2, enough=2, max_staleness=5)
    assert one.models == other.models
    digests = [[e.model_sha256 for e in run.of(monitor_pb2.RoundAggregated)] for run in (one, other)]
    assert digests[0] == digests[1]


def test_who_is_done_gets_the_newest_model_at_once_and_none_twice():
    grid = OpenGrid("abc", "a a a b  c c a")
    Run(grid, 2, enough=2, max_staleness=5)
    assert grid.asked == [(1, "a"), (1, "b"), (1, "c"), (2, "a"), (2, "b"), (2, "c")]
    assert [(name, value) for name, _, value in grid.sent[3:]] == [("a", 1.5), ("b", 1.5), ("c", 1.5)]


def test_a_buffer_of_all_without_late_ones_is_the_plain_mean():
    plain = Run(FlowerGrid("abc", "a b c " * 3), 3)
    buffered = Run(OpenGrid("abc", "c b a " * 3), 3, enough=3, max_staleness=5)
    assert buffered.models == plain.models


def test_what_is_too_late_is_withdrawn_and_its_worker_gets_the_newest_model():
    grid = OpenGrid("abc", "a b  a b  a b  c a")
    run = Run(grid, 4, enough=2, max_staleness=2)
    assert grid.withdrawn == ["1/c", "4/b"], "c in round 4, as three rounds late; b as the run ends"
    assert [number for number, name in grid.asked if name == "c"] == [1, 4]
    assert run.models == pytest.approx([1.5, 3.0, 4.5, 4.5 + 2.5])


def test_an_update_exactly_as_late_as_allowed_counts():
    run = Run(OpenGrid("abc", "a b  a b  c a"), 3, enough=2, max_staleness=2)
    assert run.models[2] == pytest.approx(3.0 + (4 / math.sqrt(3) + 1) / 2)


def test_a_failed_worker_is_asked_again_with_the_next_model():
    grid = OpenGrid("abc", "!a b c  a b")
    run = Run(grid, 2, enough=2, max_staleness=5)
    assert [number for number, name in grid.asked if name == "a"] == [1, 2]
    assert run.models == [3.0, 4.5]


def test_a_round_goes_on_with_its_quorum_when_nobody_is_left():
    run = Run(OpenGrid("abc", "a !b c"), 1, enough=3, quorum=2, max_staleness=5)
    assert run.models == [2.5]
    with pytest.raises(NotEnoughWorkersError):
        Run(OpenGrid("abc", "a !b !c"), 1, enough=3, quorum=2, max_staleness=5)


def test_a_worker_that_comes_within_a_round_is_asked_at_the_next_reply():
    class Growing(OpenGrid):
        def receive(self):
            reply = super().receive()
            self.names = ["a", "b", "c"]
            return reply

    grid = Growing("ab", "a b c")
    run = Run(grid, 1, enough=3, max_staleness=5, partitions=3)
    assert grid.asked == [(1, "a"), (1, "b"), (1, "c")]
    assert run.models == pytest.approx([7 / 3])


def test_nothing_is_under_way_once_the_rounds_end():
    grid = OpenGrid("abc", "a b")
    Run(grid, 1, enough=2, max_staleness=5)
    assert grid.withdrawn == ["1/c"]
    grid = OpenGrid("abc", "a b")

    def pause(number):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Run(grid, 2, enough=2, max_staleness=5, after=pause)
    assert (grid.withdrawn, grid.open) == (["1/c"], {})


def test_a_resumed_run_sends_what_was_under_way_again():
    grid = OpenGrid("abc", "c a")
    run = Run(grid, 2, first_round=2, start=1.5, state={"parts": {"a": 0, "b": 1, "c": 2}}, enough=2, max_staleness=5)
    assert grid.asked == [(2, "a"), (2, "b"), (2, "c")]
    assert run.models == [1.5 + 2.5]


def test_a_bad_update_of_an_old_model_goes_into_quarantine_too():
    class Poisoned(OpenGrid):
        def _reply(self, name, fails):
            reply = super()._reply(name, fails)
            if name == "c":
                reply.content["arrays"] = flower.to_record({"w": np.array([math.nan, 1], np.float32)})
            return reply

    run = Run(Poisoned("abc", "a b  c a b"), 2, enough=2, max_staleness=5)
    assert run.models == [1.5, 3.0]
    assert [event.name for event in run.of(monitor_pb2.WorkerQuarantined)] == ["c"]


def test_on_flowers_own_engines_rounds_do_not_overlap():
    with pytest.raises(ConfigError, match=r"^buffer: "):
        Run(FlowerGrid("a"), 1, enough=1, max_staleness=5)


# -- work by speed


def _work(grid):
    return [(config["server-round"], name, config.get("work")) for name, config, _ in grid.sent]


def test_slow_chips_do_less_from_the_second_round_on():
    grid = FlowerGrid("abc", "a b c  c b a")
    Run(grid, 2, scale_work=True)
    assert _work(grid) == [(1, "a", 1.0), (1, "b", 1.0), (1, "c", 1.0), (2, "a", 1.0), (2, "b", 0.5), (2, "c", 0.25)]


def test_the_fastest_that_is_there_sets_the_pace():
    grid = FlowerGrid("abc", "a b c  b c")

    def leave(number):
        grid.names = ["b", "c"]

    Run(grid, 2, scale_work=True, after=leave)
    assert _work(grid)[3:] == [(2, "b", 1.0), (2, "c", 0.5)]


def test_without_the_policy_no_message_speaks_of_work():
    grid = FlowerGrid("ab", "a b a b")
    run = Run(grid, 2)
    assert all("work" not in config for _, config, _ in grid.sent)
    assert run.states[-1]["speeds"] == {}


def test_a_resumed_run_shares_the_work_out_as_it_would_have():
    order = "c b a  a c b  b a c  c a b"
    whole = FlowerGrid("abc", order)
    run = Run(whole, 4, scale_work=True)
    resumed = FlowerGrid("abc", " ".join(order.split()[6:]))
    again = Run(resumed, 4, first_round=3, start=run.models[1], state=run.states[1], scale_work=True)
    assert _work(resumed) == _work(whole)[6:]
    assert again.models == run.models[2:]


# -- who has which part


def test_the_part_of_a_lost_worker_goes_to_one_that_stands_by():
    grid = FlowerGrid("abc", "a b  b c  c b a")

    def change(number):
        grid.names = ["b", "c"] if number == 1 else ["a", "b", "c"]

    Run(grid, 3, partitions=2, after=change)
    parts = [(config["server-round"], name, config["partition-id"]) for name, config, _ in grid.sent]
    assert parts == [(1, "a", 0), (1, "b", 1), (2, "b", 1), (2, "c", 0), (3, "b", 1), (3, "c", 0)]


def test_the_part_of_a_worker_in_quarantine_does_not_lie_idle():
    grid = FlowerGrid("abc", "a b  b c")
    state = {"parts": {"a": 0, "b": 1}, "quarantined": {"a": "it lied"}}
    Run(grid, 2, first_round=2, partitions=2, state=state)
    assert [(name, config["partition-id"]) for name, config, _ in grid.sent] == [("b", 1), ("c", 0)]


# -- rules in which workers have a part


def test_workers_are_told_what_the_rule_asks_of_them():
    grid = FlowerGrid("ab", "a b")
    Run(grid, 1, rule=rule("fedprox", {"mu": "0.25"}))
    assert [config["proximal-mu"] for _, config, _ in grid.sent] == [0.25, 0.25]


def _controlled_grid(names, order, **changes):
    grid = FlowerGrid(names, order)
    grid.changes = changes
    return grid


def test_a_control_goes_out_with_the_model_and_changes_come_back():
    grid = _controlled_grid("ab", "a b " * 3, a=1.0, b=-4.0)
    run = Run(grid, 3, rule=rule("scaffold"))
    assert grid.controls == [(1, "a", 0), (1, "b", 0), (2, "a", -1.5), (2, "b", -1.5), (3, "a", -3), (3, "b", -3)]
    assert run.models == [1.5, 3.0, 4.5]
    again = _controlled_grid("ab", "b a", a=1.0, b=-4.0)
    resumed = Run(again, 3, 3, run.models[1], run.states[1], rule=rule("scaffold"), memory=run.memories[1])
    assert again.controls == grid.controls[4:]
    assert resumed.memories[-1]["w"].tobytes() == run.memories[-1]["w"].tobytes()


def test_a_control_is_a_mean_over_all_workers_not_over_those_that_answered():
    grid = _controlled_grid("abcd", "a !b c !d" + " a b c d", a=1.0, b=1.0, c=3.0, d=1.0)
    Run(grid, 2, rule=rule("scaffold"))
    assert grid.controls[-1] == (2, "d", (1.0 + 3.0) / 4)


@pytest.mark.parametrize("wrong", [None, float("nan"), float("inf"), 65.0])
def test_a_wrong_change_of_control_leaves_no_trace_and_its_sender_is_in_quarantine(wrong):
    grid = _controlled_grid("abc", "a b c " * 2, a=1.0, b=wrong, c=3.0)
    run = Run(grid, 2, rule=rule("scaffold"))
    (rejected,) = run.of(monitor_pb2.ResultRejected)
    assert (rejected.worker, rejected.round) == ("b", 1)
    assert "control" in rejected.reason
    assert run.models == [2.5, 5.0]
    assert grid.controls[3:] == [(2, "a", pytest.approx(4 / 3)), (2, "c", pytest.approx(4 / 3))]


def test_an_update_that_cannot_be_added_takes_its_change_of_control_back():
    grid = _controlled_grid("abc", "a b c " * 2, a=1.0, b=2.0, c=3.0)
    run = Run(grid, 1, start=62.5, rule=rule("scaffold"))  # b and c move the model beyond 64
    assert [event.worker for event in run.of(monitor_pb2.ResultRejected)] == ["b", "c"]
    assert run.memories[0]["w"].tolist() == [pytest.approx(1 / 3)] * 2


# -- who is asked


def _selector(name, seed=0, least=0, **settings):
    return Selector(selection(name, settings), seed, [1, 1, 1, 1], least)


def test_only_the_chosen_are_asked_and_half_of_those_are_a_quorum():
    grid = FlowerGrid("abcd", "a b c d " * 6)
    run = Run(grid, 6, selector=_selector("uniform", fraction=0.5), quorum=3)
    started = run.of(monitor_pb2.RoundStarted)
    assert [len(event.workers) for event in started] == [2] * 6
    assert [[name for number, name in grid.asked if number == n] for n in range(1, 7)] == [
        list(event.workers) for event in started
    ]
    assert len({tuple(event.workers) for event in started}) > 1
    with pytest.raises(NotEnoughWorkersError, match="at least 3 workers, got 2"):
        Run(FlowerGrid("abcd", "a b !c !d"), 1, selector=_selector("uniform", least=3, fraction=1.0), quorum=3)


def test_a_resumed_run_asks_the_same_workers():
    settings = {"fraction": 0.5, "exploration": 0.5}
    grid = FlowerGrid("abcd", "a b c d " * 8)
    whole = Run(grid, 8, selector=_selector("utility", **settings))
    again = FlowerGrid("abcd", "d c b a " * 4)
    Run(again, 8, 5, whole.models[3], whole.states[3], selector=_selector("utility", **settings))
    assert sorted(again.asked) == sorted(asked for asked in grid.asked if asked[0] > 4)
    assert json.loads(json.dumps(whole.states[3])) == whole.states[3]


def test_workers_are_spared_once_their_budget_is_spent():
    selector = _selector("energy", fraction=1.0, budget_j=25)
    grid = FlowerGrid("ab", "a b " * 3)
    with pytest.raises(NotEnoughWorkersError, match=r"round 3: expected a worker .* 25 J, got none of 2"):
        Run(grid, 3, selector=selector)
    assert grid.asked == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert {name: seen.spent_j for name, seen in selector.seen.items()} == {"a": 20.0, "b": 20.0}
