"""`neurofed profile`: what a training step of a network costs on a chip, without training it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurofed.cli.options import json_option
from neurofed.errors import ConfigError, UnknownChipError, UnknownNameError
from neurofed.files import write_atomically

if TYPE_CHECKING:
    from neuro_engine.chip import Chip
    from neuro_engine.cost.networks import NetworkShape
    from neuro_engine.cost.sparsity import Sparsity


@click.command()
@click.argument("network")
@click.option("--chip", default="core20_28nm", show_default=True, help="A shipped chip or a TOML file.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Samples of the step.")
@click.option("--norm", default="", help="Take this norm in place of the network's own, such as weight or batch.")
@click.option("--sparsity", type=click.Path(path_type=Path), default=None, help="TOML or JSON file of densities.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another value of the chip; repeatable.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="Folder for the pictures.")
@json_option
def profile(
    network: str,
    chip: str,
    batch: int,
    norm: str,
    sparsity: Path | None,
    overrides: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Say what a training step of NETWORK costs on a chip, by layer and engine; all of it modelled.

    NETWORK is one of the catalogue's, by its shapes: vgg11, vgg16, resnet18, sew_resnet18, sew_resnet34, dvs_gesture,
    sr, nmnist. With --out, profile.json, gantt.svg and schedule.trace.json (for chrome://tracing) are written.
    """
    from neuro_engine.profile import profile as profiled
    from neurofed.cli.hardware_view import as_data, show

    shape = _shape(network, norm)
    found = profiled(shape, _chip(chip, overrides), batch, _sparsity(sparsity))
    data = as_data(found)
    if out is not None:
        from neuro_engine.schedule import chrome_trace, gantt_svg

        out.mkdir(parents=True, exist_ok=True)
        per_us = found.chip.clock.frequency_hz / 1e6
        write_atomically(out / "profile.json", json.dumps(data, indent=1).encode())
        write_atomically(out / "gantt.svg", gantt_svg(found.schedule).encode())
        write_atomically(out / "schedule.trace.json", json.dumps(chrome_trace(found.schedule, per_us)).encode())
    if as_json:
        click.echo(json.dumps(data))
    else:
        show(data)


def _shape(name: str, norm: str) -> NetworkShape:
    from dataclasses import replace

    from neuro_engine.cost.networks import network

    try:
        shape = network(name)
        return replace(shape, norm=norm) if norm else shape
    except ValueError as error:
        raise UnknownNameError(str(error)) from None


def _sparsity(path: Path | None) -> Sparsity | None:
    from neuro_engine.cost.sparsity import Sparsity

    try:
        return Sparsity.load(path) if path else None
    except ValueError as error:
        raise ConfigError(f"--sparsity: {error}") from None


def _chip(name: str, overrides: tuple[str, ...]) -> Chip:
    from neuro_engine.chip import Chip, ChipError

    try:
        chip = Chip.load(name)
        return chip.override(dict(map(_override, overrides))) if overrides else chip
    except ChipError as error:
        raise UnknownChipError(str(error)) from None


def _override(pair: str) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    if not equals or not key or not text:
        raise ConfigError(f"--set: expected KEY=VALUE, such as lanes.bp_columns=32, got {pair!r}")
    for kind in (int, float):
        try:
            return key, kind(text)
        except ValueError:
            continue
    return key, text
