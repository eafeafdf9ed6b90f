"""Secure aggregation of both sides: dropouts at each step, bad and repeated messages, what is seen of an update."""

import math

import numpy as np
import pytest
from scipy import stats
from support_secagg import SESSION, STEPS, Round

from neurofed.errors import ConfigError, NotEnoughWorkersError, UpdateError
from neurofed.secagg import fixed, keys, messages, shamir
from neurofed.secagg.keystream import Keystream
from neurofed.secagg.messages import Keys, Shares
from server.aggregation import base, exact
from server.aggregation.base import Update
from server.aggregation.fedavg import FEDAVG
from server.privacy.secagg import MaskedSum, mean_of, threshold_for
from worker.secagg import MaskedWorker

rng = np.random.default_rng(3)


def model_of(value):
    return {"w": np.full((2, 2), value, np.float32), "v": np.array([value, -value]), "steps": np.array(4)}


MODELS = {number: (model_of(number / 8), 10 * number) for number in (1, 2, 5, 7, 9)}
THRESHOLD = 4


def plain_mean(numbers):
    state = FEDAVG.init(model_of(0.0), len(MODELS))
    for number in numbers:
        state = FEDAVG.add(state, Update(*MODELS[number]))
    return FEDAVG.finish(state)


def assert_is_the_plain_mean(total, numbers):
    mean, examples = mean_of(total, model_of(0.0), len(numbers))
    assert examples == sum(MODELS[n][1] for n in numbers)
    assert {n: a.tobytes() for n, a in mean.items()} == {n: a.tobytes() for n, a in plain_mean(numbers).items()}


# -- the sum


def test_all_take_part():
    assert_is_the_plain_mean(Round(MODELS, THRESHOLD).run(), list(MODELS))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("gone", list(MODELS))
def test_one_vanishes_at_any_step_and_the_sum_is_that_of_the_others(step, gone):
    counted = [n for n in MODELS if n != gone or step == "shares"]
    assert_is_the_plain_mean(Round(MODELS, THRESHOLD, {gone: step}).run(), counted)


def test_several_vanish_at_different_steps():
    vanish = {1: "keys", 2: "letters", 5: "vector", 9: "shares"}
    models = {number: MODELS[(1, 2, 5, 7, 9)[number % 5]] for number in range(1, 12)}
    total = Round(models, 7, vanish).run()
    expected = sum(models[n][1] for n in models if n not in (1, 2, 5))
    assert int(total[-1]) == expected


@pytest.mark.parametrize("step", STEPS)
def test_too_many_vanish(step):
    with pytest.raises(NotEnoughWorkersError, match="at least 4 workers, 3 sent"):
        Round(MODELS, THRESHOLD, {1: step, 9: step}).run()


def test_vector_and_rule_have_the_same_fixed_point():
    assert (fixed.FRACTION_BITS, fixed.MAX_ABS) == (exact.FRACTION_BITS, base.MAX_ABS)
    assert base.most_examples(1) == fixed.MAX_EXAMPLES


def test_the_order_of_tensors_is_without_effect():
    """A model from a checkpoint has another one than a worker's own."""
    model = model_of(0.5)
    turned = dict(reversed(model.items()))
    vector = fixed.weighted(model, 3, 5)
    np.testing.assert_array_equal(fixed.weighted(turned, 3, 5), vector)
    mean, _ = mean_of(vector, turned, 1)
    assert {n: mean[n].tobytes() for n in model} == {n: model[n].tobytes() for n in model}


# -- what is seen


def seeded(seed):
    return np.random.default_rng(seed).bytes


