"""What workers and aggregator send each other, as values and as bytes of fixed lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neurofed.errors import UpdateError
from neurofed.secagg.keys import PUBLIC_BYTES, TAG_BYTES
from neurofed.secagg.shamir import SHARE_BYTES

Table = Mapping[int, bytes]
"""Bytes by the number of a worker, from whom or for whom they are."""

KEYS, LETTERS, SHARES = "secagg_keys", "secagg_letters", "secagg_shares"
"""What a worker is asked for, as actions of Flower's queries, hence underscores; its answer has the same name."""
SESSION, THRESHOLD, ROSTER, ARRIVED = "secagg_session", "secagg_threshold", "secagg_roster", "secagg_arrived"
"""What it is told with them. A task that brings a session, and `LETTERS`, asks for a masked update."""
KEY_SHARES = "secagg_key_shares"
"""Beside `SHARES`, which are those of seeds."""
MASKED = "masked"
"""The name of the vector in a masked update, and of its record: it is no model, and has not the shape of one."""

DIGEST_BYTES = 32
KEYS_BYTES = 2 * PUBLIC_BYTES + DIGEST_BYTES
LETTER_BYTES = 2 * SHARE_BYTES
SEALED_BYTES = LETTER_BYTES + TAG_BYTES
_NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Keys:
    """What a worker tells all others.

    Attributes:
        sealing: the public key for letters to it.
        masking: the public key of its masks.
        commitment: SHA-256 of the seed of its own mask.
    """

    sealing: bytes
    masking: bytes
    commitment: bytes

    def to_bytes(self) -> bytes:
        """As it is sent."""
        return self.sealing + self.masking + self.commitment

    @classmethod
    def from_bytes(cls, data: bytes) -> Keys:
        """The inverse.

        Raises:
            UpdateError: if it is not as long.
        """
        _require_length("keys", data, KEYS_BYTES)
        return cls(data[:PUBLIC_BYTES], data[PUBLIC_BYTES : 2 * PUBLIC_BYTES], data[2 * PUBLIC_BYTES :])


@dataclass(frozen=True, slots=True)
class Shares:
    """What a worker gives away at the end of a round.

    Attributes:
        seeds: its shares of the seeds of those whose updates arrived.
        keys: its shares of the masking keys of the others.
    """

    seeds: Table
    keys: Table


def letter_of(key_share: bytes, seed_share: bytes) -> bytes:
    """What one worker writes to another."""
    return key_share + seed_share


def read_letter(letter: bytes) -> tuple[bytes, bytes]:
    """The share of the masking key and that of the seed.

    Raises:
        UpdateError: if it is not as long.
    """
    _require_length("letter", letter, LETTER_BYTES)
    return letter[:SHARE_BYTES], letter[SHARE_BYTES:]


def pack(table: Table) -> bytes:
    """A table as bytes, by the order of numbers."""
    return b"".join(number.to_bytes(_NUMBER_BYTES) + table[number] for number in sorted(table))


def unpack(data: bytes, entry_bytes: int) -> dict[int, bytes]:
    """The inverse, for entries of one length.

    Raises:
        UpdateError: if it does not come out even, or a number is there twice.
    """
    step = _NUMBER_BYTES + entry_bytes
    rows = [data[start : start + step] for start in range(0, len(data), step)]
    table = {int.from_bytes(row[:_NUMBER_BYTES]): row[_NUMBER_BYTES:] for row in rows}
    if len(data) % step or len(table) != len(rows):
        raise UpdateError(f"secure aggregation: expected entries of {step} bytes, one a worker, got {len(data)} bytes")
    return table


def _require_length(what: str, data: bytes, expected: int) -> None:
    if len(data) != expected:
        raise UpdateError(f"secure aggregation: expected {what} of {expected} bytes, got {len(data)}")
