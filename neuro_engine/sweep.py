"""Design-space exploration: the closed-form bill of one step for many chips, and the best of them.

A point is a chip with some values changed. Its time is that of `Cost.cycles`: layers on cores by the greedy mapping, no
schedule; and no bytes travel on the mesh, so the network on chip takes no energy. Area is not modelled: more lanes cost
nothing but their energy, so the front says nothing of what a chip would cost to make.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from neuro_engine.chip import Chip, ChipError
from neuro_engine.chip_file import nearest
from neuro_engine.cost import Efficiencies, cost
from neuro_engine.trace import Trace

MOST_POINTS = 100_000
"""More are asked for by mistake: about five minutes of a network like VGG-16."""

Setting = int | float | str


@dataclass(frozen=True, slots=True)
class Axis:
    """A chip's key and the values that it takes."""

    key: str
    values: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One chip of a sweep, modelled.

    Attributes:
        values: what was set, by key.
        seconds: time of a sample.
        energy_j: energy of a sample, DRAM included.
        dram_bytes: bytes to and from DRAM for a sample.
        efficiencies: the four efficiencies.
    """

    values: Mapping[str, Setting]
    seconds: float
    energy_j: float
    dram_bytes: float
    efficiencies: Efficiencies

    def row(self) -> dict[str, Setting]:
        """One row of a table: what was set, then the figures with their units."""
        figures = {f"{e.name}_tflops_per_w": getattr(self.efficiencies, e.name) for e in fields(self.efficiencies)}
        per_sample = {"seconds": self.seconds, "energy_j": self.energy_j, "dram_bytes": self.dram_bytes}
        return {**self.values, **{f"{name}_per_sample": value for name, value in per_sample.items()}, **figures}


def setting(chip: Chip, text: str) -> tuple[str, Setting]:
    """Read `KEY=VALUE` as a value of a chip.

    Raises:
        ChipError: no such key, or no value of its kind; whether it is in its bounds is for `Chip.override` to say.
    """
    key, value = _split(chip, text)
    return key, _value(chip, key, value)


def axis(chip: Chip, text: str) -> Axis:
    """Read `KEY=V1,V2,...` or `KEY=START:STOP:xFACTOR` as the values of an axis.

    A range goes from START in steps of the factor, up to STOP included; whole numbers are rounded.

    Raises:
        ChipError: as `setting`, or a range that is none or has no end.
    """
    key, values = _split(chip, text)
    read: Sequence[Setting] = _range(chip, key, values) if ":" in values else _list(chip, key, values)
    return Axis(key, tuple(dict.fromkeys(read)))


def grid(axes: Sequence[Axis], points: int | None = None, seed: int = 0) -> Iterator[dict[str, Setting]]:
    """All combinations of the axes' values, the last axis changing fastest.

    Args:
        axes: what varies; of a key that comes twice, the last.
        points: take only so many, drawn without replacement and left in order; all where there are no more.
        seed: decides which.

    Raises:
        ValueError: more than `MOST_POINTS`, or fewer than one.
    """
    axes = tuple({axis.key: axis for axis in axes}.values())
    total = math.prod(len(axis.values) for axis in axes)
    if points is not None and points < 1:
        raise ValueError(f"expected at least one point, got {points}")
    count = total if points is None else min(points, total)
    if count > MOST_POINTS:
        raise ValueError(f"expected at most {MOST_POINTS} points, got {count}: draw some at random, or vary less")
    chosen = range(total) if count == total else _drawn(total, count, seed)
    return (_combination(axes, number) for number in chosen)


def _drawn(total: int, count: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(total), count))  # noqa: S311  # nothing secret


def sweep(
    trace: Trace, chip: Chip, combinations: Iterator[dict[str, Setting]], needed: Mapping[str, float] | None = None
) -> tuple[Point, ...]:
    """The bill of a trace for every combination of values.

    Args:
        trace: one step, or several.
        chip: the chip whose values are replaced.
        combinations: values by key, such as `grid` gives.
        needed: as of `cost`.

    Raises:
        ChipError: a value that the chip's schema does not allow.
    """
    return tuple(_point(trace, chip, values, needed) for values in combinations)


def pareto(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats: none is as fast with less energy, or as frugal in less time; fastest first.

    Of points that are equal in both, all are kept.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.seconds, p.energy_j)):
        best = front[-1] if front else None
        if best is None or point.energy_j < best.energy_j or _same(point, best):
            front.append(point)
    return tuple(front)


def _same(a: Point, b: Point) -> bool:
    return (a.seconds, a.energy_j) == (b.seconds, b.energy_j)


def _point(trace: Trace, base: Chip, values: Mapping[str, Setting], needed: Mapping[str, float] | None) -> Point:
    chip = base.override(values)
    bill = cost(trace, chip, needed=needed)
    each = 1 / trace.samples
    return Point(
        values,
        bill.seconds(chip) * each,
        bill.energy_j * each,
        bill.dram_total_bytes * each,
        bill.efficiencies(chip),
    )


def _combination(axes: Sequence[Axis], number: int) -> dict[str, Setting]:
    places = []
    for axis in reversed(axes):
        number, place = divmod(number, len(axis.values))
        places.append(place)
    return {axis.key: axis.values[place] for axis, place in zip(axes, reversed(places), strict=True)}


def _split(chip: Chip, text: str) -> tuple[str, str]:
    key, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not key or not value:
        raise ChipError(f"expected KEY=VALUE, got {text!r}")
    if key not in chip.values:
        raise ChipError(f"{chip.name}: unknown key {key}{nearest(key, tuple(chip.values))}")
    return key, value


def _list(chip: Chip, key: str, text: str) -> list[Setting]:
    return [_value(chip, key, part.strip()) for part in text.split(",")]


def _range(chip: Chip, key: str, text: str) -> list[Setting]:
    start, stop, step = [*text.split(":"), "", ""][:3]
    try:
        low, high, factor = float(start), float(stop), float(step.removeprefix("x"))
    except ValueError:
        low = high = factor = math.nan
    if isinstance(chip.values[key], StrEnum) or text.count(":") != 2 or not step.startswith("x"):
        raise ChipError(f"{key}: expected values V1,V2,... or a range START:STOP:xFACTOR of numbers, got {text!r}")
    if not (0 < low <= high < math.inf and 1 < factor < math.inf):
        raise ChipError(f"{key}: expected 0 < START <= STOP and a factor above 1, got {text!r}")
    steps = math.floor(math.log(high / low) / math.log(factor) + 1e-9) + 1
    if steps > MOST_POINTS:
        raise ChipError(f"{key}: expected a range of at most {MOST_POINTS} values, got {steps}")
    whole = isinstance(chip.values[key], int)
    return [round(value) if whole else value for value in (low * factor**power for power in range(steps))]


def _value(chip: Chip, key: str, text: str) -> Setting:
    """A text as a value of the kind that the key has."""
    now = chip.values[key]
    if isinstance(now, StrEnum):
        return text
    try:
        return int(text) if isinstance(now, int) else float(text)
    except ValueError:
        expected = "a whole number" if isinstance(now, int) else "a number"
        raise ChipError(f"{key}: expected {expected}, got {text!r}") from None