def test_what_is_seen_of_an_update_is_uniform():
    """The vector itself is all alike, and far from uniform."""
    size = 1 << 16
    model = {"w": np.full(size, 0.5, np.float32)}
    workers = {n: MaskedWorker(n, 2, SESSION, seeded(n)) for n in (1, 2, 3)}
    roster = {n: worker.keys() for n, worker in workers.items()}
    sent = {n: worker.letters(roster) for n, worker in workers.items()}
    seen = workers[2].mask({n: sent[n][2] for n in (1, 3)}, fixed.weighted(model, 100, 3))
    octets = np.bincount(seen.view(np.uint8), minlength=256)
    assert stats.chisquare(octets).pvalue > 0.001
    for bit in (0, 31, 40, 63):
        ones = int((seen >> np.uint64(bit) & np.uint64(1)).sum())
        assert abs(ones - (size + 1) / 2) < 4 * math.sqrt(size + 1) / 2
    neighbours = np.corrcoef(seen[:-1].astype(np.float64), seen[1:].astype(np.float64))[0, 1]
    assert abs(neighbours) < 4 / math.sqrt(size)


def test_the_same_update_looks_different_in_each_round_and_unlike_others():
    one, two = Round(MODELS, THRESHOLD), Round(MODELS, THRESHOLD)
    one.run()
    two.run()
    seen = [r.sent[n].tobytes() for r in (one, two) for n in MODELS]
    assert len(set(seen)) == len(seen)


def test_no_worker_gives_away_seed_and_key_of_the_same():
    rounds = Round(MODELS, THRESHOLD, {5: "vector"})
    arrived = rounds.send_vectors(rounds.exchange_letters(rounds.exchange_keys()))
    shares = rounds.workers[1].shares(arrived)
    assert sorted(shares.seeds) == [1, 2, 7, 9]
    assert sorted(shares.keys) == [5]


# -- what is refused by a worker


def test_each_step_is_taken_once_and_in_order():
    worker = MaskedWorker(1, 2, SESSION)
    for early in (
        lambda: worker.letters({}),
        lambda: worker.mask({}, np.zeros(1, np.uint64)),
        lambda: worker.shares([]),
    ):
        with pytest.raises(UpdateError, match="expected to be asked for keys"):
            early()
    worker.keys()
    with pytest.raises(UpdateError, match="expected to be asked for letters, got keys"):
        worker.keys()


def test_shares_are_given_away_once():
    rounds = Round(MODELS, THRESHOLD)
    arrived = rounds.send_vectors(rounds.exchange_letters(rounds.exchange_keys()))
    rounds.workers[1].shares(arrived)
    with pytest.raises(UpdateError, match="asked for nothing"):
        rounds.workers[1].shares(arrived[:-1])


@pytest.mark.parametrize(
    "arrived", [[1, 2, 5], [2, 5, 7, 9], [1, 2, 5, 7, 11]], ids=["few", "without me", "a stranger"]
)
def test_shares_for_a_sum_that_is_none_are_refused(arrived):
    rounds = Round(MODELS, THRESHOLD)
    rounds.send_vectors(rounds.exchange_letters(rounds.exchange_keys()))
    with pytest.raises(UpdateError, match="expected a sum of"):
        rounds.workers[1].shares(arrived)


def test_a_roster_that_is_too_short_or_false_is_refused():
    workers = {n: MaskedWorker(n, 3, SESSION) for n in (1, 2, 3, 4)}
    roster = {n: worker.keys() for n, worker in workers.items()}
    with pytest.raises(UpdateError, match="at least 3"):
        workers[1].letters({n: roster[n] for n in (1, 2)})
    with pytest.raises(UpdateError, match="keys of worker 2"):
        workers[2].letters({n: roster[n] for n in (1, 3, 4)})
    with pytest.raises(UpdateError, match="keys of worker 3"):
        workers[3].letters({**roster, 3: MaskedWorker(3, 3, SESSION).keys()})
    with pytest.raises(UpdateError, match="one twice"):
        workers[4].letters({**roster, 1: roster[2]})


