"""A worker's part of secure aggregation in one round, see `neurofed.secagg`: a state machine without a network.

Each step is taken once, in this order: `keys`, `letters`, `mask`, `shares`. What is asked twice is refused, as two
answers could say together what neither says. A worker that restarts in between has forgotten its secrets, which
counts as having vanished.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Literal

from neurofed.errors import UpdateError
from neurofed.secagg import keys as crypto
from neurofed.secagg import messages, shamir
from neurofed.secagg.keystream import KEY_BYTES, Keystream, Words
from neurofed.secagg.messages import Keys, Shares, Table

Step = Literal["keys", "letters", "mask", "shares", "nothing"]


class MaskedWorker:
    """One worker in one round.

    Args:
        number: its own, as others know it.
        threshold: how many workers open a secret, and the least of whom a sum is made.
        session: names run and round; letters of another session cannot be opened.
        random_bytes: where secrets come from.
    """

    def __init__(
        self,
        number: int,
        threshold: int,
        session: bytes,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._number, self._threshold, self._session = number, threshold, session
        self._sealing_key, self._masking_key = random_bytes(crypto.PUBLIC_BYTES), random_bytes(crypto.PUBLIC_BYTES)
        self._seed = random_bytes(KEY_BYTES)
        self._roster: Mapping[int, Keys] = {}
        self._shares: dict[int, tuple[bytes, bytes]] = {}
        self._next: Step = "keys"

    @property
    def workers(self) -> int:
        """How many workers the round has; 0 before the letters."""
        return len(self._roster)

    def keys(self) -> Keys:
        """What all others are to know.

        Raises:
            UpdateError: if it was asked before.
        """
        self._take("keys", "letters")
        return Keys(
            crypto.public_of(self._sealing_key),
            crypto.public_of(self._masking_key),
            hashlib.sha256(self._seed).digest(),
        )

    def letters(self, roster: Mapping[int, Keys]) -> dict[int, bytes]:
        """A sealed letter for each other worker.

        Args:
            roster: the keys of all workers of the round, by number.

        Raises:
            UpdateError: if they are fewer than the threshold, our own are not among them, two have the same, or it was
                asked before.
        """
        self._take("letters", "mask")
        if len(roster) < self._threshold:
            raise UpdateError(f"secure aggregation: expected at least {self._threshold} workers, got {len(roster)}")
        own = roster.get(self._number)
        if own is None or own.masking != crypto.public_of(self._masking_key):
            raise UpdateError(f"secure aggregation: expected the keys of worker {self._number} as it sent them")
        public = [key for other in roster.values() for key in (other.sealing, other.masking)]
        if len(set(public)) != len(public):
            raise UpdateError("secure aggregation: expected keys that differ, got one twice")
        self._roster = roster
        key_shares = shamir.split(self._masking_key, self._threshold, len(roster))
        seed_shares = shamir.split(self._seed, self._threshold, len(roster))
        sealed = {}
        for other, key_share, seed_share in zip(sorted(roster), key_shares, seed_shares, strict=True):
            if other == self._number:
                self._shares[other] = key_share, seed_share
                continue
            letter = messages.letter_of(key_share, seed_share)
            sealed[other] = crypto.seal(
                self._sealing_key, roster[other].sealing, self._session, self._number, other, letter
            )
        return sealed

    def mask(self, letters: Table, vector: Words) -> Words:
        """Hide a vector.

        Args:
            letters: those for this worker, by sender; who wrote none has left the round.
            vector: as of `fixed.weighted`; it is changed in place.

        Returns:
            The same array, of which nothing can be told from numbers drawn at random.

        Raises:
            UpdateError: if letters are not what was sealed, or too few, or it was asked before.
        """
        self._take("mask", "shares")
        if len(letters) + 1 < self._threshold:
            raise UpdateError(
                f"secure aggregation: expected letters of {self._threshold - 1} workers, got {len(letters)}"
            )
        for sender in letters:
            if sender == self._number or sender not in self._roster:
                raise UpdateError(f"secure aggregation: expected letters of the round's other workers, got {sender}'s")
        for sender, sealed in letters.items():
            letter = crypto.unseal(
                self._sealing_key, self._roster[sender].sealing, self._session, sender, self._number, sealed
            )
            self._shares[sender] = messages.read_letter(letter)
        Keystream(self._seed).mask(vector, 1)
        for other in letters:
            key = crypto.mask_key(self._masking_key, self._roster[other].masking, self._session, self._number, other)
            Keystream(key).mask(vector, 1 if self._number < other else -1)
        return vector

    def shares(self, arrived: Collection[int]) -> Shares:
        """What takes the masks off the sum.

        Args:
            arrived: the workers whose vectors are in the sum.

        Raises:
            UpdateError: if they are fewer than the threshold, this one is not among them, one is not of the round, or
                it was asked before.
        """
        self._take("shares", "nothing")
        among = set(arrived)
        if len(among) < self._threshold:
            raise UpdateError(f"secure aggregation: expected a sum of at least {self._threshold}, got {len(among)}")
        if self._number not in among or not among <= self._shares.keys():
            raise UpdateError(f"secure aggregation: expected a sum of {sorted(self._shares)}, got {sorted(among)}")
        return Shares(
            seeds={other: seed for other, (_, seed) in self._shares.items() if other in among},
            keys={other: key for other, (key, _) in self._shares.items() if other not in among},
        )

    def _take(self, step: Step, then: Step) -> None:
        """Go on by one step; after one that fails there is no other."""
        if self._next != step:
            raise UpdateError(f"secure aggregation: expected to be asked for {self._next}, got {step}")
        self._next = then
