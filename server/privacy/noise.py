"""Gaussian noise that a resumed run draws again to the bit, and nobody else can foretell.

A seed that others know would be no noise at all: they would subtract it. The key is drawn from the operating system
when the run begins and kept beside it, in a file that only its owner reads; checkpoints, which people pass on, do not
hold it. A round's noise comes from the key and from everything that the noise is added to (a pseudo-random function of
it, as signatures draw their nonces, RFC 6979). The same round done again gives the same bits. A round done again with
other updates gets other noise: if it had the same, the difference of the two models would tell what was changed.
"""

from __future__ import annotations

import hmac
import math
import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofed.errors import CredentialsError
from neurofed.rope import Buffer
from neurofed.secagg.keystream import KEY_BYTES, Keystream
from neurofed.security.private import read_secret, write_private

KEY_FILE = "privacy.key"


def run_key(folder: Path, *, resumed: bool) -> bytes:
    """The key of a run, made where it begins.

    Args:
        folder: the run's.
        resumed: rounds are done already, so there must be one.

    Raises:
        CredentialsError: if the key is missing, malformed, or others can read it.
        StorageError: if the disk does not take it.
    """
    path = folder / KEY_FILE
    if not path.exists():
        if resumed:
            raise CredentialsError(
                f"expected the key of the run's noise in {path}, got none: put it back, or begin a new run"
            )
        write_private(path, secrets.token_bytes(KEY_BYTES))
    key = read_secret(path, "the key of the run's noise")
    if len(key) != KEY_BYTES:
        raise CredentialsError(f"{path}: expected {KEY_BYTES} bytes, got {len(key)}: begin a new run")
    return key


class Noise:
    """A stream of standard normal numbers.

    Args:
        key: the run's key.
        about: what the noise will be added to.
    """

    def __init__(self, key: bytes, about: Iterable[Buffer]) -> None:
        digest = hmac.new(key, b"neurofed noise 1", "sha256")
        for part in about:
            digest.update(part)
        self._stream = Keystream(digest.digest())

    def normal(self, count: int) -> npt.NDArray[np.float64]:
        """The next `count` numbers, by Box and Muller (1958).

        All 64 bits of a word count, so that the tails reach to 9.5 standard deviations.
        """
        half = (count + 1) // 2
        uniform = (self._stream.words(2 * half).astype(np.float64) + 0.5) * 2.0**-64
        radius, angle = np.sqrt(-2.0 * np.log(uniform[:half])), 2.0 * math.pi * uniform[half:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
