"""How many attackers a rule shall withstand, and whether there are updates enough for that."""

from __future__ import annotations

import math
from collections.abc import Callable

from neurofed.errors import ConfigError, NotEnoughWorkersError, UpdateError

Needed = Callable[[int], int]
"""Updates a rule needs to withstand so many attackers."""


def tolerated(share: float, updates: int) -> int:
    """The number of attackers that `share` of the updates is: rounded down, but one at least unless the share is 0."""
    return max(math.floor(share * updates + 1e-9), 1) if share > 0 else 0


def require_possible(name: str, needed: Needed, share: float, workers: int) -> None:
    """Check at the beginning of a round that the rule is defined if all workers send their update.

    Raises:
        ConfigError: if it is not.
    """
    attackers = tolerated(share, workers)
    if workers < needed(attackers):
        raise ConfigError(
            f"{name}: expected at least {needed(attackers)} workers to withstand {attackers} attackers, got {workers}: "
            "use more workers, a lower share of attackers, or another rule"
        )


def require_enough(name: str, needed: Needed, attackers: int, updates: int) -> None:
    """Check at the end of a round that the rule is defined for the updates that came.

    Raises:
        UpdateError: if none came.
        NotEnoughWorkersError: if they are too few.
    """
    if not updates:
        raise UpdateError("expected at least one update, got none")
    if updates < needed(attackers):
        raise NotEnoughWorkersError(
            f"{name}: expected updates of at least {needed(attackers)} workers to withstand {attackers} attackers, "
            f"got {updates}: bring the workers back and resume"
        )
