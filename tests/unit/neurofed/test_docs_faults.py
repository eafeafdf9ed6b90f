"""The table of faults says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurofed.cli import cli
from neurofed.v1 import control_pb2, monitor_pb2

ROOT = Path(__file__).resolve().parents[3]
FAULTS = (ROOT / "docs" / "how-to" / "what-happens-when.md").read_text()
ROUNDS = (ROOT / "docs" / "how-to" / "rounds-that-do-not-wait.md").read_text()
ROWS = [
    cells
    for line in FAULTS.splitlines()
    if line.startswith("| ") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 5
    if cells[0] != "fault"
]
EVENTS = {field.name for field in monitor_pb2.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
SOURCES = "\n".join(
    path.read_text() for package in ("neurofed", "server", "worker") for path in (ROOT / package).rglob("*.py")
)


def _ids(row: list[str]) -> str:
    return row[0]


@pytest.mark.parametrize("row", ROWS, ids=_ids)
def test_events_words_and_exit_codes_are_those_of_the_code(row: list[str]) -> None:
    _, event, words, code, advice = row
    assert set(re.findall(r"`(\w+)`", event)) <= EVENTS
    for quoted in re.findall(r'"([^"]*)"', words):
        for piece in filter(None, (piece.strip() for piece in re.split(r"…", quoted))):
            assert piece in re.sub(r"\{[^}]*\}|%[sdg.1f]+", "…", SOURCES) or len(piece) < 3, piece
    assert code == "" or f"\n| {code} | `" in (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    assert advice


def test_the_table_is_read() -> None:
    assert len(ROWS) > 30


def test_the_options_of_rounds_are_options_of_both_commands_and_keys_of_a_run_file() -> None:
    named = set(re.findall(r"^\| `--([a-z-]+)", ROUNDS, re.MULTILINE))
    assert {"updates", "buffer", "scale-work", "stall-timeout-s"} <= named
    assert {name.replace("-", "_") for name in named} <= {field.name for field in control_pb2.RunSpec.DESCRIPTOR.fields}
    for command in ("run", "submit"):
        text = CliRunner().invoke(cli, [command, "--help"]).output
        assert all(f"--{name}" in text for name in named)
