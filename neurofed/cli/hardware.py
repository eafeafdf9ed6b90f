"""`neurofed profile`, `sweep` and `claims`: what training costs on a chip, and how that stands to what others claim."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurofed.cli.options import F, json_option, split_chips
from neurofed.errors import ConfigError

if TYPE_CHECKING:
    from neuro_engine.profile import Profile

_CHIP = "core20_28nm"
_TARGET = click.argument("target")
_PRESET = click.option("--preset", default="small", show_default=True, help="Settings of a workload.")
_STEP_OPTIONS = (
    click.option("--batch", type=int, help="Samples of a training step; by default as the network is often trained."),
    click.option("--norm", default="", help="This norm in place of the network's own, such as weight or batch."),
    click.option("--steps", type=click.IntRange(1), help="Time steps instead of the network's own; for NIR, 4."),
    click.option(
        "--sparsity",
        "sparsity_file",
        type=click.Path(path_type=Path),
        help="File of firing rates and gradient densities, or a run's report.json.",
    ),
    click.option("--spike-rate", type=float, help="Fraction of neuron-steps that fire, for all layers."),
    click.option("--gradient-density", type=float, help="Fraction of current gradients that are not zero."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A value of the chip; repeatable."),
)


def _out(what: str) -> Callable[[F], F]:
    folder = click.Path(file_okay=False, path_type=Path)
    return click.option("--out", type=folder, default=None, help=f"Folder to write {what} to.")


def _step_options(function: F) -> F:
    for option in reversed(_STEP_OPTIONS):
        function = option(function)
    return function


@click.command()
@_TARGET
@click.option("--chip", default=_CHIP, show_default=True, help="A chip or its TOML file; a list A,B,... gives several.")
@_PRESET
@_step_options
@_out("profile.json, the pictures and the schedule")
@json_option
def profile(target: str, chip: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """What one training step of TARGET costs on a chip, and where it goes.

    TARGET is a network of the catalogue, workload:NAME, or a .nir file.
    """
    from neurofed.cli.hardware_data import profile_data
    from neurofed.cli.hardware_view import console, show_profile

    profiles = _profiles(target, split_chips(chip), **options)
    found = [profile_data(one) for one in profiles]
    for one, data in zip(profiles, found, strict=True):
        if out is not None:
            _write_profile(out if len(found) == 1 else out / one.chip.name, one, data)
    if as_json:
        click.echo(_json(found[0] if len(found) == 1 else found))
        return
    to = console()
    for data in found:
        show_profile(data, to)


@click.command()
@_TARGET
@click.option("--vary", multiple=True, required=True, metavar="KEY=VALUES", help="V1,V2,... or START:STOP:xFACTOR.")
@click.option("--random", "points", type=click.IntRange(1), help="Draw so many points of the grid.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which are drawn.")
@click.option("--chip", default=_CHIP, show_default=True, help="The chip whose values are varied, or its TOML file.")
@_PRESET
@_step_options
@_out("sweep.json, sweep.csv and pareto.svg")
@json_option
def sweep(
    target: str, vary: tuple[str, ...], points: int | None, seed: int, out: Path | None, as_json: bool, **options: Any
) -> None:
    """Vary a chip's values over a grid: energy and time of a sample of TARGET, and the points no other beats."""
    from neurofed.cli.hardware_data import sweep_data
    from neurofed.cli.hardware_view import console, show_sweep

    data = sweep_data(*_sweep(target, vary, points, seed, **options))
    if out is not None:
        _write_sweep(out, data)
    if as_json:
        click.echo(_json(data))
        return
    show_sweep(data, console())


