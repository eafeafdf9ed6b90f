"""The attacks of benchmarks.byzantine, by their formulas; and that its training is real."""

import numpy as np
import pytest

from benchmarks import byzantine
from benchmarks.aggregation_attacks.attacks import ATTACKS, Sight, alie_z, min_max
from benchmarks.aggregation_attacks.digits import Federation
from server.aggregation import BUILT_IN, rule

HONEST = np.random.default_rng(0).normal(0.3, 1.0, (16, 50))


def _sight():
    own = np.random.default_rng(1).normal(0, 1, (4, 50))
    return Sight(HONEST, own, own + 1.0, np.random.default_rng(2))


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attacker_sends_one_update(attack):
    assert ATTACKS[attack](_sight()).shape == (4, 50)


def test_alie_is_off_by_the_papers_number_of_deviations():
    assert alie_z(10, 2) == pytest.approx(0.0)
    assert alie_z(20, 4) == pytest.approx(0.1573, abs=1e-4)
    sent = ATTACKS["alie"](_sight())
    np.testing.assert_allclose(sent[0], HONEST.mean(0) - alie_z(20, 4) * HONEST.std(0))


def test_min_max_is_as_far_as_the_honest_are_from_each_other():
    sent = min_max(HONEST)
    apart = max(np.linalg.norm(a - b) for a in HONEST for b in HONEST)
    assert max(np.linalg.norm(sent - one) for one in HONEST) == pytest.approx(apart, rel=1e-5)


def test_the_simple_ones():
    sight = _sight()
    np.testing.assert_array_equal(ATTACKS["sign-flip"](sight), -sight.own)
    np.testing.assert_array_equal(ATTACKS["replay"](sight), sight.first)
    np.testing.assert_allclose(ATTACKS["ipm-10"](sight)[2], -10 * HONEST.mean(0))
    assert np.isnan(ATTACKS["nan"](sight)).all()


def test_every_rule_of_the_table_is_defined_for_its_federations():
    for name in byzantine.RULES:
        for workers in byzantine.FULL.workers:
            rule(name, byzantine.settings(name, workers)).init({"w": np.zeros(1, np.float32)}, workers)
    assert set(byzantine.RULES) <= set(BUILT_IN)


def test_training_learns_is_repeatable_and_large_lies_ruin_the_plain_mean():
    federation = Federation(10, 2, 0)
    honest = federation.run(rule("fedavg"), "none", 2)
    assert honest > 0.6
    assert federation.run(rule("fedavg"), "none", 2) == honest
    assert federation.run(rule("fedavg"), "ipm-10", 2) < 0.3
    assert federation.run(rule("median"), "ipm-10", 2) > 0.5


def test_the_verdict_is_a_share_of_the_unattacked_accuracy():
    rows = [
        {"workers": 10, "rule": "fedavg", "none": 0.8, "ipm": 0.2},
        {"workers": 10, "rule": "norm-clipping", "none": 0.7, "ipm": 0.4},
    ]
    (verdict,) = byzantine.musts(rows, ["none", "ipm"])
    assert verdict["value"] == pytest.approx(0.5)
    assert not verdict["met"]
    assert [row["best_rule"] for row in byzantine.best_rules(rows, ["none", "ipm"])] == ["fedavg", "norm-clipping"]
