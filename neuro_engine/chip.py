"""Chips as data: what the cost model needs to know of a chip, read from TOML.

Every value states where it comes from, `{ value = 0.5573, source = "Horowitz, ISSCC 2014: ..." }`. A source that starts
with `chosen:` is a design choice and says why; one that starts with `fitted:` says to what it was fitted. The units
are in the names of the keys. The dataclasses below are the schema: their fields are the keys of a chip file.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from neuro_engine.trace import Engine

_CHIPS = Path(__file__).with_name("chips")
_Group = TypeVar("_Group")


class ChipError(ValueError):
    """A chip file that is missing, malformed or incomplete."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of all cores."""

    frequency_hz: float


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores."""

    count: int


@dataclass(frozen=True, slots=True)
class Lanes:
    """Operations a core starts in one cycle: rows x columns of the arrays; neurons; weights of the optimizer."""

    fp_rows: int
    fp_columns: int
    bp_rows: int
    bp_columns: int
    wg_rows: int
    wg_columns: int
    neuron: int
    update: int

    def array(self, engine: Engine) -> tuple[int, int]:
        """Rows and columns of the array of FP, BP or WG.

        Raises:
            KeyError: for UPDATE, which has no array.
        """
        return {
            Engine.FP: (self.fp_rows, self.fp_columns),
            Engine.BP: (self.bp_rows, self.bp_columns),
            Engine.WG: (self.wg_rows, self.wg_columns),
        }[engine]


@dataclass(frozen=True, slots=True)
class Memory:
    """Word sizes, and the capacities of the buffers of one core."""

    word_bits: int
    accumulator_bits: int
    weight_buffer_bytes: int
    weight_gradient_buffer_bytes: int
    spike_buffer_bytes: int
    state_buffer_bytes: int


@dataclass(frozen=True, slots=True)
class Dram:
    """The DRAM shared by the cores."""

    bandwidth_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of one operation, or of one bit moved."""

    fp16_add_pj: float
    fp16_multiply_pj: float
    fp32_add_pj: float
    fp32_multiply_pj: float
    register_pj_per_bit: float
    sram_pj_per_bit: float
    dram_pj_per_bit: float


@dataclass(frozen=True, slots=True)
class Neuron:
    """FP16 operations and bits of state through SRAM, for one neuron in one time step, in FP and in BP."""

    fp_multiplies: int
    fp_adds: int
    fp_state_bits: int
    bp_multiplies: int
    bp_adds: int
    bp_state_bits: int


@dataclass(frozen=True, slots=True)
class Update:
    """FP32 operations for one weight in one optimizer step."""

    multiplies: int
    adds: int


@dataclass(frozen=True, slots=True)
class Overhead:
    """Control as a fraction of the dynamic energy of the core; leakage as a fraction of both together."""

    control_fraction: float
    leakage_fraction: float


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip. `sources` says for each dotted key, such as `clock.frequency_hz`, where its value comes from."""

    name: str
    description: str
    clock: Clock
    cores: Cores
    lanes: Lanes
    memory: Memory
    dram: Dram
    energy: Energy
    neuron: Neuron
    update: Update
    overhead: Overhead
    sources: Mapping[str, str] = field(compare=False, repr=False)

    @classmethod
    def load(cls, name_or_path: str | PathLike[str]) -> Chip:
        """Read a chip.

        Args:
            name_or_path: one of `available()`, or the path of a `.toml` file.

        Raises:
            ChipError: no such chip, not TOML, or a key that is unknown, missing or of a wrong value.
        """
        path = Path(name_or_path)
        if path.suffix != ".toml":
            if path.name not in available() or path.name != str(name_or_path):
                raise ChipError(f"no chip {str(name_or_path)!r}{_nearest(str(name_or_path), available())}")
            path = _CHIPS / f"{path.name}.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ChipError(f"{path}: cannot be read: {error.strerror}") from error
        except ValueError as error:  # not TOML, or not UTF-8
            raise ChipError(f"{path}: not a TOML file: {error}") from error
        return _chip(table, path.name)

    @property
    def values(self) -> Mapping[str, float]:
        """The value of each dotted key."""
        return MappingProxyType(
            {
                f"{group}.{key.name}": getattr(getattr(self, group), key.name)
                for group, schema in _groups().items()
                for key in fields(schema)
            }
        )

    def override(self, values: Mapping[str, float], source: str = "chosen: set by the caller") -> Chip:
        """This chip with other values, for what-if questions and sweeps.

        Args:
            values: new values by dotted key, such as `{"lanes.bp_columns": 32}`.
            source: where the new values come from.

        Raises:
            ChipError: as for a file.
        """
        table: dict[str, Any] = {"chip": {"name": self.name, "description": self.description}}
        for key, value in {**self.values, **values}.items():
            group, _, name = key.partition(".")
            entry = {"value": value, "source": source if key in values else self.sources[key]}
            table.setdefault(group, {})[name] = entry
        return _chip(table, f"{self.name} with overrides")


def available() -> tuple[str, ...]:
    """The names of the chips that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _CHIPS.glob("*.toml")))


