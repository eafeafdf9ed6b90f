"""A schedule as a Chrome trace, for Perfetto and chrome://tracing, and as a Gantt chart in SVG."""

from __future__ import annotations

from html import escape
from typing import Any, Final

from neuro_engine.schedule.result import Event, Lane, Schedule
from neuro_engine.trace import Engine

_WIDTH: Final = 1000
_LEFT: Final = 190
_ROW: Final = 9
_GAP: Final = 6
_TOP: Final = 26
_COLOURS: Final = {
    Engine.FP: ("#2f6f8f", "#6fa3bd"),
    Engine.BP: ("#d08a3c", "#e6b982"),
    Engine.WG: ("#5b9a68", "#96c29f"),
    Engine.UPDATE: ("#a65b7a", "#a65b7a"),
}
"""Two tones each, so that neighbouring micro-batches can be told apart."""


def chrome_trace(schedule: Schedule, cycles_per_us: float = 1.0) -> dict[str, Any]:
    """The schedule in Chrome's trace event format: a process for each replica of a stage, a thread for each engine.

    Args:
        schedule: the schedule.
        cycles_per_us: cycles in a microsecond, the format's unit of time; 1 shows cycles as microseconds.

    Returns:
        What `json.dump` writes as a trace file.
    """
    groups = {key: number for number, key in enumerate(_groups(schedule))}
    names = [
        {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": _title(schedule, key)}}
        for key, number in groups.items()
    ]
    threads = [
        {
            "ph": "M",
            "name": "thread_name",
            "pid": groups[lane.stage, lane.replica],
            "tid": _ROWS[lane.engine],
            "args": {"name": lane.engine.value.upper()},
        }
        for lane in schedule.lanes
        if lane.end
    ]
    tasks = [
        {
            "ph": "X",
            "name": event.layer,
            "cat": schedule.lanes[event.lane].engine.value,
            "pid": groups[schedule.lanes[event.lane].stage, schedule.lanes[event.lane].replica],
            "tid": _ROWS[schedule.lanes[event.lane].engine],
            "ts": event.start / cycles_per_us,
            "dur": (event.end - event.start) / cycles_per_us,
            "args": {"micro_batch": event.micro_batch, "tile": event.tile},
        }
        for event in schedule.events
    ]
    return {"traceEvents": [*names, *threads, *tasks], "otherData": {"cycles": schedule.cycles}}


def gantt_svg(schedule: Schedule) -> str:
    """The schedule as a self-contained SVG: a band for each replica of a stage, a row for each of its engines.

    Work that is narrower than the eye can see is drawn together, so the size does not grow with the batch.
    """
    scale = (_WIDTH - _LEFT - 10) / (schedule.cycles or 1.0)
    y, body = _TOP, []
    for key in _groups(schedule):
        lanes = [(place, lane) for place, lane in enumerate(schedule.lanes) if (lane.stage, lane.replica) == key]
        lanes = [(place, lane) for place, lane in lanes if lane.end]
        height = max(1, len(lanes)) * _ROW
        body.append(f'<rect x="{_LEFT}" y="{y}" width="{_WIDTH - _LEFT - 10}" height="{height}" fill="#8881"/>')
        body.append(f'<text x="{_LEFT - 6}" y="{y + height / 2 + 4:.0f}" text-anchor="end">')
        body.append(f"{escape(_short(_title(schedule, key)))}</text>")
        for row, (place, lane) in enumerate(lanes):
            body += _bars(schedule, place, lane, y + row * _ROW, scale)
        y += height + _GAP
    end = f'<text x="{_WIDTH - 10}" y="16" text-anchor="end">{schedule.cycles:,.0f} cycles</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" role="img" aria-label="Schedule" '
        f'font-family="sans-serif" font-size="11" fill="#777">{_legend()}{end}{"".join(body)}</svg>'
    )


_ROWS: Final = {engine: row for row, engine in enumerate(Engine)}


def _groups(schedule: Schedule) -> list[tuple[int, int]]:
    return list(dict.fromkeys((lane.stage, lane.replica) for lane in schedule.lanes))


def _title(schedule: Schedule, key: tuple[int, int]) -> str:
    """Cores and layers of a replica."""
    lanes = {place: lane for place, lane in enumerate(schedule.lanes) if (lane.stage, lane.replica) == key}
    cores = next(iter(lanes.values())).cores
    layers = list(dict.fromkeys(event.layer for event in schedule.events if event.lane in lanes))
    what = f"core {cores[0]}" if len(cores) == 1 else f"cores {cores[0]}-{cores[-1]}"
    between = layers if len(layers) < 3 else [layers[0], "...", layers[-1]]
    return f"{what}: {' '.join(between)}"


def _short(text: str) -> str:
    return text if len(text) <= 30 else text[:29] + "…"


def _bars(schedule: Schedule, place: int, lane: Lane, y: int, scale: float) -> list[str]:
    bars: list[tuple[Event, float]] = []
    for event in (event for event in schedule.events if event.lane == place and event.end > event.start):
        if bars and _merges(*bars[-1], event, scale):
            bars[-1] = bars[-1][0], event.end
        else:
            bars.append((event, event.end))
    name = lane.engine.value.upper()
    return [
        f'<rect x="{_LEFT + first.start * scale:.1f}" y="{y + 1}" width="{max((end - first.start) * scale, 0.2):.1f}" '
        f'height="{_ROW - 2}" fill="{_COLOURS[lane.engine][first.micro_batch % 2]}"><title>{name}, '
        f"micro-batch {first.micro_batch}: {first.start:,.0f} to {end:,.0f}</title></rect>"
        for first, end in bars
    ]


def _merges(first: Event, end: float, event: Event, scale: float) -> bool:
    near = (event.start - end) * scale < 0.5
    return near and (event.micro_batch == first.micro_batch or (end - first.start) * scale < 2)


def _legend() -> str:
    marks = [
        f'<rect x="{_LEFT + 70 * row}" y="7" width="10" height="10" fill="{_COLOURS[engine][0]}"/>'
        f'<text x="{_LEFT + 70 * row + 15}" y="16">{engine.value.upper()}</text>'
        for engine, row in _ROWS.items()
    ]
    return "".join(marks)
