from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError
from workloads.settings import Range, from_preset, override


@dataclass(frozen=True)
class Settings:
    flag: bool = False
    count: Annotated[int, Range(1)] = 1
    share: Annotated[float, Range(0, 1)] = 0.5
    free: float = 0.0
    title: str = "a"
    kind: Literal["iid", "dirichlet"] = "iid"


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        ("flag", "true", True),
        ("flag", "Off", False),
        ("flag", True, True),
        ("count", "12", 12),
        ("count", 12, 12),
        ("share", "0.25", 0.25),
        ("share", 1, 1.0),
        ("free", "-1e3", -1000.0),
        ("title", "12", "12"),
        ("kind", "dirichlet", "dirichlet"),
    ],
)
def test_text_and_json_are_read_by_the_fields_type(key, given, expected):
    value = getattr(override(Settings(), {key: given}), key)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "given", "says"),
    [
        ("flag", "maybe", "expected true or false, got 'maybe'"),
        ("flag", 2, "expected true or false, got 2"),
        ("count", "1.5", "expected a whole number of at least 1, got '1.5'"),
        ("count", True, "expected a whole number of at least 1, got True"),
        ("count", "0", "expected a whole number of at least 1, got '0'"),
        ("count", None, "expected a whole number of at least 1, got None"),
        ("share", "1.01", "expected a number from 0 to 1, got '1.01'"),
        ("share", "half", "expected a number from 0 to 1, got 'half'"),
        ("free", "nan", "expected a number, got 'nan'"),
        ("free", "inf", "expected a number, got 'inf'"),
        ("title", 3, "expected text, got 3"),
        ("kind", "idd", "expected one of iid, dirichlet, got 'idd'"),
        ("kind", ["iid"], "expected one of iid, dirichlet, got"),
    ],
)
def test_a_wrong_value_says_what_was_expected_and_got(key, given, says):
    with pytest.raises(ConfigError, match="setting") as caught:
        override(Settings(), {key: given})
    assert f"'{key}'" in str(caught.value)
    assert says in str(caught.value)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(UnknownSettingError, match="did you mean 'count'"):
        override(Settings(), {"cuont": "3"})


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'small'"):
        from_preset({"small": Settings(), "tiny": Settings()}, "smal", {})


def test_overrides_leave_the_preset_as_it_was():
    presets = {"small": Settings(count=7)}
    changed = from_preset(presets, "small", {"title": "b"})
    assert (changed.count, changed.title) == (7, "b")
    assert presets["small"] == Settings(count=7)
