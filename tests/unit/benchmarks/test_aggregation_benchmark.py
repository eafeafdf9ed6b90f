"""What benchmarks.aggregation compares does the same work."""

import numpy as np

from benchmarks import aggregation
from server.aggregation import rule


def test_all_contestants_compute_the_same_mean():
    model = aggregation.random_model(np.random.default_rng(0), 4)
    updates = aggregation.random_updates(model, 5)
    ours, memory = aggregation.aggregate(rule("fedavg"), model, updates, 5)
    theirs = aggregation.FlowerRecords(updates).aggregate(updates)
    limit = aggregation.torch_streaming(updates)
    assert memory == {}
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name].numpy(), array, atol=1e-6)
        np.testing.assert_allclose(limit[name].numpy(), array, atol=1e-6)


def test_the_peak_is_counted_in_bytes():
    assert 8000 <= aggregation.peak_bytes(lambda _: np.zeros(1000), []) < 20_000


def test_verdicts_take_the_worst_of_all_counts():
    fedavg = [
        {"fedavg": who, "updates": count, "gb_per_s": speed, "extra_models": 1.5}
        for count, speeds in ((5, (6.0, 2.0, 10.0)), (20, (8.0, 4.0, 9.0)))
        for who, speed in zip(("neurofed", "flwr", "torch add_"), speeds, strict=True)
    ]
    rules = [{"extra_models": 3.0, "remembers_models": 1.0}, {"extra_models": 2.0, "remembers_models": 0.0}]
    orders = [{"rule": "median", "bit_patterns": 1}, {"rule": "flwr FedAvg", "bit_patterns": 60}]
    verdicts = {row["name"]: row["value"] for row in aggregation.musts(fedavg, rules, orders)}
    assert list(verdicts.values()) == [6.0, 2.0, 0.6, 1.5, 2.0, 1]
