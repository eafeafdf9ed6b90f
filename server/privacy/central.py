"""Differential privacy of the model towards everybody but the aggregator, for each worker as a whole.

A wrapper makes a private rule of one that averages (DP-FedAvg: McMahan et al. 2018):

    d_i = w_i - w                            what worker i changed
    S   = sum of d_i min(1, C / |d_i|)       no worker adds more than C
    m   = w + (S + N(0, z^2 C^2)) / n        n workers took part
    rule                                     is given m, as the model of its only worker

The rule sees nothing but m, so whatever it computes and remembers is as private as m: FedAdam's moments too.

Every worker counts the same. Were updates weighted by examples, the largest would add up to C times its weight, and
the noise would have to hide that; and the number of examples is itself a fact about the worker, and its own claim.

S is a sum of whole numbers, of d rounded to 2^-40, as in `server.aggregation.exact`. The noise is rounded to the same
grid before it is added, which is the same as rounding afterwards. So the low bits of a sum say nothing that the high
ones do not (the gap that Mironov 2012 found in noise added in floating point). The grid makes d longer by at most
2^-41 sqrt(parameters); C is lowered by as much.

Adaptive clipping (Andrew et al. 2021) lets C follow a quantile of the lengths |d_i|: each round,

    b = (sum of [|d_i| <= C] - n/2 + N(0, s^2)) / n + 1/2        the share that was not shortened, with noise
    C = C exp(-rate (b - quantile))

Both releases together are worth noise z if the sum's is (z^-2 - (2 s)^-2)^(-1/2) (theorem 1 there).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from neurofed import metrics
from neurofed.errors import ConfigError, UpdateError
from neurofed.rope import Buffer
from server.aggregation.base import NOTHING, Memory, Model, Rule, Update, floating, pieces, require_fit
from server.aggregation.exact import FRACTION_BITS
from server.privacy import accountant
from server.privacy.noise import Noise
from workloads.settings import Range

ROUNDS, CLIP = "privacy/rounds", "privacy/clip"
"""What is remembered beside what the rule remembers."""
MEANS = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad")
"""Rules that are a function of the mean."""
MAX_CLIP, MIN_CLIP = 64.0, 1e-6
_TAIL = 10.0
"""No number of `Noise` is farther from zero."""
_MARGIN = 1e-9
"""More than the rounding of a length in 64 bits."""

Sums = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Fixed:
    """Settings of differential privacy.

    Attributes:
        clip: C, the longest that an update's difference from the global model may be.
        noise: z, the noise's standard deviation divided by C; 0 takes the least that keeps to `epsilon`.
        epsilon: what the whole run may cost; 0 sets no limit.
        delta: the chance that epsilon does not hold; below one by the number of workers.
    """

    clip: Annotated[float, Range(MIN_CLIP, MAX_CLIP)] = 1.0
    noise: Annotated[float, Range(0.0, accountant.MAX_NOISE)] = 0.0
    epsilon: Annotated[float, Range(0.0, 1e6)] = 0.0
    delta: Annotated[float, Range(1e-15, 0.5)] = 1e-5


@dataclass(frozen=True)
class Adaptive(Fixed):
    """Settings of differential privacy whose clipping bound follows the updates' lengths; `clip` is its first value.

    Attributes:
        quantile: the share of updates that shall not be shortened.
        rate: how fast the bound follows.
        count_noise: s, the standard deviation of the noise of the count; 0 takes a twentieth of the workers, as in the
            paper, or z where that is more.
    """

    quantile: Annotated[float, Range(0.0, 1.0)] = 0.5
    rate: Annotated[float, Range(0.0, 10.0)] = 0.2
    count_noise: Annotated[float, Range(0.0)] = 0.0


def calibrated(settings: Fixed, rounds: int, workers: int) -> Fixed:
    """The settings with the noise that a run takes, before it begins.

    Args:
        settings: as given.
        rounds: of the whole run.
        workers: of the run.

    Raises:
        ConfigError: if neither noise nor epsilon is given, epsilon cannot be kept, delta promises nothing, or the
            accountant is not installed.
    """
    if settings.delta * workers >= 1:
        raise ConfigError(
            f"privacy.delta: expected less than one by the number of workers, {1 / workers:.3g}, got "
            f"{settings.delta:g}: that would allow to give one of them away"
        )
    if not settings.noise and not settings.epsilon:
        raise ConfigError("privacy: expected privacy.noise or privacy.epsilon, got neither: how private shall it be?")
    if 0 < settings.noise < accountant.MIN_NOISE:
        raise ConfigError(f"privacy.noise: expected 0, or at least {accountant.MIN_NOISE:g}, got {settings.noise:g}")
    if not settings.noise:
        noise = accountant.noise_for(settings.epsilon, rounds, settings.delta)
        settings = replace(settings, noise=noise)
    cost = accountant.epsilon(settings.noise, rounds, settings.delta)  # asked in any case: can it be told at all?
    if settings.epsilon and cost > settings.epsilon:
        most = accountant.most_rounds(settings.noise, settings.epsilon, settings.delta)
        least = accountant.noise_for(settings.epsilon, rounds, settings.delta)
        fewer = f"run at most {most}, or " if most else ""
        raise ConfigError(
            f"privacy.epsilon: {settings.epsilon:g} at delta {settings.delta:g} cannot be kept: {rounds} rounds with "
            f"noise {settings.noise:g} cost {cost:.3g}: {fewer}raise privacy.noise to {least:.4g}"
        )
    if isinstance(settings, Adaptive):
        sum_noise(settings, workers)
    return settings


def sum_noise(settings: Fixed, workers: int) -> tuple[float, float]:
    """Standard deviations of the noise of the sum, in units of the clipping bound, and of the count, 0 if none is made.

    Raises:
        ConfigError: if the count's noise leaves nothing for the sum.
    """
    if not isinstance(settings, Adaptive):
        return settings.noise, 0.0
    count = settings.count_noise or max(workers / 20, settings.noise)
    if 2 * count <= settings.noise:
        raise ConfigError(
            f"privacy.count_noise: expected more than half of the noise, {settings.noise / 2:.3g}, got {count:g}"
        )
    return (settings.noise**-2 - (2 * count) ** -2) ** -0.5, count


@dataclass(slots=True)
class Private:
    """State of a round.

    Attributes:
        model: the global model.
        workers: how many updates may come.
        clip: C.
        rounds: rounds before this one.
        memory: what the rule remembers.
        sums: of clipped differences, in fixed point.
        count: updates added.
        within: those of them that were not shortened.
    """

    model: Model
    workers: int
    clip: float
    rounds: int
    memory: Memory
    sums: Sums
    count: int = 0
    within: int = 0


def private(rule: Rule[Any], settings: Fixed, key: bytes) -> Rule[Private]:
    """A rule that averages, made differentially private.

    Args:
        rule: one of `MEANS`.
        settings: calibrated.
        key: of the noise, see `noise.run_key`.

    Raises:
        ConfigError: if the rule is not a function of the mean.
    """
    if rule.name not in MEANS:
        raise ConfigError(
            f"privacy: expected one of the strategies {', '.join(MEANS)}, got {rule.name!r}: the others look at each "
            "update by itself, which the noise of a mean does not hide"
        )
    return Rule(
        rule.name,
        partial(_init, settings),
        _add,
        partial(_finish, rule, settings, key),
        _memory,
        client=rule.client,
        numbers=partial(_numbers, settings),
        bounded=True,
    )


def _init(settings: Fixed, model: Model, workers: int, memory: Memory = NOTHING) -> Private:
    clip = float(memory.get(CLIP, np.float64(settings.clip)))
    spread, _ = sum_noise(settings, workers)
    if (workers + _TAIL * spread) * clip >= 2.0 ** (63 - FRACTION_BITS):
        raise ConfigError(f"privacy: {workers} updates of length {clip:g} and their noise are more than 64 bits hold")
    inner = {name: array for name, array in memory.items() if name not in (ROUNDS, CLIP)}
    # By name: a model from a checkpoint has its tensors in another order, and noise and lengths depend on it.
    sums = {name: np.zeros(array.size, np.int64) for name, array in sorted(floating(model).items())}
    return Private(model, workers, clip, int(memory.get(ROUNDS, 0)), inner, sums)


def _add(state: Private, update: Update) -> Private:
    require_fit(update, state.model, state.workers)
    if state.count == state.workers:
        raise UpdateError(f"expected updates of at most {state.workers} workers, got more")
    length = math.sqrt(sum(float(np.vdot(d, d)) for _, _, d in _differences(state, update)))
    if not math.isfinite(length):
        raise UpdateError("expected finite values, got NaN or infinity")
    size = sum(array.size for array in state.sums.values())
    limit = state.clip * (1 - _MARGIN) - math.sqrt(size) * 2.0 ** -(FRACTION_BITS + 1)
    unit = 2.0**FRACTION_BITS * min(1.0, limit / max(length, limit))
    for name, piece, difference in _differences(state, update):
        state.sums[name][piece] += np.rint(difference * unit).astype(np.int64)
    state.count += 1
    state.within += length <= state.clip
    return state


def _differences(state: Private, update: Update) -> Iterator[tuple[str, slice, npt.NDArray[np.float64]]]:
    """An update less the global model, in pieces."""
    with np.errstate(all="ignore"):  # what is no number makes the length none
        for name in state.sums:
            new, old = update.model[name].reshape(-1), state.model[name].reshape(-1)
            for piece in pieces(new.size):
                yield name, piece, new[piece].astype(np.float64) - old[piece].astype(np.float64)


def _finish(rule: Rule[Any], settings: Fixed, key: bytes, state: Private) -> Model:
    if not state.count:
        raise UpdateError("expected at least one update, got none")
    spread, count_spread = sum_noise(settings, state.workers)
    noise, deviation = Noise(key, _facts(state, spread)), spread * state.clip * 2.0**FRACTION_BITS
    noisy = dict(state.model)
    for name, sums in state.sums.items():
        like = state.model[name]
        flat, old = np.empty(like.size, like.dtype), like.reshape(-1)
        for piece in pieces(like.size):
            total = sums[piece] + np.rint(deviation * noise.normal(sums[piece].size)).astype(np.int64)
            flat[piece] = old[piece].astype(np.float64) + total * (2.0**-FRACTION_BITS / state.count)
        noisy[name] = flat.reshape(like.shape)
    if isinstance(settings, Adaptive):
        share = (state.within + count_spread * float(noise.normal(1)[0])) / state.count
        clip = state.clip * math.exp(-settings.rate * (min(max(share, 0.0), 1.0) - settings.quantile))
        state.clip = min(max(clip, MIN_CLIP), MAX_CLIP)
    state.rounds += 1
    return _through(rule, state, noisy)


def _through(rule: Rule[Any], state: Private, noisy: Model) -> Model:
    """What the rule makes of the noisy mean, given as the model of its only worker."""
    inner = rule.init(state.model, 1, state.memory)
    try:
        inner = rule.add(inner, Update(noisy, 1))
    except UpdateError as error:
        raise UpdateError(
            f"the noise was too much for the model: {error}: lower privacy.noise or privacy.clip"
        ) from None
    model = rule.finish(inner)
    state.memory = rule.memory(inner)
    return model


def _facts(state: Private, spread: float) -> Iterator[Buffer]:
    """All that the noise is added to."""
    yield np.array([state.rounds, state.count, state.within], "<i8").tobytes()
    yield np.array([state.clip, spread], "<f8").tobytes()
    for name, sums in state.sums.items():
        yield name.encode()
        yield sums.data


def _memory(state: Private) -> Memory:
    own = {ROUNDS: np.array(state.rounds, np.int64), CLIP: np.array(state.clip, np.float64)}
    return {**state.memory, **own}


def _numbers(settings: Fixed, state: Private) -> dict[str, float]:
    spent = accountant.epsilon(settings.noise, state.rounds, settings.delta)
    return {metrics.EPSILON: spent, metrics.DELTA: settings.delta, metrics.CLIP: state.clip}
