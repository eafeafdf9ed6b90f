import json

import pytest

from neurofed import spec
from neurofed.errors import ConfigError, UnknownNameError
from neurofed.v1.control_pb2 import RunSpec


def _spec(**changes):
    run = spec.default_spec()
    run.MergeFrom(RunSpec(**changes))
    return run


FULL = _spec(
    workload="other",
    preset="tiny",
    workers=7,
    min_workers=3,
    rounds=11,
    seed=2**31 - 1,
    chip="my.toml",
    join_timeout_s=0.25,
    round_timeout_s=1.5,
    stall_timeout_s=0.5,
    buffer=4,
    max_staleness=7,
    scale_work=True,
    settings={"lr": "0.01", "name": "grün", "quote": '"'},
    strategy="fedadam",
    strategy_settings={"lr": "0.5"},
    codec_settings={"k": "3"},
    selection_settings={"fraction": "0.1"},
    privacy_settings={"noise": "1"},
)


@pytest.mark.parametrize("run", [spec.default_spec(), FULL], ids=["default", "full"])
@pytest.mark.parametrize("trace", [True, False])
def test_a_run_configuration_is_the_run(run, trace):
    run = RunSpec.FromString(run.SerializeToString())
    run.trace, run.scale_work = trace, run.scale_work and trace
    config = spec.to_run_config(run)
    assert spec.from_run_config(config) == run
    assert spec.to_run_config(spec.from_run_config(config)) == config
    assert all(type(v) in (bool, int, float, str) for v in config.values())


def test_every_field_of_a_run_is_in_its_configuration():
    assert len(spec.to_run_config(spec.default_spec())) == len(RunSpec.DESCRIPTOR.fields)


def test_missing_keys_take_their_defaults_and_others_are_ignored():
    assert spec.from_run_config({}) == spec.default_spec()
    assert spec.from_run_config({"workers": None, "unknown": 3}) == spec.default_spec()


def test_the_defaults_are_valid():
    spec.validate(spec.default_spec())


BOUNDS = [
    ("workers", 0),
    ("workers", -1),
    ("workers", spec.MAX_WORKERS + 1),
    ("min-workers", -1),
    ("min-workers", spec.DEFAULT_WORKERS + 1),
    ("rounds", -1),
    ("rounds", spec.MAX_ROUNDS + 1),
    ("seed", -1),
    ("seed", 2**31),
    ("join-timeout-s", 0.0),
    ("join-timeout-s", float("nan")),
    ("join-timeout-s", float("inf")),
    ("round-timeout-s", -1.0),
    ("round-timeout-s", 1e6),
    ("stall-timeout-s", -1.0),
    ("stall-timeout-s", float("nan")),
    ("updates", -1),
    ("updates", spec.DEFAULT_WORKERS + 1),
    ("buffer", -1),
    ("buffer", spec.DEFAULT_WORKERS + 1),
    ("max-staleness", -1),
    ("max-staleness", spec.MAX_ROUNDS + 1),
]


