"""The options are named alike everywhere, come from the environment too, and cost nothing while nobody needs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from neurofed.cli.processes import join, server
from neurofed.cli.remote import monitor, runs, stop, submit
from neurofed.security.options import ENVIRONMENT

COMMANDS = (server, join, submit, runs, stop, monitor)


def _options(command: click.Command) -> Iterator[click.Option]:
    return (option for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command.name))
def test_every_command_on_the_network_takes_the_same_options(command: click.Command) -> None:
    names = {option.opts[0] for option in _options(command)}
    assert {"--tls-dir", "--tls-ca", "--tls-cert", "--tls-key", "--insecure"} <= names


def test_the_environment_speaks_for_every_option() -> None:
    names = {str(option.envvar) for command in COMMANDS for option in _options(command) if option.envvar}
    assert names == set(ENVIRONMENT)


@pytest.mark.parametrize("command", ["provision", "server", "runs"])
def test_help_loads_no_cryptography(command: str) -> None:
    probe = f"import sys; sys.argv = ['neurofed', '{command}', '--help']\nfrom neurofed.cli import main\ntry: main()\n"
    probe += "except SystemExit: pass\nprint('cryptography' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stdout
