"""Families of numbers for Prometheus: named alike on aggregator and workers, and with bounded labels."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from neurofed import __version__
from neurofed.source import commit

MAX_LABELS: Final = 64
"""Series that names from outside can make of one metric."""
_PART: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Parts: TypeAlias = tuple[str, ...]
Labelled: TypeAlias = Iterable[tuple[Parts, float | None]]


def gauge(name: str, about: str, labels: Iterable[str] = (), values: Labelled = ()) -> Metric:
    """A gauge `neurofed_NAME`; values that nobody knows are left out."""
    return _filled(GaugeMetricFamily(f"neurofed_{name}", about, labels=list(labels)), values)


def counter(name: str, about: str, labels: Iterable[str] = (), values: Labelled = ()) -> Metric:
    """A counter `neurofed_NAME_total`; values that nobody knows are left out."""
    return _filled(CounterMetricFamily(f"neurofed_{name}", about, labels=list(labels)), values)


@functools.cache
def build_info(name: str) -> Metric:
    """What runs here."""
    return gauge(name, "What runs here.", ("version", "commit"), [((__version__, commit()), 1)])


def single(value: float | None) -> Labelled:
    """The value of a family without labels."""
    return [((), value)]


def bounded(values: Mapping[Parts, float]) -> list[tuple[Parts, float]]:
    """Values whose labels are names, in order; of too many, those that came first."""
    return sorted([(k, v) for k, v in values.items() if all(_PART.fullmatch(part) for part in k)][:MAX_LABELS])


def split(paths: Mapping[str, float], parts: int, among: Container[str] | None = None) -> dict[Parts, float]:
    """`{"fp/mac": 1}` as `{("fp", "mac"): 1}`; what does not have so many parts is a total of others, and left out.

    Args:
        paths: values by path.
        parts: how many parts a path has.
        among: what the first part may be; None allows everything.
    """
    keys = {path: tuple(path.split("/")) for path in paths}
    return {key: paths[path] for path, key in keys.items() if len(key) == parts and (among is None or key[0] in among)}


def _filled(family: Any, values: Labelled) -> Metric:
    for labels, value in values:
        if value is not None:
            family.add_metric(labels, float(value))
    metric: Metric = family
    return metric
