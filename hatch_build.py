"""Compiles the kernels into a wheel, so that an installation needs no compiler.

Without a compiler the wheel is pure Python, and the kernels are compiled at first use, or torch runs in their place. An
editable installation always compiles at first use.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_LIBRARIES = "neuro_engine/kernels/lib"


def _kernels_build(root: Path) -> ModuleType:
    """`neuro_engine/kernels/build.py`, which needs nothing but the standard library."""
    spec = importlib.util.spec_from_file_location("kernels_build", root / "neuro_engine/kernels/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class KernelsHook(BuildHookInterface[Any]):
    """Hatchling's hook: adds the libraries of all levels of this kind of processor, and the wheel's platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, unless the installation is editable or there is no compiler."""
        build = _kernels_build(Path(self.root))
        arm = platform.machine() in ("aarch64", "arm64")
        if version == "editable" or sys.platform != "linux" or not (arm or platform.machine() == "x86_64"):
            return
        for stale in build.BUILT.glob("*.so"):
            stale.unlink()
        try:
            for level in (build.ARM,) if arm else build.LEVELS:
                build.compile_library(build.BUILT, level)
        except (OSError, subprocess.SubprocessError) as error:
            self.app.display_warning(f"kernels are left out of the wheel: {error}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
        build_data["artifacts"].append(f"{_LIBRARIES}/*.so")
