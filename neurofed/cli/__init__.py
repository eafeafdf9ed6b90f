"""The command line. Starting it imports neither torch nor flwr: each command loads what it needs when it runs."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from pathlib import Path

import click

from neurofed import __version__
from neurofed.errors import ConfigError, NeuroFedError, nearest

_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("neurofed.cli.run:run", "Start an aggregator and workers on this machine and train."),
    "server": ("neurofed.cli.processes:server", "Run an aggregator."),
    "worker": ("neurofed.cli.processes:worker", "Run a worker (worker join HOST:PORT)."),
    "submit": ("neurofed.cli.remote:submit", "Submit a run to an aggregator."),
    "runs": ("neurofed.cli.remote:runs", "List an aggregator's runs."),
    "stop": ("neurofed.cli.remote:stop", "Stop a run; what it has trained is kept."),
    "pause": ("neurofed.cli.remote:pause", "Let a run rest at the end of its round."),
    "resume": ("neurofed.cli.remote:resume", "Let a paused, stopped or failed run go on."),
    "monitor": ("neurofed.cli.remote:monitor", "Watch a run."),
    "workers": ("neurofed.cli.workers:workers", "List the workers that have joined an aggregator."),
    "provision": ("neurofed.cli.provision:provision", "Make certificates and join tokens for a federation."),
    "report": ("neurofed.cli.local:report", "Write a run's report again from its event log."),
    "compare": ("neurofed.cli.compare:compare", "Put runs side by side: what was asked, learned and spent."),
    "export": ("neurofed.cli.export:export", "Write a run for TensorBoard or MLflow, or as lines of JSON."),
    "workloads": ("neurofed.cli.local:workloads", "List the installed workloads and their presets."),
    "cluster": ("neurofed.cli.cluster:cluster", "Run a federation in containers, and drills with it."),
    "doctor": ("neurofed.cli.doctor:doctor", "Check this machine, and say what to do."),
    "profile": ("neurofed.cli.hardware:profile", "Say what training a network costs on a chip."),
    "sweep": ("neurofed.cli.hardware:sweep", "Vary a chip's values: energy, time and the best points."),
    "claims": ("neurofed.cli.hardware:claims", "Our figures beside the claims of arXiv:2412.05302."),
    "chips": ("neurofed.cli.local:chips", "List chips, or show and validate one."),
}
"""Where each command lives, and its help: with the help here, `neurofed --help` loads none of them."""


class _LazyGroup(click.Group):
    """Commands are imported when they are called; the list of commands needs no import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS:
            raise click.UsageError(f"no command {args[0]!r}: {nearest(args[0], _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _load_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Defaults < TOML < environment < flags: click asks the file's tables for what the others do not say."""
    if path is not None:
        try:
            ctx.default_map = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"--config {path}: {error}") from None
    return path


@click.group(
    cls=_LazyGroup,
    context_settings={"auto_envvar_prefix": "NEUROFED", "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="neurofed")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    callback=_load_config,
    expose_value=False,
    is_eager=True,
    help="TOML file with a table of options for each command.",
)
def cli() -> None:
    """Train spiking networks federated on emulated neuromorphic chips, and know the bill."""


def main() -> None:
    """Run the command line; every error of ours becomes one line and its exit code."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # what its C core would log of a failed call, we say in our words
    try:
        cli(standalone_mode=False)
    except NeuroFedError as error:
        click.echo(f"neurofed: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(130)
