"""Rounds of secure aggregation without a network: every message goes through its form as bytes."""

from collections.abc import Mapping

import numpy as np

from neurofed.secagg import fixed, messages
from neurofed.secagg.messages import Keys, Shares
from server.privacy.secagg import MaskedSum
from worker.secagg import MaskedWorker

SESSION = b"run/1"
STEPS = ("keys", "letters", "vector", "shares")


class Round:
    """A round with workers of which some vanish.

    Args:
        models: model and examples by worker's number.
        threshold: of shares.
        vanish: by worker's number, the first of `STEPS` that it does not send.
    """

    def __init__(self, models, threshold, vanish: Mapping[int, str] | None = None, session=SESSION):
        self.models, self.vanish = models, vanish or {}
        like = next(iter(models.values()))[0]
        self.aggregator = MaskedSum(threshold, session, fixed.length(like))
        self.workers = {number: MaskedWorker(number, threshold, session) for number in models}
        self.sent: dict[int, np.ndarray] = {}

    def still_there(self, step):
        return [n for n in self.workers if n not in self.vanish or STEPS.index(self.vanish[n]) > STEPS.index(step)]

    def exchange_keys(self):
        for number in self.still_there("keys"):
            self.aggregator.admit(number, Keys.from_bytes(self.workers[number].keys().to_bytes()))
        table = messages.pack({n: keys.to_bytes() for n, keys in self.aggregator.roster().items()})
        return {n: Keys.from_bytes(data) for n, data in messages.unpack(table, messages.KEYS_BYTES).items()}

    def exchange_letters(self, roster):
        for number in self.still_there("letters"):
            sent = messages.pack(self.workers[number].letters(roster))
            self.aggregator.relay(number, messages.unpack(sent, messages.SEALED_BYTES))
        return {
            n: messages.unpack(messages.pack(t), messages.SEALED_BYTES) for n, t in self.aggregator.letters().items()
        }

    def send_vectors(self, letters):
        for number in self.still_there("vector"):
            model, examples = self.models[number]
            vector = fixed.weighted(model, examples, self.workers[number].workers)
            self.sent[number] = self.workers[number].mask(letters[number], vector).copy()
            self.aggregator.add(number, self.sent[number].view(np.int64))
        return self.aggregator.arrived()

    def send_shares(self, arrived):
        for number in self.still_there("shares"):
            shares = self.workers[number].shares(arrived)
            self.aggregator.open(number, Shares(dict(shares.seeds), dict(shares.keys)))

    def run(self):
        letters = self.exchange_letters(self.exchange_keys())
        self.send_shares(self.send_vectors(letters))
        return self.aggregator.total()
