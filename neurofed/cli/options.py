"""Options that several commands share, named alike everywhere."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from neurofed import spec
from neurofed.errors import ConfigError
from neurofed.security.options import Security
from neurofed.v1.control_pb2 import RunSpec

F = TypeVar("F", bound=Callable[..., Any])


def _names(what: str, kind: str) -> str:
    """The help of an option that takes one of several names."""
    return f"{what}: {', '.join(spec.CHOICES[kind].names)}."


_RUN_OPTIONS = (
    click.option("--workload", default=spec.DEFAULT_WORKLOAD, show_default=True, help="What to train."),
    click.option("--preset", default=spec.DEFAULT_PRESET, show_default=True, help="Named settings of the workload."),
    click.option("--workers", type=int, default=spec.DEFAULT_WORKERS, show_default=True, help="Workers to wait for."),
    click.option(
        "--min-workers", type=int, default=0, help="Updates a round needs; by default more than half of the workers."
    ),
    click.option("--rounds", type=int, default=0, help="Federated rounds; by default as the preset says."),
    click.option("--seed", type=int, default=0, show_default=True, help="Decides data, partition and initial model."),
    click.option(
        "--chip",
        default=spec.DEFAULT_CHIP,
        show_default=True,
        help="Chip whose bill is written; a list A,B,... gives the workers different ones, in turn.",
    ),
    click.option("--codec", default=spec.CODECS[0], show_default=True, help=_names("How updates are encoded", "codec")),
    click.option(
        "--strategy", default=spec.STRATEGIES[0], show_default=True, help=_names("Aggregation rule", "strategy")
    ),
    click.option(
        "--selection",
        default=spec.SELECTIONS[0],
        show_default=True,
        help=_names("Who is asked in a round", "selection"),
    ),
    click.option(
        "--privacy", default=spec.PRIVACY[0], show_default=True, help=_names("How updates are kept private", "privacy")
    ),
    click.option("--trace/--no-trace", default=True, show_default=True, help="Count operations and bill them."),
    click.option(
        "--join-timeout-s",
        type=float,
        default=spec.DEFAULT_JOIN_TIMEOUT_S,
        show_default=True,
        help="How long to wait for the workers.",
    ),
    click.option(
        "--round-timeout-s",
        type=float,
        default=spec.DEFAULT_ROUND_TIMEOUT_S,
        show_default=True,
        help="How long to wait for a round's results.",
    ),
    click.option(
        "--stall-timeout-s",
        type=float,
        default=spec.DEFAULT_STALL_TIMEOUT_S,
        show_default=True,
        help="How long a worker may go without progress before its task is given up; 0 sets no limit.",
    ),
    click.option(
        "--updates",
        type=int,
        default=0,
        help="Updates that complete a round, the other tasks are withdrawn; by default all.",
    ),
    click.option(
        "--buffer",
        type=int,
        default=0,
        help="Updates that complete a round while the other tasks go on and count later; 0 waits for all.",
    ),
    click.option(
        "--max-staleness",
        type=int,
        default=spec.DEFAULT_MAX_STALENESS,
        show_default=True,
        help="With --buffer: how many rounds late an update may be.",
    ),
    click.option("--scale-work", is_flag=True, help="Slow chips do a smaller part of a round's steps."),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KIND.KEY=VALUE",
        help=f"A setting of what was chosen: KIND is one of {', '.join(spec.CHOICES)}; repeatable.",
    ),
)


def run_options(function: F) -> F:
    """The options that make up a `RunSpec`."""
    for option in reversed(_RUN_OPTIONS):
        function = option(function)
    return function


def out_option(function: F) -> F:
    """Where the runs are."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder of the runs.",
    )(function)


def json_option(function: F) -> F:
    """Machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def address_argument(function: F) -> F:
    """The aggregator to talk to."""
    default = f"127.0.0.1:{spec.DEFAULT_PORT}"
    return click.option("--address", default=default, show_default=True, help="HOST:PORT of the aggregator.")(function)


_SECURITY_OPTIONS = (
    click.option(
        "--tls-dir",
        type=click.Path(path_type=Path),
        envvar="NEUROFED_TLS_DIR",
        help="Folder with ca.crt, tls.crt and tls.key, as `neurofed provision` makes it.",
    ),
    click.option(
        "--tls-ca",
        type=click.Path(path_type=Path),
        envvar="NEUROFED_TLS_CA",
        help="CA that the other side is trusted by.",
    ),
    click.option(
        "--tls-cert", type=click.Path(path_type=Path), envvar="NEUROFED_TLS_CERT", help="Certificate of this side."
    ),
    click.option("--tls-key", type=click.Path(path_type=Path), envvar="NEUROFED_TLS_KEY", help="Its key."),
    click.option(
        "--insecure", is_flag=True, envvar="NEUROFED_INSECURE", help="Plain text even off the loopback interface."
    ),
)


def security_options(function: F) -> F:
    """Whom to trust and what to show; the command gets them as one `security`."""

    @functools.wraps(function)
    def command(*, tls_dir: Path, tls_ca: Path, tls_cert: Path, tls_key: Path, insecure: bool, **options: Any) -> Any:
        return function(security=Security(tls_dir, tls_ca, tls_cert, tls_key, insecure), **options)

    for option in reversed(_SECURITY_OPTIONS):
        command = option(command)
    return cast(F, command)


def to_spec(options: dict[str, Any]) -> RunSpec:
    """A checked `RunSpec` from the options of `run_options`.

    Raises:
        ConfigError: naming the option that is wrong.
    """
    settings = spec.settings_by_field(spec.parse_settings(options.pop("settings")))
    run_spec = RunSpec(**options, **settings)  # type: ignore[arg-type]
    spec.validate(run_spec)
    return run_spec


def split_chips(names: str) -> tuple[str, ...]:
    """The chips of `--chip`.

    Raises:
        ConfigError: if a name in the list is empty.
    """
    chips = tuple(name.strip() for name in names.split(","))
    if not all(chips):
        raise ConfigError(f"--chip: expected a chip or a list A,B,... of chips, got {names!r}")
    return chips


def check_names(run_spec: RunSpec, chips: Iterable[str]) -> None:
    """Check names, settings and chips against what is installed here, before any process is started.

    Raises:
        ConfigError: with the nearest name.
    """
    from neuro_engine.chip import Chip, ChipError
    from neurofed.errors import UnknownChipError
    from server import choices

    choices.check(run_spec)
    for name in dict.fromkeys(chips):
        try:
            Chip.load(name)
        except ChipError as error:
            raise UnknownChipError(str(error)) from None
