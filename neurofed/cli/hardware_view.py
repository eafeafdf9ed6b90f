"""Profiles, sweeps and claims on a terminal, from the data of `hardware_data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neurofed import units
from neurofed.cli.hardware_data import Data

_WIDTH: Final = 120
"""Columns where the output is no terminal."""
_FRONT_ROWS: Final = 20


def console() -> Console:
    """Where results go."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDTH)


def show_profile(data: Data, to: Console) -> None:
    """One training step on one chip: the layers, then the totals with their definitions."""
    to.print(Text(f"{data['network']} on {data['chip']}, one training step of {data['batch']} samples", "bold"))
    to.print(Text(f"{data['description']}; norm {data['norm']}; {units.count(data['parameters'])} parameters"))
    to.print(Text(f"sparsity {data['sparsity']['origin']}; all figures below are modelled"))
    to.print(_layers(data["layers"]))
    to.print(_totals(data))
    to.print(_efficiencies(data))
    to.print(_mapping(data["schedule"]["stages"]))
    to.print(_schedule(data))
    to.print(_gpu(data["gpu"], data["dram_bytes"]))


def show_sweep(data: Data, to: Console) -> None:
    """How many points there are, and the fastest and most frugal of them."""
    front, keys = data["pareto"], list(data["axes"])
    table = _table(f"Pareto front: {len(front)} of {len(data['points'])} points, a sample of a training step")
    for key in keys:
        table.add_column(key.replace(".", ".\n").replace("_", "_\n"), justify="right", no_wrap=True, vertical="bottom")
    _columns(table, "time", "energy", "DRAM", "TFLOPS/W\npeak\ndense", "dense\nequiv.", "executed", "system")
    for row in front[:_FRONT_ROWS]:
        figures = [row[f"{name}_tflops_per_w"] for name in ("peak_dense", "dense_equivalent", "executed", "system")]
        table.add_row(
            *(Text(_setting(row[key])) for key in keys),
            units.duration(row["seconds_per_sample"]),
            units.energy(row["energy_j_per_sample"]),
            units.data(row["dram_bytes_per_sample"]),
            *map(units.number, figures),
        )
    to.print(table)
    if len(front) > _FRONT_ROWS:
        to.print(Text(f"… and {len(front) - _FRONT_ROWS} more, with --json or --out", "dim"))
    to.print(Text(data["provenance"]))


def show_claims(data: Data, to: Console) -> None:
    """The table of claims, then the figures behind the rows with ranges."""
    table = _table(f"Claims of arXiv:2412.05302 and {data['chip']}", lines=True)
    for head, ratio in (("claim", 3), ("ours", 3), ("definition", 4), ("deviation", 4), ("free constants", 4)):
        table.add_column(head, ratio=ratio, overflow="fold")
    for row in data["rows"]:
        style = {True: "green", False: "yellow", None: ""}[row["inside"]]
        ours = f"{row['ours']} ({row['provenance']})"
        cells = row["claim"], ours, row["definition"], row["deviation"], row["constants"]
        table.add_row(*(Text(cell, style if place == 3 else "") for place, cell in enumerate(cells)))
    to.print(table)
    to.print(_definitions(data))
    to.print(_dram_grid(data["dram"]))
    to.print(Text("yellow, o: outside 55-85 %; ~: outside, but inside within the error of the GPU's bytes"))
    to.print(Text("mask1 is right for rectangular surrogates alone; recompute runs FP twice", "dim"))
    to.print(_scaling(data["scaling"]))


