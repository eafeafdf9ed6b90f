"""Run files: the options of a run as TOML. They come after the defaults and before environment and flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from neurofed import spec
from neurofed.errors import ConfigError, UnknownNameError, nearest
from neurofed.v1.control_pb2 import RunSpec

_TABLES = {choice.settings: kind for kind, choice in spec.CHOICES.items()}
_KEYS = {field.name for field in RunSpec.DESCRIPTOR.fields} | {"run_id"}


def load_run_file(ctx: click.Context, _: click.Parameter, path: Path | None) -> dict[str, str]:
    """The callback of the argument RUN.TOML: its keys become the defaults of the options named alike.

    Returns:
        The settings in the file as `spec.parse_settings` gives them; `merge_settings` puts the flags' over them.

    Raises:
        ConfigError: if the file cannot be read, or holds what is no option of a run.
    """
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: expected a TOML file of a run's options, got: {error}") from None
    options = {key.replace("-", "_"): value for key, value in table.items()}
    if unknown := next((key for key in options if key not in _KEYS), None):
        known = [key.replace("_", "-") for key in _KEYS]
        raise UnknownNameError(f"{path}: {unknown!r}: {nearest(unknown.replace('_', '-'), known)}")
    settings: dict[str, str] = {}
    for field, kind in _TABLES.items():
        values = options.pop(field, {})
        if not isinstance(values, dict) or any(isinstance(value, dict | list) for value in values.values()):
            raise ConfigError(f"{path}: expected a table [{field.replace('_', '-')}] of KEY = VALUE, got {values!r}")
        settings.update({f"{kind}.{key}": _text(value) for key, value in values.items()})
    ctx.default_map = {**(ctx.default_map or {}), **options}
    return settings


def merge_settings(from_file: Mapping[str, str], flags: tuple[str, ...]) -> tuple[str, ...]:
    """The settings of a run file and, over them, those of `--set`, written as for `--set`."""
    merged = {**from_file, **spec.parse_settings(flags)}
    return tuple(f"{name}={value}" for name, value in merged.items())


def _text(value: Any) -> str:
    """A TOML value as it would be written behind `--set KEY=`."""
    return str(value).lower() if isinstance(value, bool) else str(value)
