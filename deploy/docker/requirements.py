"""Prints what the package needs at run time, a line each, from the pyproject.toml that is named."""

import sys
import tomllib
from pathlib import Path

sys.stdout.write("\n".join(tomllib.loads(Path(sys.argv[1]).read_text())["project"]["dependencies"]) + "\n")
