"""What a worker knows of itself, in Prometheus' format at a port of its own; the aggregator knows the rest."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client import start_http_server
from prometheus_client.core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from neurofed import metrics, rpc
from neurofed.exposition import bounded, build_info, counter, gauge, single, split
from neurofed.rope import Buffer, Rope
from neurofed.security.options import CA_FILE, Security
from neurofed.v1 import records_pb2
from worker import board
from worker.jobs import Execute, RunningTask, TaskCancelled

_LOG = logging.getLogger(__name__)
_SUMMED = (metrics.STEPS, metrics.TRAIN_S, metrics.ENERGY_J, metrics.DRAM_BYTES, metrics.CYCLES)


class WorkerNumbers(Collector):
    """Counts the tasks that pass through `observed`, and sums what their results report."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes = Counter[str]()
        self._sums: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._running = False

    def observed(self, execute: Execute) -> Execute:
        """The same function, observed."""

        def executed(running: RunningTask) -> tuple[records_pb2.Content, Buffer | Rope]:
            self._running, outcome = True, "failed"
            try:
                content, blob = execute(running)
                outcome = "done"
                self._take(content)
            except TaskCancelled:
                outcome = "withdrawn"
                raise
            finally:
                self._running = False
                with self._lock:
                    self._outcomes[outcome] += 1
            return content, blob

        return executed

    def describe(self) -> list[Metric]:
        """Nothing beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The numbers of now."""
        with self._lock:
            outcomes, sums, last = dict(self._outcomes), dict(self._sums), dict(self._last)
        yield build_info("worker_build_info")
        yield gauge("worker_busy", "1 while a task is on the chip.", values=single(self._running))
        ended = [((outcome,), outcomes.get(outcome, 0)) for outcome in ("done", "failed", "withdrawn")]
        yield counter("worker_tasks", "Tasks ended.", ("outcome",), ended)
        yield counter("worker_steps", "Training steps done.", values=single(sums.get(metrics.STEPS, 0)))
        trained_s = sums.get(metrics.TRAIN_S, 0)
        yield counter("worker_train_seconds", "Time spent training, measured.", values=single(trained_s))
        yield from _bill(sums)
        yield gauge("worker_loss", "Of the last task, measured.", values=single(last.get(metrics.LOSS)))
        rate = last.get(metrics.SPIKE_RATE)
        yield gauge(
            "worker_spike_rate_ratio", "Neuron-steps that fired in the last task, measured.", values=single(rate)
        )
        facts = board.heartbeat()
        temperature = facts.temperature_c if facts.HasField("temperature_c") else None
        yield gauge("worker_board_temperature_celsius", "Of the hottest zone, measured.", values=single(temperature))

    def _take(self, content: records_pb2.Content) -> None:
        reported = {
            name: float(getattr(value, str(value.WhichOneof("kind"))))
            for record in content.metrics.values()
            for name, value in record.values.items()
            if value.WhichOneof("kind") in ("number", "integer")
        }
        with self._lock:
            self._last = reported
            for name, value in reported.items():
                if name.partition("/")[0] in _SUMMED:
                    self._sums[name] = self._sums.get(name, 0.0) + value


def _bill(sums: dict[str, float]) -> Iterator[Metric]:
    energy = bounded(split(metrics.parts(sums, metrics.ENERGY_J), 2, metrics.ENGINES))
    about = "Energy of the emulated chip and its DRAM, modelled."
    yield counter("worker_energy_joules", about, ("engine", "component"), energy)
    dram = bounded(split(metrics.parts(sums, metrics.DRAM_BYTES), 1))
    yield counter("worker_dram_bytes", "DRAM traffic of the emulated chip, modelled.", ("tensor_class",), dram)
    cycles = bounded(split(metrics.parts(sums, metrics.CYCLES), 1, metrics.ENGINES))
    yield counter("worker_engine_cycles", "Busy core-cycles of the emulated engines, modelled.", ("engine",), cycles)


def serve(numbers: WorkerNumbers, listen: str, security: Security) -> str:
    """Serve the numbers from a thread of their own.

    Args:
        numbers: what to serve.
        listen: `HOST:PORT`, or a port of the loopback interface; port 0 takes any free one.
        security: with a certificate, HTTPS to callers whose certificate the same authority signed.

    Returns:
        Where they are.

    Raises:
        AddressInUseError: if the port is taken.
        ConfigError: if plain text would leave this machine.
        CredentialsError: if a file cannot be used.
    """
    host, port = rpc.split_address(f"127.0.0.1:{listen}" if listen.isdecimal() else listen)
    credentials = security.credentials(host)
    rpc.require_free(host, port, "--metrics")
    registry = CollectorRegistry()
    registry.register(numbers)
    ProcessCollector(registry=registry)
    cert, key = credentials.files if credentials and credentials.files else (None, None)
    server, _ = start_http_server(
        port,
        host,
        registry,
        certfile=str(cert) if cert else None,
        keyfile=str(key) if key else None,
        client_cafile=str(security.ca or (security.folder and security.folder / CA_FILE)) if cert else None,
        client_auth_required=cert is not None,
    )
    url = f"{'https' if cert else 'http'}://{rpc.join_address(host, server.server_port)}/metrics"
    _LOG.info("metrics at %s", url)
    return url
