"""Which parts of a model stay on the worker."""

import pytest
from torch import nn

from neurofed.errors import ConfigError
from workloads.personal import personal_names


class Task:
    def __init__(self, *names):
        self._names = names

    def personal(self, model):
        return self._names


MODEL = nn.BatchNorm1d(2)


def test_a_task_says_what_is_personal_or_nothing_is():
    assert personal_names(object(), MODEL) == frozenset()
    assert personal_names(Task(), MODEL) == frozenset()
    assert personal_names(Task("running_mean", "weight"), MODEL) == {"running_mean", "weight"}


def test_what_is_no_part_of_the_model_is_named():
    with pytest.raises(ConfigError, match="personal part 'mean': did you mean 'running_mean'"):
        personal_names(Task("weight", "mean"), MODEL)


def test_something_has_to_be_shared():
    with pytest.raises(ConfigError, match="got all of the model"):
        personal_names(Task(*MODEL.state_dict()), MODEL)