def test_letters_that_were_changed_or_are_of_another_round_or_worker_cannot_be_opened():
    def masked(change):
        rounds = Round(MODELS, THRESHOLD)
        letters = rounds.exchange_letters(rounds.exchange_keys())
        rounds.workers[1].mask(change(rounds, letters[1]), np.zeros(7, np.uint64))

    def flipped(_, letters):
        return {**letters, 2: letters[2][:-1] + bytes([letters[2][-1] ^ 1])}

    def swapped(_, letters):
        return {**letters, 2: letters[5], 5: letters[2]}

    def replayed(_, letters):
        other = Round(MODELS, THRESHOLD)
        return other.exchange_letters(other.exchange_keys())[1]

    for change in (flipped, swapped, replayed):
        with pytest.raises(UpdateError, match="cannot open the letter"):
            masked(change)
    with pytest.raises(UpdateError, match="letters of 3 workers, got 2"):
        masked(lambda _, letters: {n: letters[n] for n in (2, 5)})
    with pytest.raises(UpdateError, match="other workers, got 1's"):
        masked(lambda _, letters: {**letters, 1: letters[2]})
    with pytest.raises(UpdateError, match="other workers, got 99's"):
        masked(lambda _, letters: {**letters, 99: letters[2]})


def test_a_letter_belongs_to_its_session():
    one, two = seeded(1)(32), seeded(2)(32)
    sealed = keys.seal(one, keys.public_of(two), b"run/1", 1, 2, b"letter")
    assert keys.unseal(two, keys.public_of(one), b"run/1", 1, 2, sealed) == b"letter"
    with pytest.raises(UpdateError):
        keys.unseal(two, keys.public_of(one), b"run/2", 1, 2, sealed)


# -- what is refused by the aggregator


def test_keys_that_are_none_or_of_another_are_refused():
    aggregator, good = MaskedSum(2, SESSION, 3), MaskedWorker(1, 2, SESSION).keys()
    aggregator.admit(1, good)
    with pytest.raises(UpdateError, match="no keys of worker 1"):
        aggregator.admit(1, MaskedWorker(1, 2, SESSION).keys())
    with pytest.raises(UpdateError, match="nobody else"):
        aggregator.admit(2, good)
    with pytest.raises(UpdateError, match="bytes that are none"):
        aggregator.admit(2, Keys(bytes(32), good.masking, good.commitment))
    with pytest.raises(UpdateError, match="96"):
        Keys.from_bytes(bytes(95))


def test_letters_and_vectors_that_do_not_fit_are_refused_and_the_round_goes_on():
    rounds = Round(MODELS, THRESHOLD)
    roster = rounds.exchange_keys()
    with pytest.raises(UpdateError, match="letters to 4"):
        rounds.aggregator.relay(1, {2: bytes(messages.SEALED_BYTES)})
    with pytest.raises(UpdateError, match="letters of 82 bytes"):
        rounds.aggregator.relay(1, dict.fromkeys((2, 5, 7, 9), b"short"))
    with pytest.raises(UpdateError, match="no letters of worker 3"):
        rounds.aggregator.relay(3, {})
    letters = rounds.exchange_letters(roster)
    for wrong in (np.zeros(6, np.int64), np.zeros(7, np.float64), np.zeros(7, np.int32), np.zeros((7, 1), np.int64)):
        with pytest.raises(UpdateError, match="7 integers of 64 bits"):
            rounds.aggregator.add(1, wrong)
    with pytest.raises(UpdateError, match="no vector of worker 3"):
        rounds.aggregator.add(3, np.zeros(7, np.int64))
    arrived = rounds.send_vectors(letters)
    with pytest.raises(UpdateError, match="of worker 1 now"):
        rounds.aggregator.add(1, np.zeros(7, np.int64))
    rounds.send_shares(arrived)
    assert_is_the_plain_mean(rounds.aggregator.total(), list(MODELS))


