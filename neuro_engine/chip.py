"""Chips as data: what the cost model needs to know of a chip, read from TOML.

Every value states where it comes from, `{ value = 0.5573, source = "Horowitz, ISSCC 2014: ..." }`. A source that starts
with `chosen:` is a design choice and says why; one that starts with `fitted:` says to what it was fitted. The units
are in the names of the keys. The dataclasses of `neuro_engine.chip_schema` are the schema: their fields are the keys of
a chip file. A file that names a `base` in its `[chip]` group stands on that shipped chip and holds only what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from neuro_engine.chip_file import ChipError, Value, check_keys, keys, merged, nearest, read_group, read_head, read_toml
from neuro_engine.chip_schema import (
    Clock,
    Cores,
    Dataflows,
    Dram,
    Energy,
    Lanes,
    Link,
    Memory,
    Neuron,
    Noc,
    Overhead,
    Policy,
    Skipping,
    Technology,
    Update,
)
from neuro_engine.technology import scale

__all__ = ["Chip", "ChipError", "available"]

_CHIPS = Path(__file__).with_name("chips")


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip. `sources` says for each dotted key, such as `clock.frequency_hz`, where its value comes from."""

    name: str
    description: str
    clock: Clock
    cores: Cores
    technology: Technology
    lanes: Lanes
    dataflow: Dataflows
    skipping: Skipping
    memory: Memory
    noc: Noc
    dram: Dram
    link: Link
    policy: Policy
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
            path = _shipped(str(name_or_path))
        return _chip(_tables(path), path.name)

    @property
    def values(self) -> Mapping[str, Value]:
        """The value of each dotted key."""
        return MappingProxyType(
            {
                f"{group}.{key}": getattr(getattr(self, group), key)
                for group, schema in _groups().items()
                for key in keys(schema)
            }
        )

    def override(self, values: Mapping[str, float | str], source: str = "chosen: set by the caller") -> Chip:
        """This chip with other values, for what-if questions and sweeps.

        A new node or supply voltage scales the energies of what is on the chip, those left out that are given too.

        Args:
            values: new values by dotted key, such as `{"lanes.bp_columns": 32, "skipping.wg": "gate"}`.
            source: where the new values come from.

        Raises:
            ChipError: as for a file.
        """
        table: dict[str, Any] = {"chip": {"name": self.name, "description": self.description}}
        for key, value in {**self.values, **values}.items():
            group, _, name = key.partition(".")
            entry = {"value": value, "source": source if key in values else self.sources[key]}
            table.setdefault(group, {})[name] = entry
        chip = _chip(table, f"{self.name} with overrides")
        old, new = self.technology, chip.technology
        if (old.node_nm, old.voltage_v) == (new.node_nm, new.voltage_v):
            return chip
        scaled = {key: pj for key, pj in self._energies_at(new).items() if key not in values}
        return chip.override(scaled, f"{source}; scaled from {old.node_nm:g} nm at {old.voltage_v:g} V")

    def _energies_at(self, to: Technology) -> dict[str, float]:
        """The energies of what is on the chip in another technology, by dotted key."""
        old = self.technology
        return {
            f"energy.{key}": scale(getattr(self.energy, key), old.node_nm, to.node_nm, old.voltage_v, to.voltage_v)
            for key in keys(Energy)
            if key != "dram_pj_per_bit"
        }


def available() -> tuple[str, ...]:
    """The names of the chips that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _CHIPS.glob("*.toml")))


@lru_cache
def _groups() -> Mapping[str, Any]:
    """The groups of a chip file: the fields of `Chip` that are dataclasses."""
    return MappingProxyType(
        {name: kind for name, kind in get_type_hints(Chip).items() if hasattr(kind, "__dataclass_fields__")}
    )


def _shipped(name: str) -> Path:
    """The file of a shipped chip.

    Raises:
        ChipError: there is none of that name.
    """
    if name not in available():
        raise ChipError(f"no chip {name!r}{nearest(name, available())}")
    return _CHIPS / f"{name}.toml"


def _tables(path: Path) -> Mapping[str, Any]:
    """The tables of a chip file, those of its base included."""
    table = read_toml(path)
    head = table.get("chip")
    if not isinstance(head, Mapping) or "base" not in head:
        return table
    try:
        base = _tables(_shipped(str(head["base"])))
    except ChipError as error:
        raise ChipError(f"{path.name}: chip.base: {error}") from error
    own_head = {key: text for key, text in head.items() if key != "base"}
    return {**merged(base, table), "chip": own_head}


def _chip(table: Mapping[str, Any], where: str) -> Chip:
    """Check a parsed chip file; `where` names it in errors."""
    groups = _groups()
    check_keys(table, ("chip", *groups), where, "")
    head = read_head(table["chip"], where)
    sources: dict[str, str] = {}
    read: dict[str, Any] = {name: read_group(kind, table[name], where, name, sources) for name, kind in groups.items()}
    return Chip(head["name"], head["description"], **read, sources=MappingProxyType(sources))
