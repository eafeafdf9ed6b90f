"""Reading a chip file and checking its groups against dataclasses, whose fields are the keys.

A field's type says what its value may be: `int` and `float` are positive, or within the bounds of the field's
`metadata`, and a `StrEnum` is one of its members. Every error is one line: file, key, what is allowed, what was got.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, get_type_hints

Value = int | float | StrEnum
_Group = TypeVar("_Group")


class ChipError(ValueError):
    """A chip file that is missing, malformed or incomplete."""


class _Key(NamedTuple):
    kind: type[Value]
    bounds: Mapping[str, float]


@lru_cache
def keys(schema: type[Any]) -> Mapping[str, _Key]:
    """The keys of a group and what they may hold."""
    hints = get_type_hints(schema)
    return MappingProxyType({entry.name: _Key(hints[entry.name], entry.metadata) for entry in fields(schema)})


def read_toml(path: Path) -> Mapping[str, Any]:
    """The tables of a file.

    Raises:
        ChipError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ChipError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ChipError(f"{path}: not a TOML file: {error}") from error


def merged(base: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a file that stands on another: group by group, its keys replace those of the base."""
    result = dict(base)
    for group, entries in table.items():
        both = isinstance(entries, Mapping) and isinstance(base.get(group), Mapping)
        result[group] = {**base[group], **entries} if both else entries
    return result


def read_head(value: object, where: str) -> Mapping[str, str]:
    """The [chip] group: texts without a source.

    Raises:
        ChipError: a key that is unknown, missing or no text.
    """
    head = as_table(value, f"{where}: [chip]")
    check_keys(head, ("name", "description"), where, "chip.")
    for key, text in head.items():
        if not isinstance(text, str) or not text.strip():
            raise ChipError(f"{where}: chip.{key}: expected a text, got {text!r}")
    return head


def read_group(schema: type[_Group], table: object, where: str, group: str, sources: dict[str, str]) -> _Group:
    """Check one group against its dataclass and note its sources.

    Args:
        schema: the dataclass.
        table: the parsed group.
        where: the file, for errors.
        group: the name of the group.
        sources: takes the source of each dotted key.

    Raises:
        ChipError: a key that is unknown, missing or of a wrong value, or has no source.
    """
    kind: Any = schema  # mypy does not take a class for hashable
    expected = keys(kind)
    entries = as_table(table, f"{where}: [{group}]")
    check_keys(entries, expected, where, f"{group}.")
    values: dict[str, Value] = {}
    for name, key in expected.items():
        dotted = f"{group}.{name}"
        entry = as_table(entries[name], f"{where}: {dotted}", "{ value = ..., source = ... }")
        check_keys(entry, ("value", "source"), where, f"{dotted}.")
        values[name] = _value(entry["value"], key, f"{where}: {dotted}.value")
        sources[dotted] = _source(entry["source"], f"{where}: {dotted}.source")
    return schema(**values)


def as_table(value: object, where: str, expected: str = "a table") -> Mapping[str, Any]:
    """`value`, which has to be a table."""
    if not isinstance(value, Mapping):
        raise ChipError(f"{where}: expected {expected}, got {value!r}")
    return value


def check_keys(table: Mapping[str, Any], expected: Iterable[str], where: str, prefix: str) -> None:
    """Unknown keys first: a misspelt key is also a missing one, and its nearest name says more."""
    expected = tuple(expected)
    for key in table:
        if key not in expected:
            raise ChipError(f"{where}: unknown key {prefix}{key}{nearest(key, expected)}")
    for key in expected:
        if key not in table:
            raise ChipError(f"{where}: missing key {prefix}{key}")


def nearest(name: str, names: tuple[str, ...]) -> str:
    """A hint at the name that was meant, or at all there are."""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(names)}"


def _value(value: object, key: _Key, where: str) -> Value:
    return _choice(value, key.kind, where) if issubclass(key.kind, StrEnum) else _number(value, key, where)


def _choice(value: object, kind: type[StrEnum], where: str) -> StrEnum:
    names = [member.value for member in kind]
    if not isinstance(value, str) or value not in names:
        raise ChipError(f"{where}: expected one of {', '.join(map(repr, names))}, got {value!r}")
    return kind(value)


def _number(value: object, key: _Key, where: str) -> float:
    whole = key.kind is int
    # bool is an int to Python, but `true` is no number of cores.
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        expected = "a whole number" if whole else "a number"
        raise ChipError(f"{where}: expected {expected}, got {value!r}")
    low, high = key.bounds.get("at_least"), key.bounds.get("at_most", math.inf)
    if not (math.isfinite(value) and value <= high and (value > 0 if low is None else value >= low)):
        expected = "a positive, finite number" if low is None else f"a finite number of at least {low:g}"
        upper = f" of at most {high:g}" if low is None else f" and at most {high:g}"
        raise ChipError(f"{where}: expected {expected}{'' if high == math.inf else upper}, got {value!r}")
    return value if whole else float(value)


def _source(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ChipError(f"{where}: expected where the value comes from, got {value!r}")
    for label in ("chosen", "fitted"):
        if value.startswith(label) and not value.removeprefix(label).lstrip(": "):
            raise ChipError(f"{where}: expected '{label}: ' and a reason, got {value!r}")
    return value
