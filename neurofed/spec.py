"""What a run is: `RunSpec`, its defaults and bounds, and its form as a flat Flower run configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
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
CODECS = ("dense",)
STRATEGIES = (
    "fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "norm-clipping", "centred-clipping", "geometric-median",
    "median", "trimmed-mean", "krum", "multi-krum", "bulyan",
)  # fmt: skip
STRATEGY_GROUP = "neurofed.strategies"
"""Entry points of rules that other packages bring."""
MAX_WORKERS = 10_000
MAX_ROUNDS = 1_000_000

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SETTING_PREFIX = "workload."


def default_spec() -> RunSpec:
    """The run that `neurofed run` starts; 0 rounds means as many as the preset says."""
    return RunSpec(
        workload=DEFAULT_WORKLOAD,
        preset=DEFAULT_PRESET,
        workers=DEFAULT_WORKERS,
        chip=DEFAULT_CHIP,
        codec=CODECS[0],
        strategy=STRATEGIES[0],
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
    if spec.codec not in CODECS:
        raise UnknownNameError(f"codec {spec.codec!r}: {nearest(spec.codec, CODECS)}")
    if spec.strategy not in STRATEGIES:
        known = [*STRATEGIES, *(point.name for point in entry_points(group=STRATEGY_GROUP))]
        if spec.strategy not in known:
            raise UnknownNameError(f"strategy {spec.strategy!r}: {nearest(spec.strategy, known)}")


def _validate_rounds(spec: RunSpec) -> None:
    """Check what says when a round is complete, and what becomes of who is late."""
    _require("updates", 0 <= spec.updates <= spec.workers, f"0 to {spec.workers}", spec.updates)
    _require("buffer", 0 <= spec.buffer <= spec.workers, f"0 to {spec.workers}", spec.buffer)
    _require("buffer", not (spec.buffer and spec.updates), "0 beside --updates, which ends late tasks", spec.buffer)
    enough = _enough(spec)
    _require("min-workers", spec.min_workers <= enough, f"0 to the {enough} that complete a round", spec.min_workers)
    _require("max-staleness", 0 <= spec.max_staleness <= MAX_ROUNDS, f"0 to {MAX_ROUNDS}", spec.max_staleness)
    _require("stall-timeout-s", 0 <= spec.stall_timeout_s < 1e6, "0 or a positive number", spec.stall_timeout_s)
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
    """`workload.KEY=VALUE` pairs as a table without the prefix.

    Raises:
        ConfigError: if a pair is malformed or given twice.
    """
    settings: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key.startswith(_SETTING_PREFIX) or key == _SETTING_PREFIX:
            raise ConfigError(f"--set: expected {_SETTING_PREFIX}KEY=VALUE, got {pair!r}")
        name = key.removeprefix(_SETTING_PREFIX)
        if name in settings:
            raise ConfigError(f"--set: {key} is given twice")
        settings[name] = value
    return settings


_KEYS = {field.name: field.name.replace("_", "-") for field in RunSpec.DESCRIPTOR.fields if field.name != "settings"}
_KEYS["rounds"] = "num-server-rounds"
"""Flower's kebab-case key of each field; the rounds have Flower's own name."""


def to_run_config(spec: RunSpec) -> dict[str, bool | int | float | str]:
    """A run as Flower's flat run configuration, with its kebab-case keys."""
    values = {key: getattr(spec, field) for field, key in _KEYS.items()}
    return {**values, "settings": json.dumps(dict(spec.settings), sort_keys=True)}


def from_run_config(config: Mapping[str, object]) -> RunSpec:
    """The inverse of `to_run_config`; missing keys take their defaults.

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
    try:
        spec.settings.update(json.loads(str(values["settings"])))
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(f"settings: expected a JSON table of strings, got {values['settings']!r}") from None
    validate(spec)
    return spec
