"""What a run chooses by name, made once on trial: a wrong name or setting is told before anything is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from neurofed import spec
from neurofed.codecs import choose
from neurofed.errors import ConfigError, UnknownSettingError
from neurofed.v1.control_pb2 import RunSpec
from server.aggregation import rule
from server.privacy import protection, protection_of
from server.selection import selection
from workloads import registry
from workloads.base import HasRounds


def check(run: RunSpec) -> HasRounds:
    """Make everything that a run chooses.

    Returns:
        The workload's settings.

    Raises:
        ConfigError: of the first name or setting that is unknown or has no such value; says what it could be.
    """
    for kind, make in _MAKERS.items():
        name = getattr(run, kind) or spec.CHOICES[kind].names[0]
        try:
            make(name, spec.settings_of(run, kind))
        except ConfigError as error:
            raise type(error)(f"{kind} {name!r}: {error}") from error
    settings: HasRounds = registry.load(run.workload).settings(run.preset, spec.settings_of(run, "workload"))
    protection_of(run, run.rounds or settings.rounds)
    _require_mean(run)
    return settings


_PICKS = ("median", "trimmed-mean", "geometric-median", "krum", "multi-krum", "bulyan")
"""Rules that compare updates and drop some; with updates of disjoint elements, what is left is next to nothing."""


def _require_mean(run: RunSpec) -> None:
    """Check that workers take turns only where their updates are averaged."""
    if run.strategy in _PICKS and choose(run.codec, spec.settings_of(run, "codec"), run.workers).up.gain > 1.0:
        raise ConfigError(
            f"codec {run.codec!r}: expected a strategy that averages, as workers take turns with the elements, got "
            f"{run.strategy!r}: choose another --strategy, or --set codec.turns=false"
        )


def _no_settings(_name: str, settings: Mapping[str, str]) -> None:
    """For a choice whose names have no settings."""
    for key in settings:
        raise UnknownSettingError(f"no setting {key!r}: it has none")


_MAKERS: Mapping[str, Callable[[str, Mapping[str, str]], object]] = {
    "strategy": rule,
    "codec": choose,
    "selection": selection,
    "privacy": protection,
}
"""Makes each of `spec.CHOICES` but the workload, of its name and settings."""
