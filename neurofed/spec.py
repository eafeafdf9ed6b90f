"""What a run is: `RunSpec`, its defaults and bounds, and its form as a flat Flower run configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points

from neurofed.errors import ConfigError, UnknownNameError, nearest
from neurofed.v1.control_pb2 import RunSpec

DEFAULT_WORKLOAD = "video-classification"
DEFAULT_PRESET = "small"
DEFAULT_CHIP = "core20_28nm"
DEFAULT_WORKERS = 5
DEFAULT_PORT = 9050
DEFAULT_JOIN_TIMEOUT_S = 120.0
DEFAULT_ROUND_TIMEOUT_S = 600.0
DEFAULT_STALL_TIMEOUT_S = 300.0
DEFAULT_MAX_STALENESS = 20
CODECS = ("dense", "fp16", "int8", "top-k", "low-rank")
STRATEGIES = (
    "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "scaffold", "norm-clipping",
    "centred-clipping", "geometric-median", "median", "trimmed-mean", "krum", "multi-krum", "bulyan",
)  # fmt: skip
STRATEGY_GROUP = "neurofed.strategies"
"""Entry points of rules that other packages bring."""
SELECTIONS = ("all", "uniform", "data-size", "energy", "utility")
_BILLED = ("energy", "utility")
"""Selections that go by what the chip's bill says."""
PRIVACY = ("none", "dp", "dp-adaptive", "secure-aggregation")
MAX_WORKERS = 10_000
MAX_ROUNDS = 1_000_000

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Choice:
    """A part of a run that is chosen by name and has settings of its own: `--strategy NAME --set strategy.KEY=VALUE`.

    Attributes:
        settings: the field of `RunSpec` that holds its settings.
        names: those of this package, the default first; none where only those who have it know its names.
        group: entry points of those that other packages bring.
    """

    settings: str
    names: tuple[str, ...] = ()
    group: str = ""

    def known(self) -> list[str]:
        """The names that may be chosen."""
        return [*self.names, *(point.name for point in entry_points(group=self.group) if self.group)]


CHOICES: Mapping[str, Choice] = {
    "workload": Choice("settings"),
    "strategy": Choice("strategy_settings", STRATEGIES, STRATEGY_GROUP),
    "codec": Choice("codec_settings", CODECS),
    "selection": Choice("selection_settings", SELECTIONS),
    "privacy": Choice("privacy_settings", PRIVACY),
}
"""What `--set` may be said of, by the field of `RunSpec` that holds the name."""


def default_spec() -> RunSpec:
    """The run that `neurofed run` starts; 0 rounds means as many as the preset says."""
    return RunSpec(
        workload=DEFAULT_WORKLOAD,
        preset=DEFAULT_PRESET,
        workers=DEFAULT_WORKERS,
        chip=DEFAULT_CHIP,
        codec=CODECS[0],
        strategy=STRATEGIES[0],
        selection=SELECTIONS[0],
        privacy=PRIVACY[0],
        trace=True,
        join_timeout_s=DEFAULT_JOIN_TIMEOUT_S,
        round_timeout_s=DEFAULT_ROUND_TIMEOUT_S,
        stall_timeout_s=DEFAULT_STALL_TIMEOUT_S,
        max_staleness=DEFAULT_MAX_STALENESS,
    )


def validate(spec: RunSpec) -> None:
    """Check what can be checked without the workload.

    Raises:
        ConfigError: naming the field, what was expected and what was got.
    """
    _require("workers", 1 <= spec.workers <= MAX_WORKERS, f"1 to {MAX_WORKERS}", spec.workers)
    _require("min-workers", 0 <= spec.min_workers <= spec.workers, f"0 to {spec.workers}", spec.min_workers)
    _require("rounds", 0 <= spec.rounds <= MAX_ROUNDS, f"1 to {MAX_ROUNDS}", spec.rounds)
    _require("seed", 0 <= spec.seed < 2**31, "0 to 2147483647", spec.seed)
    _require("join-timeout-s", 0 < spec.join_timeout_s < 1e6, "a positive number", spec.join_timeout_s)
    _require("round-timeout-s", 0 < spec.round_timeout_s < 1e6, "a positive number", spec.round_timeout_s)
    _validate_rounds(spec)
    _require("chip", "," not in spec.chip, "one chip, or an empty name for each worker's own", spec.chip)
    for kind, choice in CHOICES.items():
        name = getattr(spec, kind)
        if name and choice.names and name not in choice.names and name not in (known := choice.known()):
            raise UnknownNameError(f"{kind} {name!r}: {nearest(name, known)}")


