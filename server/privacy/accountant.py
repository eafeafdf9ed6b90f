"""What the noise of a run is worth: epsilon at a given delta, by the package dp-accounting.

A round releases a sum to which each worker adds a vector no longer than C, with Gaussian noise of standard deviation
z C. R such rounds, each of which may depend on those before, tell no more than one with noise z / sqrt(R) (Dong, Roth
and Su 2022, corollary 3.3), for which epsilon is known exactly (Balle and Wang 2018). No bound is loose here.

No worker's absence is counted as privacy: who takes part in a round is no secret, so nothing is amplified by sampling.
"""

from __future__ import annotations

import math
from typing import Any

from neurofed.errors import ConfigError

MAX_NOISE = 1000.0
"""More noise than this per worker leaves nothing of any model."""
MIN_NOISE = 1e-3
"""Less noise than this hides nothing: epsilon is above 10^5."""


def epsilon(noise: float, rounds: int, delta: float) -> float:
    """Epsilon after some rounds; infinite without noise.

    Args:
        noise: the noise multiplier z, standard deviation by clipping bound.
        rounds: how many.
        delta: the chance that epsilon does not hold.

    Raises:
        ConfigError: if the package is not installed.
    """
    return float(_library().get_epsilon_gaussian(noise / math.sqrt(rounds), delta)) if rounds else 0.0


def noise_for(target: float, rounds: int, delta: float) -> float:
    """The least noise multiplier whose epsilon after some rounds is at most the target.

    Raises:
        ConfigError: if it is more than is any use, or the package is not installed.
    """
    noise = float(_library().get_sigma_gaussian(target, delta)) * math.sqrt(rounds)
    noise *= 1 + 1e-9  # what is found by bisection may lie on the wrong side
    if noise > MAX_NOISE:
        raise ConfigError(
            f"privacy.epsilon: {target:g} at delta {delta:g} cannot be reached in {rounds} rounds: it takes noise "
            f"{noise:.3g} times as large as an update, {MAX_NOISE:g} is the most: run fewer rounds, or raise epsilon"
        )
    return noise


def most_rounds(noise: float, target: float, delta: float) -> int:
    """How many rounds with this noise keep epsilon within the target."""
    return int((noise / float(_library().get_sigma_gaussian(target, delta))) ** 2)


def _library() -> Any:
    try:
        import dp_accounting
    except ImportError as error:
        raise ConfigError(f"expected the extra `privacy` ({error}): pip install 'neurofed[privacy]'") from None
    return dp_accounting
