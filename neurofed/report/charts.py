"""Charts as inline SVG: small, without scripts, coloured by the page's style sheet.

Class `cN` is the N-th colour of the page's palette. All text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

PALETTE_SIZE: Final = 8
"""Colours that the style sheet has."""

# About as wide as a phone, so that text keeps a readable size when the drawing is scaled to its column.
_WIDTH: Final = 400
_HEIGHT: Final = 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 12, 28
_ROW: Final = 30
_LAST_LABEL: Final = 12
"""Room for the half of the last label of an axis that stands beyond it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Scale:
    """A range of values on a range of pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def line_chart(
    lines: Sequence[Line],
    label: str,
    show: Callable[[float], str],
    on_axis: Callable[[float], str],
    across_in: Callable[[float], str] | None = None,
) -> str:
    """Lines over rounds, or over another quantity.

    Args:
        lines: at least one line with at least one point; x is a round, unless `across_in` is given.
        label: what is shown, for those who cannot see it.
        show: writes a value of y.
        on_axis: writes a value beside the axis, in fewer digits.
        across_in: writes a value of x, where that is no round.

    Returns:
        An `<svg>` element.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    low, high, step = _nice_range(min(ys), max(ys))
    places, across = _rounds(xs) if across_in is None else _quantities(xs)
    name_x = across_in or (lambda x: f"{x:.0f}")
    up = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>'
        f'<text x="{_LEFT - 7}" y="{up(y) + 4:.1f}" text-anchor="end">{escape(on_axis(y))}</text>'
        for y in _ticks(low, high, step)
    )
    below = "".join(
        f'<text x="{across(x):.1f}" y="{_HEIGHT - 9}" text-anchor="middle">{escape(name_x(x))}</text>' for x in places
    )
    where = across_in or (lambda x: f"round {x:g}")
    drawn = "".join(_line(line, index, across, up, show, where) for index, line in enumerate(lines))
    return _svg(_WIDTH, _HEIGHT, label, grid + below + drawn)


def bar_chart(rows: Mapping[str, Mapping[str, float]], label: str, show: Callable[[float], str]) -> str:
    """Horizontal bars, each stacked from segments.

    Args:
        rows: for each bar its segments, in the order to draw them; a segment has the same colour in all bars.
        label: what is shown, for those who cannot see it.
        show: writes a value.

    Returns:
        An `<svg>` element.
    """
    colours = {name: index for index, name in enumerate(segments(rows))}
    longest = max((sum(parts.values()) for parts in rows.values()), default=0.0)
    names_width = min(150.0, 14 + 6.8 * max((len(name) for name in rows), default=0))
    along = _Scale(0, longest or 1, names_width, _WIDTH - 66)
    bars = []
    for index, (name, parts) in enumerate(rows.items()):
        y = index * _ROW + 6
        bars.append(f'<text x="{names_width - 8:.1f}" y="{y + 14}" text-anchor="end">{_short(name)}</text>')
        reached = 0.0
        for segment, value in parts.items():
            x, reached = along(reached), reached + value
            title = f"{name}, {segment}: {show(value)}" if segment else f"{name}: {show(value)}"
            bars.append(
                f'<rect class="c{colours[segment] % PALETTE_SIZE}" x="{x:.1f}" y="{y}"'
                f' width="{max(0.0, along(reached) - x):.1f}" height="20"><title>{escape(title)}</title></rect>'
            )
        bars.append(f'<text class="value" x="{along(reached) + 6:.1f}" y="{y + 14}">{escape(show(reached))}</text>')
    return _svg(_WIDTH, len(rows) * _ROW + 4, label, "".join(bars))


def sparkline(values: Sequence[float], top: float, label: str) -> str:
    """A line the size of a word, from 0 to `top`.

    Args:
        values: at least one value.
        top: the value at the upper edge, shared by the sparklines to be compared.
        label: what is shown, for those who cannot see it.

    Returns:
        An `<svg>` element.
    """
    across = _Scale(0, max(1, len(values) - 1), 3, 117)
    up = _Scale(0, top or 1, 23, 3)
    points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in enumerate(values))
    end_x, end_y = points.split(" ")[-1].split(",")
    body = (
        f'<line class="grid" x1="3" x2="117" y1="23" y2="23"/><polyline class="c0" points="{points}"/>'
        f'<circle class="c0" cx="{end_x}" cy="{end_y}" r="2.5"/>'
    )
    return _svg(120, 26, label, body, "spark")


def legend(names: Sequence[str]) -> str:
    """The key to a chart's colours, as a list of HTML; nothing where there is only one."""
    if len(names) < 2:
        return ""
    items = "".join(f'<li class="c{i % PALETTE_SIZE}">{escape(name)}</li>' for i, name in enumerate(names))
    return f'<ul class="legend">{items}</ul>'


def segments(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The names of a bar chart's segments, in the order of their colours."""
    return list(dict.fromkeys(name for parts in rows.values() for name in parts))


def drawable(pairs: Iterable[tuple[float, float | None]]) -> list[tuple[float, float]]:
    """Points without those that no axis can hold: a training that explodes can report anything."""
    return [(float(x), y) for x, y in pairs if y is not None and (y == 0 or 1e-30 < abs(y) < 1e30)]


def _line(
    line: Line,
    index: int,
    across: _Scale,
    up: _Scale,
    show: Callable[[float], str],
    where: Callable[[float], str],
) -> str:
    colour = f"c{index % PALETTE_SIZE}"
    points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in line.points)
    dots = "".join(
        f'<circle class="{colour}" cx="{across(x):.1f}" cy="{up(y):.1f}" r="{3 if len(line.points) <= 40 else 1.5}">'
        f"<title>{escape(f'{line.name}, {where(x)}: {show(y)}')}</title></circle>"
        for x, y in line.points
    )
    return f'<polyline class="{colour}" points="{points}"/>{dots}'


def _svg(width: int, height: int, label: str, body: str, kind: str = "chart") -> str:
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _short(name: str) -> str:
    return escape(name if len(name) <= 20 else name[:19] + "…")


def _nice_range(low: float, high: float) -> tuple[float, float, float]:
    """Bounds that are multiples of a round step, about four steps apart."""
    span = high - low
    if span < 1e-9 * max(abs(high), 1e-3):  # a level line
        span = abs(high) or 1.0
    magnitude = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude * 4 >= span * 0.999)
    bottom = math.floor(low / step + 1e-9) * step
    top = math.ceil(high / step - 1e-9) * step
    return bottom, top if top > bottom else bottom + step, step


def _ticks(low: float, high: float, step: float) -> list[float]:
    return [low + index * step for index in range(round((high - low) / step) + 1)]


def _rounds(xs: Sequence[float]) -> tuple[list[float], _Scale]:
    first, last = int(min(xs)), int(max(xs))
    step = max(1, math.ceil((last - first) / 6))
    scale = _Scale(first, max(last, first + 1), _LEFT, _WIDTH - _RIGHT)
    return [float(x) for x in range(first, last + 1, step)], scale


def _quantities(xs: Sequence[float]) -> tuple[list[float], _Scale]:
    low, high, step = _nice_range(min(xs), max(xs))
    return _ticks(low, high, step), _Scale(low, high, _LEFT, _WIDTH - _RIGHT - _LAST_LABEL)
