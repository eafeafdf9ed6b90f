"""Tests that simulate need Icarus Verilog."""

import pytest
from support import need_program

from benchmarks.chip_model.rtl import SIMULATOR


@pytest.fixture(autouse=True)
def _simulator():
    need_program(SIMULATOR)
