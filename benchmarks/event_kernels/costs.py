"""What having the kernels costs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuro_engine.kernels import build

_LOAD_NATIVE = """
import json, time
import torch, neuro_engine.neuron
began = time.process_time()
from neuro_engine.kernels import buffers, native
native.pack(torch.zeros(1, 1))
print(json.dumps({"load_cpu_s": time.process_time() - began}))
"""
_LOAD_NUMBA = """
import json, time
from benchmarks.event_kernels.case import NEURAL, SYNAPTIC, Case
from benchmarks.event_kernels.numba_kernels import Numba
began = time.process_time()
import numba
imported = time.process_time()
case, kernels = Case(4, 64, 8, 0.1), Numba()
ready = time.process_time()
for operation in (*SYNAPTIC, *NEURAL):
    kernels.kernel(case, operation)()
spent = {"import_cpu_s": imported - began, "first_calls_cpu_s": time.process_time() - ready}
print(json.dumps(spent))
"""


def costs(level: str, folder: Path, *, with_numba: bool) -> Iterator[dict[str, Any]]:
    """What having the kernels costs: compiling, loading, room on disk."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    library = build.compile_library(folder / "c", level)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield {
        "cost": f"c {level}",
        "compile_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "load_cpu_s": _child(_LOAD_NATIVE)["load_cpu_s"],
        "bytes": library.stat().st_size,
        "compiler": _version_of(build.compiler() or ""),
    }
    if with_numba:
        cache = {"NUMBA_CACHE_DIR": str(folder / "numba")}
        first, second = _child(_LOAD_NUMBA, **cache), _child(_LOAD_NUMBA, **cache)
        yield {
            "cost": f"numba {importlib.metadata.version('numba')}",
            "compile_cpu_s": first["first_calls_cpu_s"],
            "load_cpu_s": second["import_cpu_s"] + second["first_calls_cpu_s"],
            "import_cpu_s": second["import_cpu_s"],
            "bytes": _installed_bytes("numba") + _installed_bytes("llvmlite"),
        }


def _child(code: str, **environment: str) -> dict[str, float]:
    """Run code in a fresh Python; the figures that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _installed_bytes(package: str) -> int:
    files = importlib.metadata.files(package) or []
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())


def _version_of(compiler: str) -> str:
    shown = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    return shown.partition("\n")[0]
