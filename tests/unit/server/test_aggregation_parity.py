"""The same results as Flower's strategies, where both are defined."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from neurofed.flower import SERVER_NODE_ID, set_identity
from server.aggregation import krum, rule
from server.aggregation.base import Update

SHAPES = {"w": (40, 30), "b": (7,)}
ROUNDS = 3


class _NoGrid:
    """A grid with a few nodes, to which nothing is sent."""

    def get_node_ids(self):
        return range(1, 4)


def _updates(model, count, seed, equal=True):
    """Updates about a common step, the first of them far away."""
    rng = np.random.default_rng(seed)
    step = {name: rng.normal(0, 0.05, shape) for name, shape in SHAPES.items()}
    updates = []
    for i in range(count):
        spread = 1.0 if i == 0 else 0.01 * (1 + i)
        arrays = {
            name: (model[name] + step[name] + rng.normal(0, spread, shape)).astype(np.float32)
            for name, shape in SHAPES.items()
        }
        updates.append(Update(arrays, 10 if equal else int(rng.integers(1, 500))))
    return updates


def _record(model):
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in model.items()})


def _reply(update, number):
    content = RecordDict(
        {"arrays": _record(update.model), "metrics": MetricRecord({"num-examples": update.examples, "loss": 0.0})}
    )
    return Message(content, reply_to=Message(RecordDict(), number + 1, "train"))


def _of_flower(strategy, model, number, updates):
    list(strategy.configure_train(number, _record(model), ConfigRecord(), _NoGrid()))
    arrays, _ = strategy.aggregate_train(number, [_reply(update, i) for i, update in enumerate(updates)])
    return {name: array.numpy() for name, array in arrays.items()}


CASES = {
    "fedavg": (flower.FedAvg(), {}, 5),
    "fedprox": (flower.FedProx(proximal_mu=0.1), {"mu": 0.1}, 5),
    "fedavgm": (
        flower.FedAvgM(server_learning_rate=0.7, server_momentum=0.9),
        {"lr": 0.7, "momentum": 0.9},
        5,
    ),
    "fedadam": (flower.FedAdam(eta=0.02, beta_1=0.8, beta_2=0.95, tau=1e-3),
                {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "tau": 1e-3}, 5),
    "fedyogi": (flower.FedYogi(eta=0.02, beta_1=0.8, beta_2=0.95, tau=1e-3),
                {"lr": 0.02, "beta1": 0.8, "beta2": 0.95, "tau": 1e-3}, 5),
    "fedadagrad": (flower.FedAdagrad(eta=0.02, tau=1e-3), {"lr": 0.02, "tau": 1e-3}, 5),
    "median": (flower.FedMedian(), {}, 6),
    "trimmed-mean": (flower.FedTrimmedAvg(beta=0.2), {"attackers": 0.2}, 7),
    "krum": (flower.Krum(num_malicious_nodes=1), {"attackers": 0.2}, 7),
    "multi-krum": (flower.MultiKrum(num_malicious_nodes=1, num_nodes_to_select=6), {"attackers": 0.2}, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_parity_over_some_rounds(name):
    set_identity(1, SERVER_NODE_ID)
    theirs, settings, count = CASES[name]
    ours = rule(name, settings)
    rng = np.random.default_rng(3)
    model = {key: rng.normal(0, 0.1, shape).astype(np.float32) for key, shape in SHAPES.items()}
    memory = {}
    for number in range(1, ROUNDS + 1):
        updates = _updates(model, count, number, equal=name not in ("fedavg", "fedavgm", "fedadam"))
        state = ours.init(model, count, memory)
        for update in updates:
            state = ours.add(state, update)
        new, memory = ours.finish(state), ours.memory(state)
        expected = _of_flower(theirs, model, number, updates)
        assert new.keys() == expected.keys()
        for key, array in new.items():
            np.testing.assert_allclose(array, expected[key], atol=1e-6, rtol=0)
        model = new


def test_bulyan_differs_from_flowers_in_the_choice_alone():
    """Flower takes the best all at once; the paper, and we, one after the other, each judged by those still left."""
    set_identity(1, SERVER_NODE_ID)
    model = {key: np.zeros(shape, np.float32) for key, shape in SHAPES.items()}
    updates = _updates(model, 7, 1)
    theirs = _of_flower(flower.Bulyan(num_malicious_nodes=1), model, 1, updates)
    flat = np.stack([np.concatenate([u.model[key].ravel() for key in SHAPES]) for u in updates]).astype(np.float64)
    chosen = krum.best(krum.squared_distances(flat @ flat.T), 1, 5)
    for key in SHAPES:
        rows = np.stack([updates[i].model[key].ravel() for i in chosen])
        np.testing.assert_allclose(krum.mean_about_median(3, rows), theirs[key].ravel(), atol=1e-6, rtol=0)