def _groups() -> dict[str, type[Any]]:
    """The groups of a chip file: the fields of `Chip` that are dataclasses."""
    return {name: kind for name, kind in get_type_hints(Chip).items() if hasattr(kind, "__dataclass_fields__")}


def _chip(table: Mapping[str, Any], where: str) -> Chip:
    """Check a parsed chip file; `where` names it in errors."""
    groups = _groups()
    _check_keys(table, ("chip", *groups), where, "")
    head = _table(table["chip"], f"{where}: [chip]")
    _check_keys(head, ("name", "description"), where, "chip.")
    for key, text in head.items():
        if not isinstance(text, str) or not text.strip():
            raise ChipError(f"{where}: chip.{key}: expected a text, got {text!r}")
    sources: dict[str, str] = {}
    read = {name: _group(kind, table[name], where, name, sources) for name, kind in groups.items()}
    return Chip(head["name"], head["description"], **read, sources=MappingProxyType(sources))


def _group(schema: type[_Group], table: object, where: str, group: str, sources: dict[str, str]) -> _Group:
    """Check one group against its dataclass and note its sources."""
    kinds = get_type_hints(schema)
    entries = _table(table, f"{where}: [{group}]")
    _check_keys(entries, kinds, where, f"{group}.")
    values = {}
    for key, kind in kinds.items():
        dotted = f"{group}.{key}"
        entry = _table(entries[key], f"{where}: {dotted}", "{ value = ..., source = ... }")
        _check_keys(entry, ("value", "source"), where, f"{dotted}.")
        values[key] = _number(entry["value"], kind, f"{where}: {dotted}.value")
        sources[dotted] = _source(entry["source"], f"{where}: {dotted}.source")
    return schema(**values)


def _table(value: object, where: str, expected: str = "a table") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ChipError(f"{where}: expected {expected}, got {value!r}")
    return value


def _check_keys(table: Mapping[str, Any], expected: Iterable[str], where: str, prefix: str) -> None:
    """Unknown keys first: a misspelt key is also a missing one, and its nearest name says more."""
    expected = tuple(expected)
    for key in table:
        if key not in expected:
            raise ChipError(f"{where}: unknown key {prefix}{key}{_nearest(key, expected)}")
    for key in expected:
        if key not in table:
            raise ChipError(f"{where}: missing key {prefix}{key}")


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(names)}"


def _number(value: object, kind: type, where: str) -> float:
    whole = kind is int
    # bool is an int to Python, but `true` is no number of cores.
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        expected = "a whole number" if whole else "a number"
        raise ChipError(f"{where}: expected {expected}, got {value!r}")
    if not (value > 0 and math.isfinite(value)):
        raise ChipError(f"{where}: expected a positive, finite number, got {value!r}")
    return value if whole else float(value)


def _source(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ChipError(f"{where}: expected where the value comes from, got {value!r}")
    for label in ("chosen", "fitted"):
        if value.startswith(label) and not value.removeprefix(label).lstrip(": "):
            raise ChipError(f"{where}: expected '{label}: ' and a reason, got {value!r}")
    return value
