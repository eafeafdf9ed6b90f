"""Shamir's secret sharing (1979): any `threshold` shares give the secret, fewer say nothing about it.

A secret is the constant term of a polynomial of degree threshold - 1 with random coefficients over the integers modulo
a prime; share x is its value at x. The prime is the first above 2^256, so a secret of 32 bytes is one number.

pycryptodome's shares, which Flower uses, are of 16 bytes at a time, and joining many secrets costs seconds there.
Here the factors of one set of shares are computed once for all secrets that it opens.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Collection, Mapping

from neurofed.errors import ConfigError, UpdateError

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
MAX_SHARES = 1 << 16


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Shares of a secret, number x at place x - 1.

    Args:
        secret: 32 bytes.
        threshold: how many shares give it back.
        count: how many there are.

    Raises:
        ConfigError: unless 1 <= threshold <= count.
    """
    if not 1 <= threshold <= count <= MAX_SHARES:
        raise ConfigError(f"shares: expected a threshold of 1 to {min(count, MAX_SHARES)}, got {threshold}")
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"expected a secret of {SECRET_BYTES} bytes, got {len(secret)}")
    terms = [int.from_bytes(secret), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return [_value(terms, x).to_bytes(SHARE_BYTES) for x in range(1, count + 1)]


def _value(terms: list[int], x: int) -> int:
    total = 0
    for term in reversed(terms):
        total = (total * x + term) % PRIME
    return total


class Joiner:
    """Joins the shares of one set of holders.

    Args:
        holders: their numbers, from 1; as many as the threshold, or more.
    """

    def __init__(self, holders: Collection[int]) -> None:
        if len(set(holders)) != len(holders) or not all(1 <= x <= MAX_SHARES for x in holders):
            raise UpdateError("shares: expected each of the holders once")
        self._factors = {x: _lagrange_at_zero(x, holders) for x in holders}

    def secret(self, shares: Mapping[int, bytes]) -> bytes:
        """The secret of which each holder has a share.

        Args:
            shares: the share of each holder.

        Raises:
            UpdateError: if a share is malformed, or they are not of one secret of 32 bytes.
        """
        if shares.keys() != self._factors.keys():
            raise UpdateError(f"shares: expected those of {sorted(self._factors)}, got those of {sorted(shares)}")
        numbers = {x: number_of(share) for x, share in shares.items()}
        total = sum(numbers[x] * factor for x, factor in self._factors.items()) % PRIME
        if total >> (8 * SECRET_BYTES):
            raise UpdateError("shares: expected those of one secret, got some that do not fit each other")
        return total.to_bytes(SECRET_BYTES)


def number_of(share: bytes) -> int:
    """A share as a number.

    Raises:
        UpdateError: if it is none.
    """
    number = int.from_bytes(share)
    if len(share) != SHARE_BYTES or number >= PRIME:
        raise UpdateError(f"share: expected a number below 2^256 + 297 in {SHARE_BYTES} bytes, got {len(share)} bytes")
    return number


def _lagrange_at_zero(x: int, holders: Collection[int]) -> int:
    """The factor of share x in the value at 0 of the polynomial through all holders' shares."""
    others = [other for other in holders if other != x]
    above, below = math.prod(others), math.prod(other - x for other in others)
    return above * pow(below, -1, PRIME) % PRIME
