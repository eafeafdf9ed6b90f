"""The strategy and the app's queries of secure aggregation, against each other, on a grid without a network."""

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from support_apps import AppGrid

from neurofed import flower, metrics
from neurofed.errors import NotEnoughWorkersError
from neurofed.secagg import messages
from neurofed.v1 import monitor_pb2
from server.aggregation import rule
from server.aggregation.base import Update
from server.masked import MaskedStrategy
from server.quarantine import Quarantine
from worker.masking import Masking
from worker.trainer import LocalResult

STEP = {number: 0.1 * number for number in range(1, 6)}
EXAMPLES = {number: 10 + number for number in STEP}
KEYS, LETTERS, TRAIN, SHARES = "query.secagg_keys", "query.secagg_letters", "train", "query.secagg_shares"


def local_model(arrays, number):
    return {"w": arrays["w"] + np.float32(STEP[number]), "steps": arrays["steps"]}


def client(number):
    app = ClientApp()
    masking = Masking(app)

    @app.train()
    def train(message, _context):
        ((_, arrays),) = flower.array_records(message.content).items()
        ((_, config),) = flower.config_records(message.content).items()
        numbers = {metrics.NUM_EXAMPLES: EXAMPLES[number], metrics.LOSS: float(number)}
        result = LocalResult(local_model(flower.to_numpy(arrays), number), numbers)
        return Message(RecordDict(masking.records(config, result)), reply_to=message)

    return app


def workers(fails=(), changes=None):
    return AppGrid({number: client(number) for number in STEP}, fails, changes)


class Run:
    def __init__(self, grid, name="fedavg", rounds=1, threshold=4, enough=0, quorum=1):
        self.events, self.models = [], []
        self.strategy = MaskedStrategy(
            rule(name),
            threshold=threshold,
            partitions=5,
            quorum=quorum,
            enough=enough,
            quarantine=Quarantine("run", self.events.append),
            emit=self.events.append,
            after_round=lambda number, model, state: self.models.append(model),
        )
        start = {"w": np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), "steps": np.array([3])}
        self.start = start
        self.strategy.start(grid, flower.to_record(start), rounds)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def plain(start, numbers, name="fedavg", rounds=1):
    strategy, model, memory = rule(name), start, {}
    for _ in range(rounds):
        state = strategy.init(model, 5, memory)
        for number in numbers:
            state = strategy.add(state, Update(local_model(model, number), EXAMPLES[number]))
        model, memory = strategy.finish(state), strategy.memory(state)
    return model


def test_rounds_are_those_of_the_open_rule_to_the_bit():
    run = Run(workers(), rounds=3)
    assert run.models[-1]["w"].tobytes() == plain(run.start, STEP, rounds=3)["w"].tobytes()
    assert run.models[-1]["steps"] == 3
    (first, *_) = run.of(monitor_pb2.RoundAggregated)
    assert (first.updates, first.examples) == (5, sum(EXAMPLES.values()))
    assert first.train_metrics[metrics.LOSS] == 3.0, "every worker counts the same: its examples are not known"


def test_optimizers_go_on_from_the_mean():
    run = Run(workers(), "fedadam", rounds=3)
    np.testing.assert_allclose(run.models[-1]["w"], plain(run.start, STEP, "fedadam", 3)["w"], atol=1e-6)
    assert int(run.strategy.memory["rounds"]) == 3


@pytest.mark.parametrize("kind", [KEYS, LETTERS, TRAIN, SHARES])
def test_a_worker_that_fails_at_any_step_does_not_spoil_the_round(kind):
    run = Run(workers(fails=[(kind, 2)]))
    counted = [n for n in STEP if n != 2 or kind == SHARES]
    assert run.models[0]["w"].tobytes() == plain(run.start, counted)["w"].tobytes()
    assert not run.of(monitor_pb2.ResultRejected)


@pytest.mark.parametrize("kind", [KEYS, LETTERS, TRAIN, SHARES])
def test_too_many_that_fail_end_it(kind):
    with pytest.raises(NotEnoughWorkersError, match="at least 4 workers, 3 sent"):
        Run(workers(fails=[(kind, 2), (kind, 4)]))


def test_a_worker_that_was_started_again_has_vanished():
    grid = workers()

    def restart(records):
        grid.apps[3] = client(3)
        return records

    grid.changes[LETTERS, 3] = restart
    run = Run(grid)
    assert run.models[0]["w"].tobytes() == plain(run.start, [1, 2, 4, 5])["w"].tobytes()


def test_enough_updates_complete_a_round():
    grid = workers()
    run = Run(grid, enough=4)
    assert [n for kind, n, _ in grid.seen if kind == TRAIN] == [1, 2, 3, 4]
    assert run.models[0]["w"].tobytes() == plain(run.start, [1, 2, 3, 4])["w"].tobytes()


def test_the_quorum_holds_beside_the_threshold():
    with pytest.raises(NotEnoughWorkersError, match="at least 5 workers, got 4"):
        Run(workers(fails=[(TRAIN, 2)]), quorum=5)


def _with_array(array):
    return lambda records: RecordDict({**records, messages.MASKED: flower.to_record(array)})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (KEYS, lambda records: RecordDict({})),
        (LETTERS, lambda records: RecordDict({})),
        (TRAIN, _with_array({messages.MASKED: np.zeros(3, np.int64)})),
        (TRAIN, _with_array({"w": np.zeros((2, 3), np.float32), "steps": np.array([3])})),
        (SHARES, lambda records: RecordDict({})),
    ],
    ids=["no keys", "no letters", "a short vector", "an open model", "no shares"],
)
def test_who_sends_what_cannot_be_is_in_quarantine(kind, change):
    run = Run(workers(changes={(kind, 2): change}))
    (rejected,) = run.of(monitor_pb2.ResultRejected)
    assert (rejected.worker, rejected.round) == ("board-2", 1)
    counted = [n for n in STEP if n != 2 or kind == SHARES]
    assert run.models[0]["w"].tobytes() == plain(run.start, counted)["w"].tobytes()


def test_no_update_and_no_number_of_examples_is_seen():
    grid = workers()
    run = Run(grid)
    seen = {number: records for kind, number, records in grid.seen if kind == TRAIN}
    for number, records in seen.items():
        (vector,) = flower.to_numpy(records[messages.MASKED]).values()
        fixed = np.rint(local_model(run.start, number)["w"].astype(np.float64) * 2**40).astype(np.int64).reshape(-1)
        assert not np.any(vector[:-1] == fixed * EXAMPLES[number])
        assert vector[-1] != EXAMPLES[number]
        assert metrics.NUM_EXAMPLES not in records["metrics"]


def test_sessions_differ_so_that_a_round_done_again_has_other_masks():
    one, two = workers(), workers()
    Run(one)
    Run(two)
    vectors = [flower.to_numpy(r["masked"])["masked"].tobytes() for g in (one, two) for k, _, r in g.seen if k == TRAIN]
    assert len(set(vectors)) == 10
