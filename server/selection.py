"""Who is asked in a round: pure functions of the seed, the round, who is there, and what workers reported before.

    uniform      a random share of the workers
    data-size    the same, with a probability in proportion to the examples of each part
    energy       those that have spent least, as modelled, and never more than a budget
    utility      those that the model has most to learn from, soonest: after Oort (Lai et al. 2021)

The order in which updates arrive is without effect. What was reported is part of the checkpoint, so that a resumed run
asks the same workers. It is the workers' own word: `utility` cuts off the highest losses, but a worker that lies about
them will be asked more often than it should.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from neurofed import metrics
from neurofed.errors import NotEnoughWorkersError, UnknownNameError, nearest
from server.aggregation import NoSettings
from workloads.settings import Range, override

Vector = npt.NDArray[np.float64]

_CUTOFF, _CLIP = 0.95, 95
"""Oort's: who comes within this much of the last that would be chosen is a candidate too; losses above this percentile
count as that."""

_MOST = 1e30
"""More than any worker can have to report, and little enough to compute with."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker has reported.

    Attributes:
        round_number: the round of its last update.
        loss: mean training loss in that round.
        chip_s: what its task took on the chip, in seconds. Modelled.
        energy_j: what its task took, in joules. Modelled.
        spent_j: the same of all its tasks so far.
    """

    round_number: int = 0
    loss: float = 0.0
    chip_s: float = 0.0
    energy_j: float = 0.0
    spent_j: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that could be asked: its name, the examples of its part, and what it reported, if it has."""

    name: str
    examples: int
    seen: Seen | None = None


Pick = Callable[[Sequence[Candidate], int, int, np.random.Generator], Sequence[str]]
"""The names of who is asked; of candidates by name, how many at most, the round, and a generator."""


@dataclass(frozen=True)
class Share:
    """Settings of all selections.

    Attributes:
        fraction: how many of the workers that are there are asked, rounded up.
    """

    fraction: Annotated[float, Range(0.0, 1.0)] = 0.5


@dataclass(frozen=True)
class Budget(Share):
    """Settings of `energy`.

    Attributes:
        budget_j: what a worker may spend in the whole run, in joules; 0 sets no limit.
    """

    budget_j: Annotated[float, Range(0.0)] = 0.0


@dataclass(frozen=True)
class Utility(Share):
    """Settings of `utility`; the defaults are Oort's.

    Attributes:
        alpha: how much slowness counts against a worker; 0 is not at all.
        round_s: the time on the chip from which on a worker counts as slow; 0 is the median of those that are known.
        exploration: the share of those asked that were never asked before, in the first round.
        decay: what becomes of that share from round to round.
        least_exploration: what it never falls below.
    """

    alpha: Annotated[float, Range(0.0)] = 2.0
    round_s: Annotated[float, Range(0.0)] = 0.0
    exploration: Annotated[float, Range(0.0, 1.0)] = 0.9
    decay: Annotated[float, Range(0.0, 1.0)] = 0.98
    least_exploration: Annotated[float, Range(0.0, 1.0)] = 0.2


def uniform(candidates: Sequence[Candidate], count: int, _round: int, rng: np.random.Generator) -> list[str]:
    """Everybody has the same chance."""
    return _drawn(candidates, np.ones(len(candidates)), count, rng)


def by_data_size(candidates: Sequence[Candidate], count: int, _round: int, rng: np.random.Generator) -> list[str]:
    """The more examples, the better the chance."""
    return _drawn(candidates, np.array([c.examples for c in candidates], np.float64), count, rng)


def by_energy(
    settings: Budget, candidates: Sequence[Candidate], count: int, round_number: int, rng: np.random.Generator
) -> list[str]:
    """Who has spent least, without those for whom another task like the last would exceed the budget.

    Raises:
        NotEnoughWorkersError: if that leaves nobody.
    """
    shuffled = [candidates[i] for i in rng.permutation(len(candidates))]
    spent = {c.name: c.seen.spent_j if c.seen else 0.0 for c in shuffled}
    after = {c.name: spent[c.name] + (c.seen.energy_j if c.seen else 0.0) for c in shuffled}
    able = [name for name in spent if not settings.budget_j or after[name] <= settings.budget_j]
    if not able:
        raise NotEnoughWorkersError(
            f"round {round_number}: expected a worker that can do another task within {settings.budget_j:g} J, got "
            f"none of {len(candidates)}: what is trained so far is kept; a higher selection.budget_j trains longer"
        )
    return sorted(able, key=spent.__getitem__)[:count]


def by_utility(
    settings: Utility, candidates: Sequence[Candidate], count: int, round_number: int, rng: np.random.Generator
) -> list[str]:
    """Some that were never asked, and of the others those of the highest utility, by chance in proportion to it."""
    share = max(settings.least_exploration, settings.exploration * settings.decay ** (round_number - 1))
    known, new = [c for c in candidates if c.seen], [c for c in candidates if not c.seen]
    explored = min(len(new), max(round(share * count), count - len(known)))
    chosen = uniform(new, explored, round_number, rng)
    left = min(len(known), count - explored)
    if left > 0:
        scores = utilities(settings, known, round_number)
        threshold = _CUTOFF * np.sort(scores)[-left]
        best = [(c, score) for c, score in zip(known, scores, strict=True) if score >= threshold]
        chosen += _drawn([c for c, _ in best], np.array([score for _, score in best]), left, rng)
    return chosen