def test_a_vector_that_is_sent_twice_counts_once():
    rounds = Round(MODELS, THRESHOLD)
    letters = rounds.exchange_letters(rounds.exchange_keys())
    vector = rounds.workers[1].mask(letters[1], fixed.weighted(*MODELS[1], 5))
    rounds.aggregator.add(1, vector)
    with pytest.raises(UpdateError):
        rounds.aggregator.add(1, vector)


@pytest.mark.parametrize("of", ["seeds", "keys"])
def test_false_shares_are_found_out(of):
    rounds = Round(MODELS, THRESHOLD, {5: "vector"})
    arrived = rounds.send_vectors(rounds.exchange_letters(rounds.exchange_keys()))
    for number in arrived:
        shares = rounds.workers[number].shares(arrived)
        table = dict(getattr(shares, of))
        if number == 2:
            victim = min(table)
            table[victim] = (shamir.number_of(table[victim]) ^ 1).to_bytes(shamir.SHARE_BYTES)
        tables = {"seeds": shares.seeds, "keys": shares.keys, of: table}
        rounds.aggregator.open(number, Shares(**tables))
    with pytest.raises(UpdateError, match=r"false|do not fit"):
        rounds.aggregator.total()


def test_shares_that_were_not_asked_for_are_refused():
    rounds = Round(MODELS, THRESHOLD, {5: "vector"})
    arrived = rounds.send_vectors(rounds.exchange_letters(rounds.exchange_keys()))
    shares = rounds.workers[1].shares(arrived)
    for wrong in (Shares(shares.keys, shares.seeds), Shares(shares.seeds, {}), Shares({}, {})):
        with pytest.raises(UpdateError, match="expected shares of"):
            rounds.aggregator.open(1, wrong)
    with pytest.raises(UpdateError, match="33 bytes"):
        rounds.aggregator.open(1, Shares(shares.seeds, {5: b"short"}))
    with pytest.raises(UpdateError, match="of worker 5 now"):
        rounds.aggregator.open(5, shares)


def test_steps_of_the_aggregator_come_in_order():
    aggregator = MaskedSum(2, SESSION, 3)
    for early in (aggregator.letters, aggregator.arrived, aggregator.total):
        with pytest.raises(UpdateError, match="is at 1"):
            early()


def test_tables_that_do_not_come_out_even_are_refused():
    assert messages.unpack(messages.pack({3: b"abc", 1: b"xyz"}), 3) == {1: b"xyz", 3: b"abc"}
    assert messages.unpack(b"", 3) == {}
    for wrong in (b"x", messages.pack({1: b"abc"})[:-1], messages.pack({1: b"abc"}) * 2):
        with pytest.raises(UpdateError, match="entries of 11 bytes"):
            messages.unpack(wrong, 3)


# -- bounds


@pytest.mark.parametrize("examples", [0, -1, fixed.MAX_EXAMPLES + 1])
def test_examples_are_bounded(examples):
    with pytest.raises(UpdateError, match=r"expected 1 to 4194304 examples"):
        fixed.weighted(model_of(1.0), examples, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 64.5, -65.0])
def test_values_are_bounded(value):
    with pytest.raises(UpdateError, match="expected values of at most 64"):
        fixed.weighted(model_of(value), 1, 3)


def test_what_could_overflow_the_sum_is_not_sent_and_what_could_not_is():
    """Four vectors of 64 * 2^40 * 32767 are just below 2^63; with 32768 they would be -2^63."""
    sent = fixed.weighted(model_of(64.0), 32767, 4)
    assert 4 * int(sent[0]) < 2**63
    with pytest.raises(UpdateError, match="could overflow a sum of 4"):
        fixed.weighted(model_of(64.0), 32768, 4)
    fixed.weighted(model_of(0.5), 32768, 4)


