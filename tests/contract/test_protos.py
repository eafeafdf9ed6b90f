"""The generated protocol code is what the protos say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = sorted((ROOT / "proto" / "neurofed" / "v1").glob("*.proto"))


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="the extra 'dev' is not installed")
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    bin_folder = Path(sys.executable).parent
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", *outputs]
    files = [str(path.relative_to(ROOT)) for path in PROTOS]
    subprocess.run(
        [*command, *files], cwd=ROOT, check=True, capture_output=True, env={"PATH": f"{bin_folder}:/usr/bin"}
    )
    generated = {path.name: path.read_bytes() for path in (tmp_path / "neurofed" / "v1").iterdir()}
    for name in ("records_pb2_grpc.py", "records_pb2_grpc.pyi"):  # no service in it
        generated.pop(name)
    folder = ROOT / "neurofed" / "v1"
    assert {p.name: p.read_bytes() for p in folder.glob("*_pb2*.py*")} == generated, "run `make protos`"


def test_protos_keep_the_style() -> None:
    buf = Path(sys.executable).parent / "buf"
    if not buf.exists() and not shutil.which("buf"):
        pytest.skip("buf is not installed: the extra 'dev' has it")
    done = subprocess.run([str(buf), "lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