def utilities(settings: Utility, known: Sequence[Candidate], round_number: int) -> Vector:
    """What each worker's next update is worth, of at most about 1: Oort's utility.

    Examples times loss, scaled to 1, plus sqrt(0.1 ln R / L) in round R for who was last asked in round L, times
    (T / t)^alpha for those that take t longer than T. Oort takes the root of the mean square of the losses of single
    examples; workers report the mean.

    Args:
        settings: alpha and T.
        known: workers that have reported.
        round_number: R, from 1.
    """
    seen = [c.seen or Seen() for c in known]
    worth = np.array([c.examples * max(s.loss, 0.0) for c, s in zip(known, seen, strict=True)], np.float64)
    worth = np.minimum(worth, np.percentile(worth, _CLIP))
    worth /= worth.max() or 1.0
    worth += np.sqrt(0.1 * math.log(round_number) / np.array([max(s.round_number, 1) for s in seen]))
    times = np.array([s.chip_s for s in seen])
    limit = settings.round_s or float(np.median(times))
    slowness = np.divide(limit, times, out=np.ones(len(times)), where=times > limit)
    return np.asarray(worth * slowness**settings.alpha, np.float64)


def _drawn(candidates: Sequence[Candidate], weights: Vector, count: int, rng: np.random.Generator) -> list[str]:
    """Draw `count` of them without replacement, with probabilities in proportion to their weights."""
    count = min(count, len(candidates))
    if not count:
        return []
    floor = (weights.max() or 1.0) * 1e-9  # nobody is impossible, else there could be too few
    weights = np.maximum(weights, floor)
    return [candidates[i].name for i in rng.choice(len(candidates), count, replace=False, p=weights / weights.sum())]


@dataclass(frozen=True, slots=True)
class Selection:
    """A way to choose workers, its settings given."""

    name: str
    fraction: float
    pick: Pick


_MAKERS: Mapping[str, tuple[Callable[[Any], Pick], Share]] = {
    "uniform": (lambda _: uniform, Share()),
    "data-size": (lambda _: by_data_size, Share()),
    "energy": (lambda s: lambda *given: by_energy(s, *given), Budget()),
    "utility": (lambda s: lambda *given: by_utility(s, *given), Utility()),
}
ALL = "all"


def selection(name: str, settings: Mapping[str, object] | None = None) -> Selection | None:
    """A way to choose workers by its name; None is to ask all.

    Raises:
        UnknownNameError: if there is no such way.
        UnknownSettingError: if it has no such setting.
        ConfigError: if a value does not have its setting's type or range.
    """
    if name == ALL:
        override(NoSettings(), settings or {})
        return None
    if name not in _MAKERS:
        raise UnknownNameError(f"no selection {name!r}: {nearest(name, [ALL, *_MAKERS])}")
    make, defaults = _MAKERS[name]
    chosen = override(defaults, settings or {})
    return Selection(name, chosen.fraction, make(chosen))


class Selector:
    """Chooses the workers of each round of a run.

    Args:
        selection: how.
        seed: of the run.
        sizes: the examples of each part of the data.
        least: ask so many, whatever the fraction says; a round needs their updates.

    Attributes:
        seen: what each worker has reported; of a resumed run, as in its checkpoint.
    """

    def __init__(self, selection: Selection, seed: int, sizes: Sequence[int], least: int = 0) -> None:
        self._selection, self._seed, self._sizes, self.least = selection, seed, sizes, least
        self.seen: dict[str, Seen] = {}
        self._chosen: tuple[int, frozenset[str]] = (0, frozenset())

    def choose(self, round_number: int, parts: Mapping[str, int]) -> frozenset[str]:
        """Who is asked in a round; whoever asks again within a round is told the same, whatever was learnt meanwhile.

        Args:
            round_number: the round, from 1.
            parts: the part by worker, of those that could be asked.
        """
        if self._chosen[0] == round_number:
            return self._chosen[1]
        candidates = [Candidate(name, self._sizes[parts[name]], self.seen.get(name)) for name in sorted(parts)]
        count = max(1, self.least, math.ceil(self._selection.fraction * len(candidates) - 1e-9))
        rng = np.random.default_rng([self._seed, round_number])
        picked = self._selection.pick(candidates, min(count, len(candidates)), round_number, rng) if candidates else ()
        self._chosen = round_number, frozenset(picked)
        return self._chosen[1]

    def learn(self, round_number: int, name: str, numbers: Mapping[str, Any]) -> None:
        """Take in what a worker reported with an update that counts; what is not there or no number counts as 0."""
        loss, chip_s, energy_j = (_number(numbers.get(key)) for key in (metrics.LOSS, metrics.CHIP_S, metrics.ENERGY_J))
        spent_j = self.seen.get(name, Seen()).spent_j + energy_j
        self.seen[name] = Seen(round_number, loss, chip_s, energy_j, spent_j)

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """What was reported, as JSON can say it."""
        return {name: asdict(seen) for name, seen in sorted(self.seen.items())}

    def restore(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the state of a checkpoint."""
        self.seen = {name: Seen(**seen) for name, seen in state.items()}


def _number(value: object) -> float:
    return min(max(float(value), 0.0), _MOST) if isinstance(value, int | float) and math.isfinite(value) else 0.0
