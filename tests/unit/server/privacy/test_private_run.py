"""Whole runs with privacy, on a grid without a network: reports, resuming, what is refused before the start."""

import shutil
import sys

import numpy as np
import pytest
from support_apps import AppGrid

from neurofed import metrics, spec
from neurofed.errors import ConfigError, CredentialsError, UnknownSettingError
from neurofed.eventlog import EventLog
from neurofed.report.data import report_data
from neurofed.report.html import render_html
from neurofed.v1 import monitor_pb2
from server import choices
from server.aggregation import rule
from server.checkpoint import CheckpointStore
from server.privacy import Masked, protected, protection, protection_of
from server.privacy.central import Adaptive, Fixed
from server.privacy.noise import KEY_FILE
from server.server_app import Services, run_app
from worker.client_app import build_app


def run_of(privacy="dp", rounds=2, workers=3, strategy="fedavg", **settings):
    run = spec.default_spec()
    run.preset, run.trace, run.workers, run.rounds = "tiny", False, workers, rounds
    run.strategy, run.privacy = strategy, privacy
    run.privacy_settings.update({key: str(value) for key, value in settings.items()})
    return run


class CrashError(Exception):
    pass


def train(folder, run, crash_after=0):
    """A run in a folder; returns its events and its checkpoint."""
    events = []

    def between_rounds():
        if crash_after and len([e for e in events if isinstance(e, monitor_pb2.CheckpointWritten)]) == crash_after:
            raise CrashError

    store = CheckpointStore(folder / "checkpoints")
    folder.mkdir(exist_ok=True)
    try:
        grid = AppGrid({number: build_app() for number in range(1, run.workers + 1)})
        run_app(Services(events.append, store, between_rounds), grid, run, 1)
    except CrashError:
        pass
    return events, store.newest()


def bits(checkpoint):
    return {name: array.tobytes() for name, array in {**checkpoint.model, **checkpoint.memory}.items()}


def test_a_resumed_run_is_bit_equal_and_needs_its_key(tmp_path):
    pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")
    run = run_of("dp-adaptive", strategy="fedavgm", noise=0.05, delta=1e-3)
    events, whole = train(tmp_path / "whole", run)
    rounds = [e.train_metrics for e in events if isinstance(e, monitor_pb2.RoundAggregated)]
    assert 0 < rounds[0][metrics.EPSILON] < rounds[1][metrics.EPSILON]
    assert whole.state["typical"] == 0.0, "no length of an update is remembered"

    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tmp_path / "whole" / KEY_FILE, other / KEY_FILE)
    _, first = train(other, run, crash_after=1)
    assert first.round_number == 1
    _, resumed = train(other, run)
    assert bits(resumed) == bits(whole)

    (other / KEY_FILE).unlink()
    with pytest.raises(CredentialsError, match="key of the run's noise"):
        train(other, run)


def test_a_masked_run_is_the_open_run_to_the_bit(tmp_path):
    events, masked = train(tmp_path / "masked", run_of("secure-aggregation"))
    _, plain = train(tmp_path / "open", run_of("none"))
    assert bits(masked) == bits(plain)
    assert [e.updates for e in events if isinstance(e, monitor_pb2.RoundAggregated)] == [3, 3]


def test_the_report_says_what_was_spent(tmp_path):
    pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")
    log = EventLog(tmp_path / "events.jsonl")
    numbers = {metrics.LOSS: 1.0, metrics.EPSILON: 2.5, metrics.DELTA: 1e-6, metrics.CLIP: 0.25}
    log.emit(monitor_pb2.RoundStarted(round=1))
    log.emit(monitor_pb2.RoundAggregated(round=1, train_metrics=numbers))
    log.emit(monitor_pb2.RoundStarted(round=2))
    report = report_data(log.snapshot())
    log.close()
    assert report["final"]["privacy"] == report["rounds"][0]["privacy"] == {"epsilon": 2.5, "delta": 1e-6, "clip": 0.25}
    assert report["provenance"]["privacy"] == "modelled"
    page = render_html(report)
    assert "epsilon 2.500 at delta 1.0e-06" in page


def test_two_runs_have_other_noise(tmp_path):
    pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")
    run = run_of(noise=0.05, rounds=1)
    models = [train(tmp_path / name, run)[1].model for name in ("one", "two")]
    assert any(not np.array_equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"strategy": "krum"}, "expected one of the strategies fedavg.*got 'krum'"),
        ({"buffer": 2}, "rounds that do not overlap"),
        ({"selection": "utility"}, "expected one of the selections all, uniform, got 'utility'"),
    ],
    ids=["robust rule", "overlapping rounds", "selection by what workers say"],
)
def test_what_does_not_go_with_noise_is_refused_before_the_start(change, says):
    run = run_of(noise=1.0)
    for field, value in change.items():
        setattr(run, field, value)
    with pytest.raises(ConfigError, match=says):
        protection_of(run, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"strategy": "median"}, "robust ones above all"),
        ({"codec": "top-k"}, "expected the codec dense, got 'top-k'"),
        ({"buffer": 2}, "rounds that do not overlap"),
        ({"workers": 2}, "at least 3 workers, got 2"),
        ({"selection": "uniform"}, "expected the selection all, got 'uniform'"),
        ({"updates": 2}, "--updates of at least the threshold, 3, got 2"),
    ],
    ids=["robust rule", "codec", "overlapping rounds", "two workers", "selection", "too few updates"],
)
def test_what_does_not_go_with_masks_is_refused_before_the_start(change, says):
    run = run_of("secure-aggregation")
    for field, value in change.items():
        setattr(run, field, value)
    with pytest.raises(ConfigError, match=says):
        protection_of(run, 2)


def test_an_epsilon_out_of_reach_is_refused_with_the_choices():
    pytest.importorskip("dp_accounting", reason="needs the extra `privacy`")
    with pytest.raises(ConfigError, match="cannot be kept: 10 rounds"):
        choices.check(run_of(noise=1.0, epsilon=2.0, rounds=10))


def test_without_the_accountant_no_private_run_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(ConfigError, match=r"pip install 'neurofed\[privacy\]'"):
        choices.check(run_of(noise=1.0))


def test_settings_by_name():
    assert protection("none", {}) is None
    assert protection("dp", {"noise": "2", "clip": 0.5}) == Fixed(clip=0.5, noise=2.0)
    assert protection("dp-adaptive", {"rate": "0.1"}) == Adaptive(rate=0.1)
    assert protection("secure-aggregation", {"threshold": "4"}) == Masked(4)
    for name, settings in [("none", {"clip": "1"}), ("dp", {"quantile": "0.5"}), ("dp", {"threshold": "3"})]:
        with pytest.raises(UnknownSettingError):
            protection(name, settings)
    for value in ("0", "65", "nan", "-1"):
        with pytest.raises(ConfigError, match="clip"):
            protection("dp", {"clip": value})


def test_without_noise_a_rule_stays_as_it_is(tmp_path):
    for chosen in (None, Masked()):
        krum = rule("krum")
        assert protected(krum, chosen, tmp_path / "checkpoints") is krum
    assert not list(tmp_path.iterdir())
