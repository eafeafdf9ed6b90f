"""Settings of a workload, read from text or JSON by the types of a frozen dataclass.

A field may be `bool`, `int`, `float`, `str` or a `Literal` of strings; `Annotated[int, Range(1)]` bounds a number:

    @dataclass(frozen=True)
    class Settings:
        lr: Annotated[float, Range(0.0)] = 1e-3
        partition: Literal["iid", "dirichlet"] = "iid"
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from neurofed.errors import ConfigError, UnknownNameError, UnknownSettingError, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")
P = TypeVar("P")


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """The numbers a setting may take, both ends included."""

    minimum: float
    maximum: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.minimum <= value <= self.maximum

    def __str__(self) -> str:
        """The clause that follows "a number" in an error's text."""
        low = f" of at least {self.minimum:.12g}" if self.minimum > -math.inf else ""
        return f" from {self.minimum:.12g} to {self.maximum:.12g}" if self.maximum < math.inf else low


def from_preset(presets: Mapping[str, S], preset: str, overrides: Mapping[str, object]) -> S:
    """The settings of a preset with some of them replaced.

    Args:
        presets: settings by name.
        preset: one of the names.
        overrides: text or JSON value by setting.

    Raises:
        UnknownNameError: if there is no such preset.
        UnknownSettingError: if there is no such setting.
        ConfigError: if a value does not have its setting's type or range.
    """
    if preset not in presets:
        raise UnknownNameError(f"no preset {preset!r}: {nearest(preset, presets)}")
    return override(presets[preset], overrides)


def override(settings: S, overrides: Mapping[str, object]) -> S:
    """A copy of `settings` in which the named fields have new values.

    Args:
        settings: an instance of a frozen dataclass.
        overrides: text or JSON value by field.

    Raises:
        UnknownSettingError: if there is no such field.
        ConfigError: if a value does not have its field's type or range.
    """
    types = get_type_hints(type(settings), include_extras=True)
    for key in overrides:
        if key not in types:
            raise UnknownSettingError(f"no setting {key!r}: {nearest(key, types)}")
    return dataclasses.replace(settings, **{k: parse(k, types[k], v) for k, v in overrides.items()})


def require(condition: bool, text: str) -> None:
    """Raises ConfigError with `text` unless the condition holds, for rules that one setting's type cannot say."""
    if not condition:
        raise ConfigError(text)


def parse(key: str, kind: Any, value: object) -> bool | int | float | str:
    """Reads one value as its setting's type.

    Args:
        key: the setting, for the error's text.
        kind: its type, as annotated.
        value: text (`"0.5"`, `"true"`) or a JSON value (`0.5`, `True`).

    Raises:
        ConfigError: if the value is not of that type or out of range.
    """
    bounds = Range(-math.inf)
    if get_origin(kind) is Annotated:
        kind, bounds = get_args(kind)
    if get_origin(kind) is Literal:
        return _checked(key, value, _text(value, get_args(kind)), f"one of {', '.join(get_args(kind))}")
    if kind is str:
        return _checked(key, value, _text(value), "text")
    if kind is bool:
        return _checked(key, value, _boolean(value), "true or false")
    number = _integer(value) if kind is int else _number(value)
    expected = "a whole number" if kind is int else "a number"
    return _checked(key, value, number if number is None or number in bounds else None, f"{expected}{bounds}")


def _checked(key: str, got: object, parsed: P | None, expected: str) -> P:
    if parsed is None:
        raise ConfigError(f"setting {key!r}: expected {expected}, got {got!r}")
    return parsed


def _text(value: object, allowed: Collection[str] | None = None) -> str | None:
    return value if isinstance(value, str) and (allowed is None or value in allowed) else None


def _boolean(value: object) -> bool | None:
    match value.lower() if isinstance(value, str) else value:
        case True | "true" | "yes" | "on" | "1":
            return True
        case False | "false" | "no" | "off" | "0":
            return False
    return None


def _integer(value: object) -> int | None:
    # `True` is an int to Python, but no number to whoever wrote the JSON.
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return int(value)
    except ValueError:
        return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
