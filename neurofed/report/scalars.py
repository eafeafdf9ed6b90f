"""A run as series of numbers, for other tools: what every export is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neurofed.eventlog import read_events
from neurofed.folding import fold
from neurofed.report.data import PROVENANCE, Data, report_data
from neurofed.v1.monitor_pb2 import Snapshot

_OF_A_ROUND: Final = (
    "train_loss",
    "spike_rate",
    "bytes_up",
    "bytes_down",
    "energy_j",
    "dram_bytes",
    "cycles",
    "emulated_s",
    "wall_s",
    "examples",
    "updates",
)
_OF_A_WORKER: Final = ("loss", "spike_rate", "bytes_up", "bytes_down", "energy_j", "dram_bytes", "cycles", "examples")


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number of a run.

    Attributes:
        tag: its series, such as `measured/loss` or `modelled/energy_j`: where it comes from, and its name in
            report.json; a part (`/LAYER`) or a worker (`workers/NAME/`) is named too.
        step: the round; 0 is the untrained model.
        value: the number, in the unit its name ends in.
        time_unix_s: when it became known, in seconds since 1970.
    """

    tag: str
    step: int
    value: float
    time_unix_s: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run read from its event log.

    Attributes:
        report: what `report.json` holds.
        times: when each round was evaluated, in seconds since 1970.
    """

    report: Data
    times: Mapping[int, float]


def recorded(events: Path) -> Recorded:
    """Read a run.

    Args:
        events: its event log.

    Raises:
        DataError: if a line of it is no event.
    """
    snapshot, times = Snapshot(), dict[int, float]()
    for event in read_events(events):
        fold(snapshot, event)
        if event.HasField("model_evaluated"):
            times[event.model_evaluated.round] = event.time_unix_s
    return Recorded(report_data(snapshot), times)


def scalars(run: Recorded) -> Iterator[Scalar]:
    """Every number of a run that changes from round to round, in the order of rounds; what nobody reported is left out.

    Args:
        run: the run.
    """
    begun_s = run.times.get(0, run.report["started_unix_s"])
    for name, value in run.report["initial"]["metrics"].items():
        yield Scalar(f"measured/{name}", 0, value, begun_s)
    for row in run.report["rounds"]:
        time_s = run.times.get(row["round"], run.report["updated_unix_s"])
        for tag, value in _numbers(row):
            yield Scalar(tag, row["round"], float(value), time_s)


def _numbers(row: Data) -> Iterator[tuple[str, float]]:
    for name, value in row["metrics"].items():
        yield f"measured/{name}", value
    yield from _named(row, _OF_A_ROUND, "")
    for name in ("spike_rates", "gradient_densities"):
        for layer, value in row[name].items():
            yield f"{PROVENANCE[name]}/{name}/{layer}", value
    for part in row["workers"]:
        yield from _named(part, _OF_A_WORKER, f"workers/{part['name']}/")


def _named(row: Data, names: tuple[str, ...], prefix: str) -> Iterator[tuple[str, float]]:
    for name in names:
        if row[name] is not None:
            yield f"{PROVENANCE[name]}/{prefix}{name}", row[name]