def _layers(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Layers and engines")
    table.add_column("layer", overflow="fold")
    table.add_column("engine")
    _columns(table, "core-cycles", "utili-\nsation", "imba-\nlance", "dense\nops", "executed\nops", "energy", "DRAM")
    before = ""
    for row in rows:
        table.add_row(
            Text(row["layer"] if row["layer"] != before else ""),
            row["engine"].upper(),
            units.count(row["cycles"]),
            units.percent(row["utilisation"]),
            units.number(row["imbalance"]),
            units.count(row["dense_ops"]),
            units.count(row["executed_ops"]),
            units.energy(row["energy_j"]),
            units.data(row["dram_bytes"]),
        )
        before = row["layer"]
    return table


def _totals(data: Data) -> Table:
    batch = data["batch"]
    table = _table("Totals")
    table.add_column("")
    _columns(table, "step", "sample")
    rows = [
        ("time by the schedule", units.duration, data["seconds"]),
        ("energy, DRAM included", units.energy, data["energy_j"]),
        ("DRAM, layer by layer", units.data, data["dram_bytes"]),
        ("DRAM as scheduled", units.data, data["schedule"]["dram_bytes"]),
    ]
    for name, show, value in rows:
        table.add_row(name, show(value), show(value / batch))
    for name, joules in sorted(data["energy_by_component_j"].items(), key=lambda item: -item[1]):
        table.add_row(f"  energy: {name}", units.energy(joules), units.energy(joules / batch))
    return table


def _efficiencies(data: Data) -> Table:
    table = _table("Four efficiencies, never one without the others")
    table.add_column("name")
    table.add_column("TFLOPS/W", justify="right")
    table.add_column("definition", overflow="fold")
    for name, value in data["efficiencies_tflops_per_w"].items():
        table.add_row(name, units.number(value), Text(data["definitions"][name]))
    for text in _fitted(data):
        table.add_row("", "", Text(text, "dim"))
    return table


def _definitions(data: Data) -> Table:
    """The efficiencies of every network, and what they count."""
    table = _table("Efficiencies in TFLOPS/W")
    for head in ("network", "norm"):
        table.add_column(head, overflow="fold")
    _columns(table, "N", *data["definitions"])
    table.add_column("sparsity", overflow="fold")
    for point in data["efficiencies"]:
        values = map(units.number, point["efficiencies"].values())
        table.add_row(Text(point["network"]), point["norm"], str(point["batch"]), *values, Text(point["sparsity"]))
    lines = [*(f"{name}: {text}" for name, text in data["definitions"].items()), *_fitted(data)]
    table.caption, table.caption_justify = Text("\n".join(lines)), "left"
    return table


def _fitted(data: Data) -> list[str]:
    return [f"{key} = {entry['value']} ({entry['source']})" for key, entry in data["chip_fitted_or_given"].items()]


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(stages: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Mapping: stages of the pipeline")
    _columns(table, "stage", "cores", "replicas")
    table.add_column("layers", overflow="fold")
    for number, stage in enumerate(stages, 1):
        layers = stage["layers"]
        named = layers if len(layers) < 4 else (layers[0], layers[1], "…", layers[-1])
        text = f"{' '.join(named)} ({len(layers)})"
        table.add_row(str(number), str(stage["cores"]), str(stage["replicas"]), Text(text))
    return table


def _schedule(data: Data) -> Table:
    row = data["schedule"]
    stalls = row["stall_engine_cycles"]
    table = _table("Schedule; waits by cause, of all waiting")
    _columns(table, "cycles", "micro-\nbatch", "bubble", "balance", "DRAM\nbusy")
    _columns(table, *(f"waits:\n{cause}" for cause in stalls))
    waits = sum(stalls.values()) or 1.0
    table.add_row(
        units.count(data["cycles"]),
        str(row["micro_batch_samples"]),
        units.percent(row["bubble"]),
        units.percent(row["balance"]),
        units.percent(row["dram_busy"]),
        *(units.percent(cycles / waits) for cycles in stalls.values()),
    )
    return table


def _gpu(rows: Sequence[Mapping[str, Any]], chip_bytes: float) -> Table:
    table = _table(f"DRAM beside an {rows[0]['gpu']}: chip {units.data(chip_bytes)}, layer by layer")
    table.add_column("kernels")
    table.add_column("time steps")
    _columns(table, "DRAM", "error band", "time", "chip moves less", "within the band")
    for row in rows:
        table.add_row(
            row["variant"],
            "folded" if row["time_folded"] else "one by one",
            units.data(row["dram_bytes"]),
            " to ".join(map(units.data, row["dram_bytes_band"])),
            units.duration(row["seconds"]),
            units.percent(row["chip_saves"]),
            " to ".join(map(units.percent, row["chip_saves_band"])),
        )
    return table


def _dram_grid(points: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each network, norm and policy, a column for each baseline."""
    grid: dict[tuple[str, str, int, str], list[Mapping[str, Any]]] = {}
    for point in points:
        key = point["network"], point["norm"], point["batch"], point["policy"]
        grid.setdefault(key, []).append(point)
    table = _table("DRAM access less than an A100's, in %")
    for head in ("network", "norm", "N", "membranes"):
        table.add_column(head, overflow="fold")
    first = next(iter(grid.values()))
    _columns(table, *(f"{p['variant']}\n{'folded' if p['time_folded'] else 'by step'}" for p in first))
    for (network, norm, batch, policy), row in grid.items():
        table.add_row(Text(network), norm, str(batch), policy, *map(_percent, row))
    return table


def _percent(point: Mapping[str, Any]) -> Text:
    mark = " " if point["inside"] else "~" if point["inside_with_error"] else "o"
    return Text(f"{100 * point['chip_saves']:.0f} {mark}", "green" if point["inside"] else "yellow")


def _scaling(points: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Cores, each number at its own best micro-batch")
    for head in ("network", "DRAM"):
        table.add_column(head, overflow="fold")
    _columns(table, "cores", "micro-batch", "cycles", "speed-up", "bubble", "balance")
    for point in points:
        table.add_row(
            Text(f"{point['network']} ({point['norm']}) N={point['batch']}"),
            "waited for" if point["waits_for_dram"] else "endless",
            str(point["cores"]),
            str(point["samples"]),
            units.count(point["cycles"]),
            f"{point['speedup']:.1f} x",
            units.percent(point["bubble"]),
            units.percent(point["balance"]),
        )
    return table


def _table(title: str, *, lines: bool = False) -> Table:
    style = Text(title, "bold")
    return Table(title=style, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_lines=lines)


def _columns(table: Table, *heads: str) -> None:
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
