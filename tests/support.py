"""What tests share."""

import importlib
import os
import shutil
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
    if _required(extra):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"needs the extra `{extra}`")


def need_program(name: str) -> None:
    """Skip the test where a program is not installed, or fail where NEUROFED_REQUIRE names it: see `need`."""
    if shutil.which(name) is None:
        absent = pytest.fail if _required(name) else pytest.skip
        absent(f"needs the program `{name}`")


def _required(name: str) -> bool:
    return name in os.environ.get("NEUROFED_REQUIRE", "").split(",")
