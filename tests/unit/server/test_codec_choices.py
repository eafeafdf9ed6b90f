"""Codecs and strategies that go together, and those that do not."""

import pytest

from neurofed import spec
from neurofed.errors import ConfigError
from neurofed.v1.control_pb2 import RunSpec
from server import choices


def _run(**changes):
    run = spec.default_spec()
    run.MergeFrom(RunSpec(preset="tiny", **changes))
    return run


def test_workers_take_turns_only_where_updates_are_averaged():
    choices.check(_run(codec="top-k", strategy="fedadam"))
    choices.check(_run(codec="int8", strategy="median"))
    choices.check(_run(codec="top-k", codec_settings={"turns": "false"}, strategy="median"))
    with pytest.raises(ConfigError, match=r"averages.*'median'.*codec.turns=false"):
        choices.check(_run(codec="top-k", strategy="median"))


def test_a_codecs_setting_that_is_unknown_is_told_before_the_run():
    with pytest.raises(ConfigError, match=r"codec 'top-k': no setting 'fractoin'.*'fraction'"):
        choices.check(_run(codec="top-k", codec_settings={"fractoin": "1"}))
