"""What tests share."""

import importlib
import os
from types import ModuleType

import pytest


def need(module: str, extra: str) -> ModuleType:
    """Import a module that an extra of ours brings.

    Args:
        module: dotted name.
        extra: the extra, as in pyproject.toml.

    Returns:
        The module. Without it the test is skipped, or fails where NEUROFED_REQUIRE, a comma list, names the extra: CI
        then notices that it no longer runs what it should.
    """
    if extra in os.environ.get("NEUROFED_REQUIRE", "").split(","):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"needs the extra `{extra}`")
