"""Attacks: what colluding workers send, who know everything that the honest ones send in the same round.

Updates are differences to the global model as flat vectors. Formulas are those of the papers: IPM (Xie et al. 2020),
ALIE (Baruch et al. 2019), MinMax (Shejwalkar and Houmansadr 2021).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

_HALVINGS = 30
_SCALE = 10.0
_FLOOD = 10.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What attackers see.

    Attributes:
        honest: what the honest workers send, (workers, parameters).
        own: what the attackers would send were they honest, (attackers, parameters).
        first: `own` of the first round.
        rng: where randomness comes from.
    """

    honest: Vector
    own: Vector
    first: Vector
    rng: np.random.Generator


def alie_z(workers: int, attackers: int) -> float:
    """How many standard deviations the attackers may be off and still have a majority with them; 0 at 10 with 2."""
    supporters = workers // 2 + 1 - attackers
    honest = workers - attackers
    return statistics.NormalDist().inv_cdf((honest - supporters) / honest)


def _alie(sight: Sight) -> Vector:
    z = alie_z(len(sight.honest) + len(sight.own), len(sight.own))
    return _all_send(sight, sight.honest.mean(0) - z * sight.honest.std(0))


def min_max(honest: Vector) -> Vector:
    """The farthest point against the spread of the honest that is no farther from any of them than they are apart."""
    mean, direction = honest.mean(0), -honest.std(0)
    apart = max(float(np.linalg.norm(honest - one, axis=1).max()) for one in honest)

    def fits(gamma: float) -> bool:
        return float(np.linalg.norm(honest - mean - gamma * direction, axis=1).max()) <= apart

    low, high = 0.0, 1.0
    while fits(high) and high < 1e6:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    sent: Vector = mean + low * direction
    return sent


def _all_send(sight: Sight, vector: Vector) -> Vector:
    sent: Vector = np.broadcast_to(vector, sight.own.shape)
    return sent


def _noise(sight: Sight) -> Vector:
    size = float(np.linalg.norm(sight.honest, axis=1).mean()) / np.sqrt(sight.honest.shape[1])
    sent: Vector = sight.rng.normal(0.0, _FLOOD * size, sight.own.shape)
    return sent


ATTACKS: Mapping[str, Callable[[Sight], Vector]] = {
    "none": lambda sight: sight.own,
    "sign-flip": lambda sight: -sight.own,
    "label-flip": lambda sight: sight.own,  # their data is what is wrong
    "noise": _noise,
    "ipm": lambda sight: _all_send(sight, -sight.honest.mean(0)),
    "ipm-10": lambda sight: _all_send(sight, -10.0 * sight.honest.mean(0)),
    "alie": _alie,
    "min-max": lambda sight: _all_send(sight, min_max(sight.honest)),
    "scaling": lambda sight: -_SCALE * sight.own,
    "nan": lambda sight: np.full(sight.own.shape, np.nan),
    "replay": lambda sight: sight.first,
}
"""What the attackers send, (attackers, parameters), by attack."""
