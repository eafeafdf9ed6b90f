"""benchmarks.non_iid trains for real: its bounds and rules differ where they should, and agree where they must."""

import numpy as np
import pytest

from benchmarks import non_iid
from benchmarks.non_iid import CENTRALISED, LOCAL, PARTITIONS, RULES, Federation, Scale, table, variants
from neurofed.spec import STRATEGIES
from server.aggregation import rule

TINY = Scale("tiny", 2, 1, ("two-classes",), (0,), {"train_clips": "24", "test_clips": "24", "local_epochs": "1"})


@pytest.fixture(scope="module")
def federation():
    return Federation(TINY, "two-classes", 0)


def _model(federation, strategy, monkeypatch):
    seen = []
    monkeypatch.setattr(Federation, "accuracy", lambda self, model: seen.append(model) or 0.0)
    federation.together(strategy)
    return np.concatenate([array.reshape(-1) for array in seen[0].values()])


def test_rules_are_those_that_a_run_may_ask_for():
    for variant in RULES.values():
        assert variant.rule in STRATEGIES
        rule(variant.rule, dict(variant.settings))
        Federation(TINY, "iid", 0, variant.workload)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_every_partition_is_one_of_the_workload(partition):
    Federation(TINY, partition, 0)


def test_a_proximal_term_holds_workers_back_and_none_does_not(federation, monkeypatch):
    plain = _model(federation, rule("fedavg"), monkeypatch)
    np.testing.assert_array_equal(_model(federation, rule("fedprox", {"mu": 0.0}), monkeypatch), plain)
    assert not np.array_equal(_model(federation, rule("fedprox", {"mu": 1.0}), monkeypatch), plain)


def test_scaffolds_first_round_is_that_of_fedavg_and_its_second_is_not(federation, monkeypatch):
    plain, scaffold = (_model(federation, rule(name), monkeypatch) for name in ("fedavg", "scaffold"))
    np.testing.assert_array_equal(plain, scaffold)
    monkeypatch.setattr(federation, "_rounds", 2)
    plain, scaffold = (_model(federation, rule(name), monkeypatch) for name in ("fedavg", "scaffold"))
    assert not np.array_equal(plain, scaffold)


def test_there_is_a_row_for_each_variant():
    wanted = variants(non_iid.FULL)
    assert len(wanted) == 1 + len(PARTITIONS) * (len(RULES) + 1)
    rows = table(wanted[:2], [[0.5, 0.25, 0.75], [0.1, 0.1, 0.1]])
    assert [row["variant"] for row in rows] == [CENTRALISED, "fedavg"]
    assert (rows[0]["partition"], rows[0]["accuracy_measured"], rows[0]["least"], rows[0]["most"]) == (
        "none",
        0.5,
        0.25,
        0.75,
    )
    assert LOCAL in {name for _, name in wanted}
