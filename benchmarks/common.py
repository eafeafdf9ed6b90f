"""What every benchmark shares: its options, the provenance of its numbers, and the `must` rows."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import operator
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurofed.files import write_atomically
from neurofed.source import commit

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le, "==": operator.eq}
_PACKAGES = ("torch", "flwr", "grpcio", "numpy", "protobuf")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """`--quick` and `--json FILE`, for a benchmark that adds options of its own."""
    options = argparse.ArgumentParser(description=doc)
    options.add_argument("--quick", action="store_true", help="a minute: proof that the benchmark works")
    options.add_argument("--json", type=Path, help="write the results here")
    return options


def arguments(doc: str | None) -> argparse.Namespace:
    """`--quick` and `--json FILE`."""
    return parser(doc).parse_args()


def must(name: str, value: float | None, op: str, limit: float) -> dict[str, Any]:
    """One number that was promised, met or not; None could not be measured here, and is not met."""
    met = value is not None and _OPERATORS[op](value, limit)
    return {"name": name, "value": value, "op": op, "limit": limit, "met": met}


def finish(
    name: str,
    options: argparse.Namespace,
    seeds: Sequence[int],
    rows: Sequence[Mapping[str, Any]],
    musts: Sequence[Mapping[str, Any]],
    packages: Sequence[str] = (),
) -> None:
    """Print the rows and write the results with their provenance; `packages` are peers whose versions matter."""
    for row in rows:
        print("  ".join(f"{key}={_short(value)}" for key, value in row.items()))
    for entry in musts:
        verdict = "met" if entry["met"] else "MISSED"
        print(f"{verdict}: {entry['name']} = {_short(entry['value'])} ({entry['op']} {_short(entry['limit'])})")
    if options.json:
        result = {
            "name": name,
            "quick": options.quick,
            "commit": commit(),
            "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform(terse=True)},
            "versions": {
                "python": platform.python_version(),
                **{p: importlib.metadata.version(p) for p in (*_PACKAGES, *packages)},
            },
            "seeds": list(seeds),
            "rows": list(rows),
            "must": list(musts),
        }
        write_atomically(options.json, (json.dumps(result, indent=1) + "\n").encode())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