def _validate_rounds(spec: RunSpec) -> None:
    """Check what says when a round is complete, and what becomes of who is late."""
    _require("updates", 0 <= spec.updates <= spec.workers, f"0 to {spec.workers}", spec.updates)
    _require("buffer", 0 <= spec.buffer <= spec.workers, f"0 to {spec.workers}", spec.buffer)
    _require("buffer", not (spec.buffer and spec.updates), "0 beside --updates, which ends late tasks", spec.buffer)
    enough = _enough(spec)
    _require("min-workers", spec.min_workers <= enough, f"0 to the {enough} that complete a round", spec.min_workers)
    _require("max-staleness", 0 <= spec.max_staleness <= MAX_ROUNDS, f"0 to {MAX_ROUNDS}", spec.max_staleness)
    _require("stall-timeout-s", 0 <= spec.stall_timeout_s < 1e6, "0 or a positive number", spec.stall_timeout_s)
    everybody = spec.selection in ("", SELECTIONS[0])
    _require(
        "selection", everybody or not spec.buffer, "all beside --buffer, where who is free is asked", spec.selection
    )
    _require("selection", spec.trace or spec.selection not in _BILLED, "--trace beside it", spec.selection)
    _require("scale-work", spec.trace or not spec.scale_work, "--trace beside it: the bill tells the speed", True)


def _require(name: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise ConfigError(f"{name}: expected {expected}, got {got!r}")


def _enough(spec: RunSpec) -> int:
    """Updates that complete a round: those of all workers, unless `updates` or `buffer` say otherwise."""
    return spec.updates or spec.buffer or spec.workers


def quorum(spec: RunSpec) -> int:
    """Updates a round needs: `min_workers`, or where that is 0 more than half of the workers or what completes it."""
    return spec.min_workers or min(spec.workers // 2 + 1, _enough(spec))


def require_run_id(run_id: str) -> str:
    """Check a run's name, which is also the name of its folder.

    Raises:
        ConfigError: if it could be anything but a plain folder name.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ConfigError(f"run id: expected 1 to 100 letters, digits, '.', '_' or '-', got {run_id!r}")
    return run_id


def parse_settings(pairs: Iterable[str]) -> dict[str, str]:
    """`KIND.KEY=VALUE` pairs as a table with `KIND.KEY` as its keys; the kinds are those of `CHOICES`.

    Raises:
        ConfigError: if a pair is malformed or given twice.
        UnknownNameError: if there is no such kind.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        kind, _, key = name.partition(".")
        if not (separator and kind and key):
            raise ConfigError(f"--set: expected KIND.KEY=VALUE, KIND one of {', '.join(CHOICES)}, got {pair!r}")
        if kind not in CHOICES:
            raise UnknownNameError(f"--set {pair}: {kind!r} has no settings: {nearest(kind, CHOICES)}")
        if name in settings:
            raise ConfigError(f"--set: {name} is given twice")
        settings[name] = value
    return settings


def settings_by_field(settings: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What `parse_settings` gives as fields of `RunSpec`."""
    fields: dict[str, dict[str, str]] = {choice.settings: {} for choice in CHOICES.values()}
    for name, value in settings.items():
        kind, _, key = name.partition(".")
        fields[CHOICES[kind].settings][key] = value
    return fields


def settings_of(spec: RunSpec, kind: str) -> dict[str, str]:
    """The settings of one of the `CHOICES`."""
    return dict(getattr(spec, CHOICES[kind].settings))


_TABLES = {choice.settings: choice.settings.replace("_", "-") for choice in CHOICES.values()}
_KEYS = {field.name: field.name.replace("_", "-") for field in RunSpec.DESCRIPTOR.fields if field.name not in _TABLES}
_KEYS["rounds"] = "num-server-rounds"
"""Flower's kebab-case key of each field; the rounds have Flower's own name."""


def to_run_config(spec: RunSpec) -> dict[str, bool | int | float | str]:
    """A run as Flower's flat run configuration, with its kebab-case keys; settings are JSON tables."""
    values = {key: getattr(spec, field) for field, key in _KEYS.items()}
    tables = {key: json.dumps(dict(getattr(spec, field)), sort_keys=True) for field, key in _TABLES.items()}
    return {**values, **tables}


def from_run_config(config: Mapping[str, object]) -> RunSpec:
    """The inverse of `to_run_config`; missing keys, and names that are empty, take their defaults.

    Raises:
        ConfigError: naming the key whose value is of the wrong type or out of bounds.
    """
    values = {**to_run_config(default_spec()), **{k: v for k, v in config.items() if v is not None}}
    spec = RunSpec()
    for field, key in _KEYS.items():
        try:
            setattr(spec, field, values[key])
        except (TypeError, ValueError):
            raise ConfigError(f"{key}: expected what `neurofed run --help` says, got {values[key]!r}") from None
    for field, key in _TABLES.items():
        try:
            getattr(spec, field).update(json.loads(str(values[key])))
        except (TypeError, ValueError, AttributeError):
            raise ConfigError(f"{key}: expected a JSON table of strings, got {values[key]!r}") from None
    for kind, choice in CHOICES.items():  # a run of an older version does not say them
        if choice.names and not getattr(spec, kind):
            setattr(spec, kind, choice.names[0])
    validate(spec)
    return spec