@pytest.mark.parametrize(("field", "value"), BOUNDS)
def test_a_value_out_of_bounds_names_its_field_and_itself(field, value):
    key = "num-server-rounds" if field == "rounds" else field
    with pytest.raises(ConfigError, match=f"^{field}: expected ") as caught:
        spec.from_run_config({key: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("field", ["codec", "strategy", "selection", "privacy"])
def test_an_unknown_name_is_an_unknown_name(field):
    with pytest.raises(UnknownNameError, match=f"^{field} 'fedavgg'"):
        spec.from_run_config({field: "fedavgg"})


WRONG_TYPES = [
    ("workers", "five"),
    ("workers", 2**40),
    ("workers", 2.5),
    ("seed", "x"),
    ("num-server-rounds", 2**40),
    ("chip", 3),
    ("workload", 1.0),
    ("trace", "yes"),
    ("join-timeout-s", "soon"),
    ("settings", "{"),
    ("settings", "[1]"),
    ("settings", '"text"'),
    ("settings", "3"),
    ("settings", '{"a": 1}'),
    ("strategy-settings", '{"a": 1}'),
    ("codec-settings", "[]x"),
    ("selection", 3),
]


@pytest.mark.parametrize(("key", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_a_configuration_error(key, value):
    with pytest.raises(ConfigError):
        spec.from_run_config({key: value})


@pytest.mark.parametrize(("workers", "least", "expected"), [(5, 0, 3), (4, 0, 3), (1, 0, 1), (2, 0, 2), (5, 2, 2)])
def test_quorum(workers, least, expected):
    assert spec.quorum(RunSpec(workers=workers, min_workers=least)) == expected


@pytest.mark.parametrize("field", ["updates", "buffer"])
def test_a_round_needs_no_more_updates_than_complete_it(field):
    assert spec.quorum(RunSpec(workers=9, **{field: 2})) == 2
    assert spec.quorum(RunSpec(workers=9, **{field: 8})) == 5
    with pytest.raises(ConfigError, match=r"^min-workers: expected 0 to the 2 that complete a round, got 3"):
        spec.from_run_config({"min-workers": 3, field: 2})


TOGETHER = [
    ("updates", {"updates": 2, "buffer": 2}),
    ("trace", {"scale-work": True, "trace": False}),
    ("trace", {"selection": "energy", "trace": False}),
    ("trace", {"selection": "utility", "trace": False}),
    ("buffer", {"selection": "uniform", "buffer": 2}),
]


@pytest.mark.parametrize(("name", "config"), TOGETHER, ids=str)
def test_what_does_not_go_together_is_refused(name, config):
    with pytest.raises(ConfigError, match=f"--{name}"):
        spec.from_run_config(config)


def test_a_run_of_an_older_version_has_no_stall_limit():
    old = _spec()
    old.ClearField("stall_timeout_s")
    old.ClearField("max_staleness")
    assert spec.from_run_config(spec.to_run_config(old)).stall_timeout_s == 0.0


def test_a_run_of_an_older_version_asks_all_and_keeps_nothing_private():
    old = _spec(strategy="fedadam", settings={"lr": "1"})
    config = spec.to_run_config(old)
    for kind in ("selection", "privacy"):
        old.ClearField(kind)
        del config[kind]
    for key in ("strategy-settings", "codec-settings", "selection-settings", "privacy-settings"):
        del config[key]
    spec.validate(old)
    for read in (spec.from_run_config(config), spec.from_run_config(spec.to_run_config(old))):
        assert (read.selection, read.privacy) == ("all", "none")
        assert (read.strategy, dict(read.settings), dict(read.strategy_settings)) == ("fedadam", {"lr": "1"}, {})


def test_settings_are_read_from_pairs():
    pairs = ["workload.lr=0.1", "workload.text=a=b", "workload.none="]
    assert spec.parse_settings(pairs) == {"workload.lr": "0.1", "workload.text": "a=b", "workload.none": ""}
    assert spec.parse_settings([]) == {}


def test_settings_belong_to_what_they_are_said_of():
    settings = spec.parse_settings([f"{kind}.lr={n}" for n, kind in enumerate(spec.CHOICES)] + ["strategy.b=1"])
    run = _spec(**spec.settings_by_field(settings))
    assert dict(run.settings) == spec.settings_of(run, "workload") == {"lr": "0"}
    assert spec.settings_of(run, "strategy") == {"lr": "1", "b": "1"}
    assert [spec.settings_of(run, kind)["lr"] for kind in spec.CHOICES] == ["0", "1", "2", "3", "4"]


def test_what_may_be_set_is_said():
    with pytest.raises(UnknownNameError, match=r"--set stratgy\.lr=1: .*did you mean 'strategy'\? \(known: codec"):
        spec.parse_settings(["stratgy.lr=1"])


@pytest.mark.parametrize("pair", ["workload.lr", "lr=1", "workload.=1", ".lr=1", "=", ""])
def test_a_malformed_pair_is_named(pair):
    with pytest.raises(ConfigError) as caught:
        spec.parse_settings([pair])
    assert repr(pair) in str(caught.value)


def test_a_setting_given_twice_is_named():
    with pytest.raises(ConfigError, match=r"workload\.lr is given twice"):
        spec.parse_settings(["workload.lr=1", "workload.lr=2"])


@pytest.mark.parametrize("name", ["a", "run-1", "2026.01_x", "x" * 100])
def test_plain_run_names_are_acceptable(name):
    assert spec.require_run_id(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a b", "a\n", "ü", "x" * 101, "a\0"])
def test_names_that_are_no_plain_folder_are_refused(name):
    with pytest.raises(ConfigError, match="run id"):
        spec.require_run_id(name)


def test_settings_are_json_in_a_fixed_order():
    one = spec.to_run_config(_spec(settings={"b": "1", "a": "2"}))["settings"]
    assert one == json.dumps({"a": "2", "b": "1"})
