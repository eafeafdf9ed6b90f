"""The command line itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from neurofed.cli import _COMMANDS

_PROBE = """
import sys
from neurofed.cli import main
sys.argv = ["neurofed", *{arguments!r}]
try:
    main()
except SystemExit:
    pass
print("HEAVY:", sorted({{"torch", "flwr", "grpc", "numpy"}} & set(sys.modules)))
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PROBE.format(arguments=list(arguments))]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ()])
def test_starting_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert _run(*arguments).stdout.splitlines()[-1] == "HEAVY: []"


@pytest.mark.parametrize("command", list(_COMMANDS))
def test_every_command_explains_itself_without_torch_or_flwr(command: str) -> None:
    done = _run(command, "--help")
    assert done.stdout.startswith("Usage:")
    heavy = done.stdout.splitlines()[-1]
    assert "torch" not in heavy
    assert "flwr" not in heavy


def test_an_unknown_command_suggests_the_nearest() -> None:
    assert "did you mean 'monitor'?" in _run("moniter").stderr
