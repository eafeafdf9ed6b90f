"""Roofline, energy and Pareto pictures as SVG files that stand alone, in the colours of the reports."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any, Final

from neurofed import units
from neurofed.report.charts import PALETTE_SIZE, bar_chart, segments

_WIDTH, _HEIGHT = 560, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 78, 28, 14, 44
_LEGEND_ROW: Final = 18


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis: the least and the largest value, and pixels of both ends."""

    low: float
    high: float
    start: float
    end: float
    unit: str

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, unit: str) -> Axis:
        """An axis with a little room around values above 0."""
        low, high = math.log10(min(values)), math.log10(max(values))
        room = max(0.06 * (high - low), 0.05)
        return cls(10 ** (low - room), 10 ** (high + room), start, end, unit)

    def __call__(self, value: float) -> float:
        """The place of a value."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        """Powers of ten; with numbers between where those are few."""
        decades = math.log10(self.high / self.low)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        between = (1.0, 2.0, 5.0) if decades > 1 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        steps = (1.0,) if decades > 3 else between
        every = max(1, (last - first) // 8)
        values = (step * 10.0**power for power in range(first, last + 1, every) for step in steps)
        return (value for value in values if self.low <= value <= self.high)


def roofline_svg(data: Mapping[str, Any]) -> str:
    """What each layer and engine reaches of what arrays and DRAM allow.

    Args:
        data: `roofline` of a profile's data.
    """
    peak, bandwidth, points = data["peak_flop_per_s"], data["dram_bytes_per_s"], data["points"]
    groups: dict[str, list[tuple[float, float, str]]] = {}
    for point in points:
        place = point["flop_per_byte"], point["flop_per_s"], point["layer"]
        groups.setdefault(point["engine"].upper(), []).append(place)
    ridge = peak / bandwidth
    across = [ridge, *(point["flop_per_byte"] for point in points)]
    roof = [(min(across) / 2, bandwidth * min(across) / 2), (ridge, peak), (max(across) * 2, peak)]
    return scatter_svg(groups, "FLOP/B", "FLOP/s", "Roofline: executed operations", line=roof)


def pareto_svg(points: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    """Energy over time of a sample: all points, and the front as a line.

    Args:
        points: rows of a sweep.
        front: those that no other beats, fastest first.
        keys: the keys that varied.
    """

    def places(rows: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, str]]:
        return [
            (row["seconds_per_sample"], row["energy_j_per_sample"], ", ".join(f"{key}={row[key]}" for key in keys))
            for row in rows
        ]

    chosen = places(front)
    groups = {"all": places(points), "Pareto front": chosen}
    return scatter_svg(groups, "s a sample", "J a sample", "Energy and time", line=[(x, y) for x, y, _ in chosen])


def energy_svg(by_engine: Mapping[str, Mapping[str, float]]) -> str:
    """Energy of a step by engine and component, in joules; multiplying and adding together, as there are 8 colours."""
    rows = {engine.upper(): _arithmetic_first(parts) for engine, parts in by_engine.items()}
    return _standalone(bar_chart(rows, "Energy of a training step", units.energy), segments(rows))


def _arithmetic_first(parts: Mapping[str, float]) -> dict[str, float]:
    rest = {name: value for name, value in parts.items() if name not in ("multiply", "add")}
    return {"arithmetic": parts.get("multiply", 0.0) + parts.get("add", 0.0), **rest}


def scatter_svg(
    groups: Mapping[str, Sequence[tuple[float, float, str]]],
    x_unit: str,
    y_unit: str,
    label: str,
    line: Sequence[tuple[float, float]] = (),
) -> str:
    """Points on two logarithmic axes.

    Args:
        groups: points (x, y, name) above 0 by the name of their colour; at least one point or one of `line`.
        x_unit: what x is, with its unit.
        y_unit: what y is, with its unit.
        label: what is shown.
        line: points to be joined.
    """
    places = [(x, y) for group in groups.values() for x, y, _ in group] + list(line)
    across = Axis.over([x for x, _ in places], _LEFT, _WIDTH - _RIGHT, x_unit)
    up = Axis.over([y for _, y in places], _HEIGHT - _BOTTOM, _TOP, y_unit)
    joined = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line)
    dots = "".join(
        f'<circle class="c{index % PALETTE_SIZE}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"><title>'
        f"{escape(f'{name}: {units.si(x)} {x_unit}, {units.si(y)} {y_unit}')}</title></circle>"
        for index, group in enumerate(groups.values())
        for x, y, name in group
    )
    body = f'{_axes(across, up)}<polyline class="c7" points="{joined}"/>{dots}'
    svg = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">{body}</svg>'
    return _standalone(svg, list(groups))


def _axes(across: Axis, up: Axis) -> str:
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{up(y) + 4:.1f}" text-anchor="end">{units.si(y)}</text>'
        for y in up.ticks()
    ]
    lines += [
        f'<line class="grid" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" x1="{across(x):.1f}" x2="{across(x):.1f}"/>'
        f'<text x="{across(x):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{units.si(x)}</text>'
        for x in across.ticks()
    ]
    names = (
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{escape(across.unit)}</text>'
        f'<text transform="translate(14 {_TOP}) rotate(-90)" text-anchor="end">{escape(up.unit)}</text>'
    )
    return "".join(lines) + names


def _standalone(svg: str, names: Sequence[str]) -> str:
    """A chart of a page as a file of its own: with a name space, the page's colours, and a legend."""
    size = re.match(r'<svg class="\w+" viewBox="0 0 (\d+) (\d+)"', svg)
    width, height = (int(size[1]), int(size[2])) if size else (_WIDTH, _HEIGHT)
    each = 8 + 7 * max(map(len, names), default=1) + 16
    columns = max(1, (width - 20) // each)
    marks = "".join(
        f'<rect class="c{index % PALETTE_SIZE}" x="{10 + each * (index % columns)}"'
        f' y="{height + 6 + _LEGEND_ROW * (index // columns)}" width="10" height="10"/>'
        f'<text x="{25 + each * (index % columns)}" y="{height + 15 + _LEGEND_ROW * (index // columns)}">'
        f"{escape(name)}</text>"
        for index, name in enumerate(names)
    )
    total = height + 8 + _LEGEND_ROW * math.ceil(len(names) / columns)
    inner = svg.replace('<svg class="chart"', f'<svg width="{width}" height="{height}"', 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" font-family="sans-serif">'
        f"<style>{_style()}</style>{inner}{marks}</svg>\n"
    )


def _style() -> str:
    """The reports' palette, and what they say of charts."""
    sheet = files("neurofed.report").joinpath("report.css").read_text(encoding="utf-8")
    palette, _, rest = sheet.partition("* {")
    kept = [
        line for line in rest.splitlines() if line.startswith(("svg text", "svg .grid", "svg poly", ".c0 ", ".c4 "))
    ]
    return palette + "\n".join(kept)
