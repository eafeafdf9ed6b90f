"""The aggregator's part of secure aggregation in one round, see `neurofed.secagg`: a state machine without a network.

    admit each worker's keys       then  roster    goes to all of them
    relay each worker's letters    then  letters   go to whom they are for, with the model
    add   each masked vector       then  arrived   goes to those whose vectors are in
    open  each worker's shares     then  total     is the sum

Who vanishes before its letters were relayed is not part of the round. Who vanishes later is missing from the sum, and
its masks are taken off; at each step there must be as many as the threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from neurofed.errors import ConfigError, NotEnoughWorkersError, UpdateError
from neurofed.secagg import keys as crypto
from neurofed.secagg import messages
from neurofed.secagg.keystream import Keystream, Words
from neurofed.secagg.messages import Keys, Shares, Table
from neurofed.secagg.shamir import Joiner, number_of
from server.aggregation.base import MAX_ABS, MAX_EXAMPLES, Array, Model, floating
from server.aggregation.exact import FRACTION_BITS

MIN_WORKERS = 3
"""With two, each knows the other's update: it is the sum less its own."""


def threshold_for(workers: int, wanted: int = 0) -> int:
    """How many workers open a secret, and the least of whom a sum is made.

    Args:
        workers: of the run.
        wanted: as set; 0 takes the least above two thirds.

    Raises:
        ConfigError: if there are too few workers, or the threshold is not above half of them: two halves could each
            open what no one set of workers may.
    """
    if workers < MIN_WORKERS:
        raise ConfigError(f"secure aggregation: expected at least {MIN_WORKERS} workers, got {workers}")
    threshold = wanted or 2 * workers // 3 + 1
    if not workers // 2 < threshold <= workers:
        raise ConfigError(f"privacy.threshold: expected {workers // 2 + 1} to {workers}, got {threshold}")
    return threshold


