"""Logging of the long-running processes: one line per record on standard error."""

from __future__ import annotations

import logging


def configure(level: str = "INFO") -> None:
    """Send records of `level` and above to standard error."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
