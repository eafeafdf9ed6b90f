"""A folder of real certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofed.security.pki import Pki


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What `neurofed provision init` makes."""
    Pki.create(tmp_path / "pki", ["agg.example", "10.0.0.5"], ["board-1", "board-2"])
    return tmp_path / "pki"


@pytest.fixture
def pki(root: Path) -> Pki:
    """Its keeper."""
    return Pki(root)