class MaskedSum:
    """The sum of one round.

    Args:
        threshold: as of `threshold_for`.
        session: names run and round, the same as the workers'.
        size: elements of a vector.
    """

    def __init__(self, threshold: int, session: bytes, size: int) -> None:
        self._threshold, self._session = threshold, session
        self._keys: dict[int, Keys] = {}
        self._letters: dict[int, Table] = {}
        self._arrived: set[int] = set()
        self._shares: dict[int, Shares] = {}
        self._sum: Words = np.zeros(size, np.uint64)
        self._step = 0

    # -- what workers send

    def admit(self, worker: int, keys: Keys) -> None:
        """Take a worker's keys.

        Raises:
            UpdateError: if it has sent some, others were told already, or they are malformed or those of another.
        """
        self._require("keys", 0, worker, worker not in self._keys)
        for key in (keys.sealing, keys.masking):
            crypto.require_public(key)
        others = {key for other in self._keys.values() for key in (other.sealing, other.masking)}
        if keys.sealing == keys.masking or others & {keys.sealing, keys.masking}:
            raise UpdateError(f"secure aggregation: expected keys of worker {worker} that nobody else has")
        self._keys[worker] = keys

    def relay(self, worker: int, letters: Table) -> None:
        """Take a worker's letters.

        Raises:
            UpdateError: if they are not one for each other worker, or were sent before.
        """
        self._require("letters", 1, worker, worker in self._keys and worker not in self._letters)
        if letters.keys() != self._keys.keys() - {worker}:
            raise UpdateError(f"secure aggregation: expected letters to {len(self._keys) - 1}, got {len(letters)}")
        if any(len(letter) != messages.SEALED_BYTES for letter in letters.values()):
            raise UpdateError(f"secure aggregation: expected letters of {messages.SEALED_BYTES} bytes")
        self._letters[worker] = letters

    def add(self, worker: int, vector: Array) -> None:
        """Add a masked vector.

        Raises:
            UpdateError: if it has another length or type, or its worker is not of the round or has sent one.
        """
        self._require("vector", 2, worker, worker in self._letters and worker not in self._arrived)
        if vector.shape != self._sum.shape or vector.dtype.kind not in "iu" or vector.dtype.itemsize != 8:
            raise UpdateError(
                f"secure aggregation: expected {self._sum.size} integers of 64 bits, got {vector.dtype} {vector.shape}"
            )
        self._sum += np.ascontiguousarray(vector).view(np.uint64)
        self._arrived.add(worker)

    def open(self, worker: int, shares: Shares) -> None:
        """Take a worker's shares.

        Raises:
            UpdateError: if they are not those that were asked for, malformed, or were sent before.
        """
        self._require("shares", 3, worker, worker in self._arrived and worker not in self._shares)
        if shares.seeds.keys() != self._arrived or shares.keys.keys() != self._letters.keys() - self._arrived:
            raise UpdateError(
                "secure aggregation: expected shares of the seeds of the workers in the sum, and of the "
                "keys of the others"
            )
        for share in (*shares.seeds.values(), *shares.keys.values()):
            number_of(share)
        self._shares[worker] = shares

    def _require(self, what: str, step: int, worker: int, expected: bool) -> None:
        if self._step != step or not expected:
            raise UpdateError(f"secure aggregation: expected no {what} of worker {worker} now")

    # -- what workers are sent; each closes a step

    def roster(self) -> Mapping[int, Keys]:
        """The keys of all, for all.

        Raises:
            NotEnoughWorkersError: if there are fewer than the threshold.
        """
        self._close(0, len(self._keys), "sent keys")
        return self._keys

    def letters(self) -> Mapping[int, Table]:
        """The letters by recipient and sender; only who wrote some gets some.

        Raises:
            NotEnoughWorkersError: if there are fewer than the threshold.
        """
        self._close(1, len(self._letters), "sent letters")
        return {
            recipient: {sender: sent[recipient] for sender, sent in self._letters.items() if sender != recipient}
            for recipient in self._letters
        }

    def arrived(self) -> list[int]:
        """Those whose vectors are in the sum, for themselves.

        Raises:
            NotEnoughWorkersError: if there are fewer than the threshold.
        """
        self._close(2, len(self._arrived), "sent an update")
        return sorted(self._arrived)

    def total(self) -> Words:
        """The sum, without masks.

        Raises:
            NotEnoughWorkersError: if fewer than the threshold have sent shares.
            UpdateError: if shares are false.
        """
        self._close(3, len(self._shares), "sent shares")
        places = {worker: place for place, worker in enumerate(sorted(self._keys), 1)}
        holders = sorted(self._shares)[: self._threshold]
        joiner = Joiner([places[holder] for holder in holders])

        def secret(kind: str, worker: int) -> bytes:
            return joiner.secret({places[holder]: getattr(self._shares[holder], kind)[worker] for holder in holders})

        for worker in self._arrived:
            seed = secret("seeds", worker)
            _require_true(hashlib.sha256(seed).digest() == self._keys[worker].commitment, worker)
            Keystream(seed).mask(self._sum, -1)
        for gone in self._letters.keys() - self._arrived:
            private = secret("keys", gone)
            _require_true(crypto.public_of(private) == self._keys[gone].masking, gone)
            for worker in self._arrived:
                key = crypto.mask_key(private, self._keys[worker].masking, self._session, gone, worker)
                Keystream(key).mask(self._sum, -1 if worker < gone else 1)
        return self._sum

    def _close(self, step: int, count: int, what: str) -> None:
        if self._step != step:
            raise UpdateError(f"secure aggregation: expected to be at step {step + 1}, is at {self._step + 1}")
        if count < self._threshold:
            raise NotEnoughWorkersError(
                f"secure aggregation: expected at least {self._threshold} workers, {count} {what}: bring the workers "
                "back and resume, or lower privacy.threshold"
            )
        self._step += 1


def _require_true(holds: bool, worker: int) -> None:
    if not holds:
        raise UpdateError(f"secure aggregation: the shares of worker {worker}'s secret are false: somebody lies")


def mean_of(total: Words, model: Model, workers: int) -> tuple[Model, int]:
    """The model that a sum stands for, the same to the bit as without masks, and the examples in it.

    Args:
        total: the sum of vectors as of `neurofed.secagg.fixed.weighted`.
        model: the global model; its other tensors are taken over.
        workers: whose vectors are in the sum.

    Raises:
        UpdateError: if it is no sum of acceptable models.
    """
    sums, examples = total[:-1].view(np.int64), int(total[-1])
    if not workers <= examples <= MAX_EXAMPLES:
        raise UpdateError(f"secure aggregation: expected {workers} to {MAX_EXAMPLES} examples in all, got {examples}")
    largest = max(abs(int(sums.max(initial=0))), abs(int(sums.min(initial=0))))
    if largest > (int(MAX_ABS) << FRACTION_BITS) * examples:
        raise UpdateError(
            f"secure aggregation: expected a mean of at most {MAX_ABS:g}: an update was not what it ought"
        )
    result, start = dict(model), 0
    for name, like in sorted(floating(model).items()):
        mean = sums[start : start + like.size].astype(np.float64)
        mean *= 2.0**-FRACTION_BITS / examples
        result[name] = mean.astype(like.dtype).reshape(like.shape)
        start += like.size
    return result, examples