def test_a_sum_that_cannot_be_one_of_models_is_refused():
    like = model_of(0.0)
    none = np.zeros(fixed.length(like), np.uint64)
    for examples in (0, 2, 2**31):
        none[-1] = examples
        with pytest.raises(UpdateError, match="expected 3 to 2147483647 examples"):
            mean_of(none, like, 3)
    none[-1], none[0] = 3, 3 * (64 << 40) + 1
    with pytest.raises(UpdateError, match="mean of at most 64"):
        mean_of(none, like, 3)
    none[0] = 2**64 - 3 * (64 << 40) - 1
    with pytest.raises(UpdateError, match="mean of at most 64"):
        mean_of(none, like, 3)


def test_the_threshold():
    assert [threshold_for(n) for n in (3, 4, 5, 10, 20)] == [3, 3, 4, 7, 14]
    assert threshold_for(10, 6) == 6
    for workers in (1, 2):
        with pytest.raises(ConfigError, match="at least 3 workers"):
            threshold_for(workers)
    for wanted in (5, 11, -1):
        with pytest.raises(ConfigError, match=r"privacy\.threshold: expected 6 to 10"):
            threshold_for(10, wanted)


# -- parts


def test_the_keystream_is_that_of_rfc_8439():
    """Appendix A.1, test vector 1: key and nonce are zero."""
    block = Keystream(bytes(32)).words(8).astype("<u8").tobytes()
    assert block.hex().startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")


def test_masks_are_the_keystream_and_come_off_again():
    values = rng.integers(0, 2**63, 100_003).astype(np.uint64)
    masked = values.copy()
    Keystream(bytes(32)).mask(masked, 1)
    np.testing.assert_array_equal(masked - values, Keystream(bytes(32)).words(values.size))
    Keystream(bytes(32)).mask(masked, -1)
    np.testing.assert_array_equal(masked, values)


def test_the_prime_is_one():
    sympy = pytest.importorskip("sympy")
    assert sympy.isprime(shamir.PRIME)
    assert sympy.nextprime(2**256) == shamir.PRIME


def test_shares_by_hand():
    """1234 + 166 x + 94 x^2 at 1, 2 and 3."""
    shares = {x: value.to_bytes(33) for x, value in [(1, 1494), (2, 1942), (3, 2578)]}
    assert int.from_bytes(shamir.Joiner([1, 2, 3]).secret(shares)) == 1234


def test_shares_below_the_threshold_fit_any_secret():
    """For each other secret there is a share that makes it of the two that are known."""
    shares = shamir.split(seeded(1)(32), 3, 5)
    two = {1: shares[0], 2: shares[1]}
    joiner, zero = shamir.Joiner([1, 2, 3]), (0).to_bytes(33)
    at_zero = int.from_bytes(joiner.secret({1: zero, 2: zero, 3: (1).to_bytes(33)}))
    for wanted in (0, 1, 2**256 - 1):
        known = sum(shamir.number_of(two[x]) * f for x, f in ((1, 3), (2, -3)))
        third = (wanted - known) * pow(at_zero, -1, shamir.PRIME) % shamir.PRIME
        assert int.from_bytes(joiner.secret({**two, 3: third.to_bytes(33)})) == wanted


def test_malformed_shares_are_refused():
    shares = dict(enumerate(shamir.split(bytes(32), 2, 3), 1))
    joiner = shamir.Joiner([1, 3])
    for wrong in (
        {1: shares[1]},
        {1: shares[1], 2: shares[2]},
        {1: shares[1], 3: shares[3][:-1]},
        {1: shares[1], 3: shamir.PRIME.to_bytes(33)},
    ):
        with pytest.raises(UpdateError, match="share"):
            joiner.secret(wrong)
    for holders in ([1, 1], [0, 1]):
        with pytest.raises(UpdateError, match="holders"):
            shamir.Joiner(holders)
    for threshold, count in [(0, 3), (4, 3)]:
        with pytest.raises(ConfigError, match="threshold"):
            shamir.split(bytes(32), threshold, count)
    with pytest.raises(ValueError, match="32 bytes"):
        shamir.split(bytes(31), 2, 3)
