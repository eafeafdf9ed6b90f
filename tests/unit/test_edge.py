"""What is installed on a board: the script's refusals, the unit, and the hand-over of secrets. No systemd runs here."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from support import need_program

from neurofed import errors

EDGE = Path(__file__).resolve().parents[2] / "deploy" / "edge"
UNIT = (EDGE / "neurofed-worker.service").read_text()


def _value(key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)
    return str(found)


def _install(tmp_path: Path, *arguments: str, **answers: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh where some programs give other answers."""
    for program, answer in answers.items():
        (tmp_path / program).write_text(f"#!/bin/sh\necho {answer}\n")
        (tmp_path / program).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(EDGE / "install.sh"), *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("answers", "hint"),
    [
        ({"uname": "armv7l"}, "expected 64-bit ARM, got armv7l: there is no torch for 32-bit ARM"),
        ({"uname": "riscv64"}, "got riscv64"),
        ({"uname": "aarch64", "getconf": "32"}, "got a 32-bit one on aarch64"),
    ],
)
def test_a_board_that_torch_does_not_know_is_refused(tmp_path: Path, answers: dict[str, str], hint: str) -> None:
    done = _install(tmp_path, "--check", **answers)
    assert done.returncode == errors.MachineError.exit_code
    assert hint in done.stderr


def test_a_64_bit_board_is_fit(tmp_path: Path) -> None:
    done = _install(tmp_path, "--check", uname="aarch64", getconf="64")
    assert done.returncode == 0, done.stderr
    assert "aarch64" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ((), "expected HOST:PORT"),
        (("agg:9050",), "expected --token or --tls"),
        (("agg:9050", "--token"), "expected a value after --token"),
        (("agg:9050", "--tokn", "x"), "got --tokn"),
    ],
)
def test_wrong_use_changes_nothing_and_says_why(tmp_path: Path, arguments: tuple[str, ...], hint: str) -> None:
    done = _install(tmp_path, *arguments)
    assert done.returncode == errors.MachineError.exit_code
    assert hint in done.stderr


def test_scripts_are_clean() -> None:
    need_program("shellcheck")
    scripts = sorted(EDGE.parent.rglob("*.sh"))
    assert len(scripts) >= 6
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.stdout == ""


def test_a_worker_is_not_started_again_where_that_is_of_no_use() -> None:
    known = {kind.exit_code for kind in _tree(errors.NeuroFedError)} | {2}
    listed = {int(code) for code in _value("RestartPreventExitStatus").split()}
    assert listed <= known
    hopeless = (errors.ConfigError, errors.VersionMismatchError, errors.AccessError, errors.TokenError)
    assert {kind.exit_code for kind in hopeless} <= listed
    # the network, a clock that is set later, a name that the last process still holds
    passing = (errors.UnreachableError, errors.CredentialsError, errors.UntrustedError, errors.NameInUseError)
    assert not {kind.exit_code for kind in passing} & listed
    assert _value("Restart") == "on-failure"


def _tree(kind: type[errors.NeuroFedError]) -> list[type[errors.NeuroFedError]]:
    return [kind, *(grandchild for child in kind.__subclasses__() for grandchild in _tree(child))]


def test_the_unit_is_what_systemd_understands() -> None:
    need_program("systemd-analyze")
    command = ["systemd-analyze", "verify", "--man=no", str(EDGE / "neurofed-worker.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if "is not executable" not in line]  # nothing is installed here
    assert [line for line in told if "neurofed" in line] == []
    assert (_value("Type"), _value("DynamicUser")) == ("notify", "yes")


def test_secrets_are_handed_over_readable_for_their_owner_alone(tmp_path: Path) -> None:
    given, kept = tmp_path / "given", tmp_path / "kept"
    given.mkdir()
    kept.mkdir()
    for name, text in {"join.token": "secret", "ca.crt": "", "tls.crt": "", "tls.key": ""}.items():
        (given / name).write_text(text)
    environment = {**os.environ, "CREDENTIALS_DIRECTORY": str(given), "STATE_DIRECTORY": str(kept)}
    script = ["sh", str(EDGE / "credentials.sh")]
    subprocess.run(script, env=environment, check=True)
    assert (kept / "join.token").read_text() == "secret"
    assert stat.S_IMODE((kept / "join.token").stat().st_mode) == 0o600
    assert stat.S_IMODE((kept / "tls").stat().st_mode) == 0o700
    (kept / "tls" / "tls.crt").write_text("enrolled")
    subprocess.run(script, env=environment, check=True)
    assert (kept / "tls" / "tls.crt").read_text() == "enrolled", "what the worker got by itself stays"
    (given / "tls.crt").write_text("given")
    subprocess.run(script, env=environment, check=True)
    assert (kept / "tls" / "tls.crt").read_text() == "given"
