"""Rules by name."""

import pickle
from importlib.metadata import EntryPoint, EntryPoints

import pytest

import server.aggregation as aggregation
from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError
from neurofed.spec import STRATEGIES
from server.aggregation import BUILT_IN, NoSettings, rule
from server.aggregation.coordinates import MEDIAN

OURS = aggregation.Family(lambda _: MEDIAN, NoSettings())


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_rule_has_the_name_it_is_found_by_and_can_be_pickled(name):
    assert pickle.loads(pickle.dumps(rule(name))).name == rule(name).name == name


def test_what_a_run_may_ask_for_is_here():
    assert set(STRATEGIES) == set(BUILT_IN)


def test_settings_are_read_as_text_or_number():
    assert rule("fedprox", {"mu": "0.25"}).client == {"proximal-mu": 0.25}
    assert rule("fedprox", {"mu": 0.5}).client == {"proximal-mu": 0.5}
    assert rule("fedavg").client == {}


@pytest.mark.parametrize(
    ("name", "settings", "error"),
    [
        ("fedavgg", {}, UnknownNameError),
        ("fedavg", {"lr": "1"}, UnknownSettingError),
        ("fedadam", {"lrr": "1"}, UnknownSettingError),
        ("fedadam", {"lr": "-1"}, ConfigError),
        ("fedadam", {"beta2": "1.0"}, ConfigError),
        ("fedadam", {"lr": "nan"}, ConfigError),
        ("krum", {"attackers": "0.5"}, ConfigError),
        ("geometric-median", {"iterations": "0"}, ConfigError),
    ],
)
def test_what_is_wrong_is_said(name, settings, error):
    with pytest.raises(error):
        rule(name, settings)


def _install(monkeypatch, value):
    points = EntryPoints([EntryPoint("mine", value, aggregation.STRATEGY_GROUP)])
    monkeypatch.setattr(aggregation, "entry_points", lambda group: points.select(group=group))


def test_a_package_can_bring_a_rule(monkeypatch):
    _install(monkeypatch, "server.aggregation:BUILT_IN")
    with pytest.raises(ConfigError, match=r"to be a server\.aggregation\.Family, got dict"):
        rule("mine")
    monkeypatch.setattr(aggregation, "OURS", OURS, raising=False)
    _install(monkeypatch, "server.aggregation:OURS")
    assert rule("mine") is MEDIAN
    assert list(aggregation.installed()) == ["mine"]


def test_a_rule_that_cannot_be_imported_is_an_error(monkeypatch):
    _install(monkeypatch, "absent_package:RULE")
    with pytest.raises(ConfigError, match="cannot be imported"):
        rule("mine")
