"""What a run chooses by name is checked before it begins."""

import pytest

from neurofed import spec
from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError
from neurofed.v1.control_pb2 import RunSpec
from server import choices


def _run(**changes):
    run = spec.default_spec()
    run.MergeFrom(RunSpec(**changes))
    return run


def test_each_choice_but_the_workload_has_a_maker():
    assert {*choices._MAKERS, "workload"} == set(spec.CHOICES)


def test_a_run_without_fault_has_its_workloads_settings():
    assert choices.check(_run(preset="tiny", settings={"rounds": "7"})).rounds == 7
    choices.check(_run(strategy="fedadam", strategy_settings={"lr": "0.5"}))


def test_names_that_are_empty_are_defaults():
    run = _run()
    run.selection = run.privacy = ""
    choices.check(run)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"settings": {"lrr": "1"}}, UnknownSettingError, "lrr"),
        ({"workload": "vide-classification"}, UnknownNameError, "did you mean 'video-classification'"),
        ({"strategy": "fedadam", "strategy_settings": {"lrr": "1"}}, UnknownSettingError, "did you mean 'lr'"),
        ({"strategy": "fedadam", "strategy_settings": {"lr": "-1"}}, ConfigError, "strategy 'fedadam'.* at least 0"),
        ({"strategy_settings": {"lr": "1"}}, UnknownSettingError, "strategy 'fedavg': no setting 'lr'"),
        ({"privacy_settings": {"noise": "1"}}, UnknownSettingError, "privacy 'none': no setting 'noise'"),
    ],
)
def test_what_is_wrong_is_said(changes, error, says):
    with pytest.raises(error, match=says) as caught:
        choices.check(_run(**changes))
    assert type(caught.value) is error
