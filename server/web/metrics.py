"""The active run's numbers in Prometheus' format, drawn from the same state as the page.

Labels are bounded: workers by the federation's limit, engines and components by name, layers by number. A run's name is
in one series only; counters count from a run's beginning, so they start again with the next.
"""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from neurofed.exposition import Parts, bounded, build_info, counter, gauge, single, split
from neurofed.metrics import ENGINES
from neurofed.report.data import Data
from neurofed.runstate import run_state_name
from neurofed.v1.control_pb2 import RunState
from server.web.feed import Feed
from server.web.feeds import Feeds

BUCKETS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
_STATES: Final = tuple(run_state_name(state) for state in RunState.values() if state)


def exposition(feed: Feed | None, feeds: Feeds, folder: Path, accept: str) -> tuple[bytes, str]:
    """The numbers as text.

    Args:
        feed: the active run; None where there is none.
        feeds: knows the workers and the viewers.
        folder: of the runs, on the disk that is watched.
        accept: the formats that the caller reads.

    Returns:
        The text and its media type.
    """
    registry = CollectorRegistry()
    registry.register(_Numbers(feed, feeds, folder))
    ProcessCollector(registry=registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Numbers(Collector):
    def __init__(self, feed: Feed | None, feeds: Feeds, folder: Path) -> None:
        self._feed, self._feeds, self._folder = feed, feeds, folder

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield build_info("build_info")
        disk = shutil.disk_usage(self._folder)
        yield gauge("disk_free_bytes", "Free space on the disk of the runs, measured.", values=single(disk.free))
        yield gauge("disk_size_bytes", "Size of the disk of the runs, measured.", values=single(disk.total))
        yield gauge("viewers", "Viewers of the page.", values=single(self._feeds.viewers))
        yield from _boards(self._feeds.boards())
        if self._feed:
            whole = self._feed.whole()
            rounds = [whole["rounds"][number] for number in sorted(whole["rounds"])]
            yield from _run(whole["run"], rounds)
            yield from _quality(whole["run"], rounds)
            yield from _costs(rounds)
            yield from _workers(whole["workers"], rounds)


def _boards(boards: list[Data]) -> Iterator[Metric]:
    def column(name: str) -> list[tuple[Parts, float | None]]:
        return [((board["name"],), board[name]) for board in boards]

    yield gauge("worker_up", "1 while a worker is connected.", ("worker",), column("connected"))
    yield gauge(
        "worker_heartbeat_age_seconds", "Time since a worker's last word.", ("worker",), column("heartbeat_age_s")
    )
    yield counter("worker_cpu_seconds", "Processor time of a worker, measured.", ("worker",), column("cpu_s"))
    yield gauge("worker_resident_memory_bytes", "Memory of a worker, measured.", ("worker",), column("rss_bytes"))
    yield gauge("worker_temperature_celsius", "Temperature of a worker's board.", ("worker",), column("temperature_c"))


def _run(run: Data, rounds: list[Data]) -> Iterator[Metric]:
    info = {name: str(run[name]) for name in ("run_id", "workload", "preset", "strategy", "codec")}
    yield gauge("run_info", "The run whose numbers these are.", info, [(tuple(info.values()), 1)])
    yield gauge("run_state", "1 for the state the run is in.", ("state",), [((s,), run["state"] == s) for s in _STATES])
    yield gauge("run_started_timestamp_seconds", "When it was submitted.", values=single(run["started_unix_s"]))
    yield gauge(
        "run_last_event_timestamp_seconds", "When something happened last.", values=single(run["updated_unix_s"])
    )
    yield gauge("rounds_planned", "Rounds that were asked for.", values=single(run["rounds_planned"]))
    yield gauge("round", "The newest round begun.", values=single(max((row["round"] for row in rounds), default=0)))
    safe = max((row["round"] for row in rounds if row["checkpointed"]), default=0)
    yield gauge("checkpoint_round", "The newest round that is safe on disk.", values=single(safe))
    walls = [row["wall_s"] for row in rounds if row["wall_s"] is not None]
    yield counter("rounds", "Rounds finished.", values=single(len(walls)))
    buckets = [(f"{limit:g}", sum(wall <= limit for wall in walls)) for limit in BUCKETS_S]
    yield HistogramMetricFamily(
        "neurofed_round_duration_seconds",
        "From a round's start to its evaluation, measured.",
        buckets=[*buckets, ("+Inf", len(walls))],
        sum_value=sum(walls),
    )


def _quality(run: Data, rounds: list[Data]) -> Iterator[Metric]:
    done = [row for row in rounds if row["wall_s"] is not None]
    last: Data = done[-1] if done else run["initial"]
    traced: Data = next((row for row in reversed(rounds) if row["spike_rate"] is not None), {})
    yield gauge("accuracy_ratio", "Of the global model on the test set, measured.", values=single(last["accuracy"]))
    began = run["initial"]["accuracy"]
    yield gauge("initial_accuracy_ratio", "Of the initial model on the test set, measured.", values=single(began))
    yield gauge("loss", "Of the global model on the test set, measured.", values=single(last["loss"]))
    yield gauge("train_loss", "Mean over the workers, measured.", values=single(last.get("train_loss")))
    yield gauge("spike_rate_ratio", "Neuron-steps that fired, measured.", values=single(traced.get("spike_rate")))
    layers = bounded({(name,): rate for name, rate in traced.get("spike_rates", {}).items()})
    yield gauge("layer_spike_rate_ratio", "Neuron-steps of a layer that fired, measured.", ("layer",), layers)


def _costs(rounds: list[Data]) -> Iterator[Metric]:
    yield counter("updates", "Updates aggregated.", values=single(sum(row["updates"] for row in rounds)))
    moved = [((way,), sum(row[f"bytes_{way}"] for row in rounds)) for way in ("up", "down")]
    yield counter("update_bytes", "Serialised messages with models, measured.", ("direction",), moved)
    energy = [((*key, "modelled"), value) for key, value in _by_engine(rounds, "energy_by_part", 2)]
    labels = ("engine", "component", "source")
    yield counter("energy_joules", "Energy of the emulated chips and their DRAM, modelled.", labels, energy)
    cycles = _by_engine(rounds, "cycles_by_engine")
    yield counter("engine_cycles", "Busy core-cycles of the emulated engines, modelled.", ("engine",), cycles)
    dram = bounded(_summed(rounds, "dram_by_class", 1))
    yield counter("dram_bytes", "DRAM traffic of the emulated chips, modelled.", ("tensor_class",), dram)
    ops = [
        ((engine, kind), value)
        for kind in ("dense", "executed")
        for (engine,), value in _by_engine(rounds, f"ops_{kind}")
    ]
    yield counter("operations", "Synaptic operations, counted.", ("engine", "kind"), ops)
    for name, key, about in (
        ("link_energy_joules", "link_j", "Energy of the emulated boards' links, modelled."),
        ("emulated_seconds", "emulated_s", "Time the emulated federation would take, modelled."),
    ):
        yield counter(name, about, values=single(sum(row[key] or 0.0 for row in rounds)))


def _workers(workers: Mapping[str, Data], rounds: list[Data]) -> Iterator[Metric]:
    parts: list[Data] = rounds[-1]["workers"] if rounds else []
    moved = {(name, way): 0.0 for name in workers for way in ("up", "down")}
    for row in rounds:
        for part in row["workers"]:
            for way in ("up", "down"):
                key = (part["name"], way)
                moved[key] = moved.get(key, 0.0) + part[f"bytes_{way}"]
    label = ("worker",)
    yield counter("worker_update_bytes", "The same by worker.", ("worker", "direction"), moved.items())
    refused = [((name,), worker["refused"]) for name, worker in workers.items()]
    yield counter("worker_updates_refused", "Updates that were refused.", label, refused)
    quarantined = [((name,), bool(worker["quarantined"])) for name, worker in workers.items()]
    yield gauge("worker_quarantined", "1 for a worker that gets no more tasks.", label, quarantined)
    progress = [((part["name"],), part["step"] / part["steps"]) for part in parts if part["steps"]]
    yield gauge("worker_progress_ratio", "Steps done of this round's.", label, progress)
    speed = [((part["name"],), part["steps_per_s"]) for part in parts]
    yield gauge("worker_steps_per_second", "Training steps per second, measured.", label, speed)
    trained = [((name,), worker["samples_per_s"]) for name, worker in workers.items()]
    yield gauge("worker_samples_per_second", "Examples trained per second, measured.", label, trained)


def _by_engine(rounds: list[Data], name: str, parts: int = 1) -> list[tuple[Parts, float]]:
    return bounded(_summed(rounds, name, parts, ENGINES))


def _summed(rounds: list[Data], name: str, parts: int, among: Container[str] | None = None) -> dict[Parts, float]:
    """A figure's parts over all rounds."""
    sums: dict[Parts, float] = {}
    for row in rounds:
        for key, value in split(row.get(name, {}), parts, among).items():
            sums[key] = sums.get(key, 0.0) + value
    return sums
