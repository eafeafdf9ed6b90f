"""The documentation says what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from neurofed.errors import NeuroFedError

ROOT = Path(__file__).resolve().parents[3]


def _tree(kind: type[NeuroFedError]) -> Iterator[type[NeuroFedError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def test_every_error_has_its_line_in_the_table_of_exit_codes() -> None:
    table = (ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    listed = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", table, re.MULTILINE)}
    assert listed == {kind.__name__: kind.exit_code for kind in _tree(NeuroFedError)}


def test_no_two_errors_share_an_exit_code() -> None:
    codes = [kind.exit_code for kind in _tree(NeuroFedError)]
    assert len(codes) == len(set(codes))
