"""The image's recipe, and what an image is made of. The containers themselves: tests/e2e/test_compose.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support_docker import need_engine

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"


def _hadolint() -> str:
    """The linter, of .ci/tools.txt or of the machine."""
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        required = "ci-tools" in os.environ.get("NEUROFED_REQUIRE", "").split(",")
        (pytest.fail if required else pytest.skip)("needs the program `hadolint`: pip install -r .ci/tools.txt")
    return str(found)


def test_the_recipe_is_clean() -> None:
    done = subprocess.run(
        [_hadolint(), "--no-color", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_would_find_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && sudo ls\n")
    done = subprocess.run([_hadolint(), tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert {"DL3003", "DL3004", "DL3006"} <= set(done.stdout.split())


def test_the_bill_of_materials_names_what_is_in_the_image(tmp_path: Path) -> None:
    need_engine().close()
    file = tmp_path / "worker.cdx.json"
    script = [str(DOCKER / "sbom.sh"), "neurofed-worker", str(file)]
    done = subprocess.run(
        script, capture_output=True, text=True, check=False, env={**os.environ, "PYTHON": sys.executable}
    )
    assert done.returncode == 0, done.stderr
    bill = json.loads(file.read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    parts = {part["name"]: part for part in bill["components"]}
    assert {"neurofed", "torch", "flwr", "grpcio", "numpy"} <= set(parts)
    assert parts["torch"]["purl"].startswith("pkg:pypi/torch@2.")
    assert parts["neurofed"]["licenses"][0]["license"]["id"] == "Apache-2.0"
    assert not any("cyclonedx" in name for name in parts), "the tool is no part of the image"