@click.command()
@click.option("--chip", default=_CHIP, show_default=True, help="The chip, or its TOML file.")
@click.option(
    "--networks", default="", metavar="A,B,...", help="Targets as of profile; by default six and every workload's."
)
@_PRESET
@_out("claims.json")
@json_option
def claims(chip: str, networks: str, preset: str, out: Path | None, as_json: bool) -> None:
    """Our figures beside every claim of arXiv:2412.05302: claim, ours, definition, deviation, free constants."""
    from neuro_engine.claims import NETWORKS, Case
    from neuro_engine.claims import claims as compute
    from neurofed.cli.hardware_data import claims_data
    from neurofed.cli.hardware_target import WORKLOAD, in_one_line, load_chip, load_target
    from neurofed.cli.hardware_view import console, show_claims
    from workloads import registry

    found = load_chip(chip, ())
    names = [*NETWORKS, *(f"{WORKLOAD}{name}" for name in registry.available())]
    if networks:
        names = [name.strip() for name in networks.split(",")]
    targets = [load_target(name, preset, None) for name in dict.fromkeys(names)]
    with in_one_line("claims"):
        data = claims_data(compute(found, [Case(one.shape, one.batch, one.sparsity) for one in targets]))
    if out is not None:
        _write(out / "claims.json", _json(data))
    if as_json:
        click.echo(_json(data))
        return
    show_claims(data, console())


def _profiles(
    target: str,
    chips: Sequence[str],
    preset: str,
    batch: int | None,
    norm: str,
    steps: int | None,
    settings: tuple[str, ...],
    **sparsity: Any,
) -> list[Profile]:
    from neuro_engine.profile import profile as compute
    from neurofed.cli.hardware_target import in_one_line, load_chip, load_sparsity, load_target

    loaded = [load_chip(name, settings) for name in chips]
    _check_batch(batch)
    found = load_target(target, preset, steps, norm)
    known = load_sparsity(found, *_in_order(sparsity))
    with in_one_line(target):
        return [compute(found.shape, chip, batch or found.batch, known) for chip in loaded]


def _sweep(
    target: str,
    vary: tuple[str, ...],
    points: int | None,
    seed: int,
    chip: str,
    preset: str,
    batch: int | None,
    norm: str,
    steps: int | None,
    settings: tuple[str, ...],
    **sparsity: Any,
) -> tuple[Any, Any, Any]:
    """Axes, points and front."""
    from neuro_engine import sweep as engine
    from neuro_engine.cost.synthetic import synthetic_trace
    from neuro_engine.profile import needed_fractions
    from neurofed.cli.hardware_target import in_one_line, load_chip, load_sparsity, load_target

    base = load_chip(chip, settings)
    with in_one_line("--vary"):
        axes = tuple(engine.axis(base, text) for text in vary)
        combinations = engine.grid(axes, points, seed)
    _check_batch(batch)
    found = load_target(target, preset, steps, norm)
    known = load_sparsity(found, *_in_order(sparsity))
    trace = synthetic_trace(found.shape, known, batch or found.batch)
    with in_one_line("--vary"):
        swept = engine.sweep(trace, base, combinations, needed_fractions(found.shape, known))
    return axes, swept, engine.pareto(swept)


def _in_order(sparsity: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return sparsity["sparsity_file"], sparsity["spike_rate"], sparsity["gradient_density"]


def _check_batch(batch: int | None) -> None:
    if batch is not None and batch < 1:
        raise ConfigError(f"--batch: expected at least 1, got {batch}")


def _write_profile(folder: Path, profile: Profile, data: dict[str, Any]) -> None:
    from neuro_engine.schedule import chrome_trace, gantt_svg
    from neurofed.cli.hardware_pictures import energy_svg, roofline_svg

    trace = chrome_trace(profile.schedule, profile.chip.clock.frequency_hz / 1e6)
    _write(folder / "profile.json", _json(data))
    _write(folder / "schedule.trace.json", json.dumps(trace))
    _write(folder / "gantt.svg", gantt_svg(profile.schedule))
    _write(folder / "roofline.svg", roofline_svg(data["roofline"]))
    _write(folder / "energy.svg", energy_svg(data["energy_by_engine_and_component_j"]))


def _write_sweep(folder: Path, data: dict[str, Any]) -> None:
    from neurofed.cli.hardware_pictures import pareto_svg

    table = io.StringIO()
    writer = csv.DictWriter(table, list(data["points"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(data["points"])
    _write(folder / "sweep.csv", table.getvalue())
    _write(folder / "sweep.json", _json(data))
    _write(folder / "pareto.svg", pareto_svg(data["points"], data["pareto"], list(data["axes"])))


def _write(path: Path, text: str) -> None:
    from neurofed.files import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error.strerror}") from None


def _json(data: Any) -> str:
    return json.dumps(data, indent=1)
