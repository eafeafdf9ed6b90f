"""Aggregation rules: pure algorithms that know nothing of gRPC or Flower.

`rule` makes one by its name. A package of its own can bring more, as an entry point that leads to a `Family`:

    [project.entry-points."neurofed.strategies"]
    my-rule = "my_package:MY_RULE"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from neurofed.errors import ConfigError, UnknownNameError, nearest
from neurofed.spec import STRATEGY_GROUP
from server.aggregation import centre, coordinates, fedavg, krum, optimizers, scaffold
from server.aggregation.base import Rule
from workloads.settings import override

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

S = TypeVar("S", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """A rule before its settings are known.

    Attributes:
        make: the rule with these settings.
        defaults: an instance of a frozen dataclass, see `workloads.settings`.
    """

    make: Callable[[S], Rule[Any]]
    defaults: S


@dataclass(frozen=True)
class NoSettings:
    """For a rule that has none."""


BUILT_IN: Mapping[str, Family[Any]] = {
    "fedavg": Family(lambda _: fedavg.FEDAVG, NoSettings()),
    "fedprox": Family(fedavg.fedprox, fedavg.Proximal()),
    "fedavgm": Family(optimizers.fedavgm, optimizers.Momentum()),
    "fedadam": Family(optimizers.fedadam, optimizers.Adaptive()),
    "fedyogi": Family(optimizers.fedyogi, optimizers.Adaptive()),
    "fedadagrad": Family(optimizers.fedadagrad, optimizers.Adaptive()),
    "scaffold": Family(lambda _: scaffold.SCAFFOLD, NoSettings()),
    "norm-clipping": Family(centre.norm_clipping, centre.Clipping()),
    "centred-clipping": Family(centre.centred_clipping, centre.Clipping()),
    "geometric-median": Family(centre.geometric_median, centre.Weiszfeld()),
    "median": Family(lambda _: coordinates.MEDIAN, NoSettings()),
    "trimmed-mean": Family(coordinates.trimmed_mean, coordinates.Trimming()),
    "krum": Family(krum.krum, krum.Crowd()),
    "multi-krum": Family(krum.multi_krum, krum.Crowd()),
    "bulyan": Family(krum.bulyan, krum.Crowd()),
}
"""The rules of this package by name, as `neurofed.spec.STRATEGIES` lists them."""


def installed() -> Mapping[str, EntryPoint]:
    """Entry points of rules that other packages bring, by name; none of them is imported."""
    return {point.name: point for point in sorted(entry_points(group=STRATEGY_GROUP), key=lambda p: p.name)}


def rule(name: str, settings: Mapping[str, object] | None = None) -> Rule[Any]:
    """A rule by its name.

    Args:
        name: one of ours, or of an entry point.
        settings: text or JSON value by setting, in place of its defaults.

    Raises:
        UnknownNameError: if there is no such rule.
        UnknownSettingError: if the rule has no such setting.
        ConfigError: if a value does not have its setting's type or range, or an entry point leads to no rule.
    """
    family = BUILT_IN.get(name) or _load(name)
    made: Rule[Any] = family.make(override(family.defaults, settings or {}))
    return made


def _load(name: str) -> Family[Any]:
    points = installed()
    if name not in points:
        raise UnknownNameError(f"no strategy {name!r} is installed: {nearest(name, [*BUILT_IN, *points])}")
    point = points[name]
    try:
        family = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"strategy {name!r} ({point.value}) cannot be imported: {error}") from error
    if not isinstance(family, Family):
        raise ConfigError(
            f"strategy {name!r}: expected {point.value} to be a server.aggregation.Family, got {type(family).__name__}"
        )
    return family
