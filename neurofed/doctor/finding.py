"""One result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        check: the check, in a word.
        level: whether a worker can run all the same.
        text: what was found; unless all is well also what was expected, and what to do.
    """

    check: str
    level: Level
    text: str


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str) -> Finding:
    """A worker runs, but not as well as it could."""
    return Finding(check, Level.WARNING, text)


def failure(check: str, text: str) -> Finding:
    """A worker cannot run like this."""
    return Finding(check, Level.FAILURE, text)
