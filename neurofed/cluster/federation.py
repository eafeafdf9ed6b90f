"""A federation in containers: started, looked at, resized, ended."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurofed.cluster.engine import in_our_words
from neurofed.cluster.layout import NUMBER, ONE_OFF, PROJECT, SERVICE, VOLUMES, Plan, worker_of
from neurofed.errors import ConfigError, EngineError, nearest

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_PATIENCE_S = 180.0
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """A container, and the worker in it as the aggregator sees it.

    Attributes:
        container: its name.
        worker: the worker's name; empty for the aggregator.
        state: the engine's word, such as `running` or `paused`, or `out of memory` where its limit ended it.
        health: the engine's word, such as `healthy`; empty where nothing is checked.
        restarts: how often the engine has started it again.
        seen: the aggregator's word, such as `idle` or `lost`; empty where it knows no such worker, or does not answer.
        heartbeat_age_s: time since its last sign of life; None as above.
        rss_bytes: its resident memory; None as above.
    """

    container: str
    worker: str
    state: str
    health: str
    restarts: int
    seen: str = ""
    heartbeat_age_s: float | None = None
    rss_bytes: int | None = None


class Federation:
    """One federation of an engine.

    Args:
        client: the engine.
        name: what containers, volumes and the network begin with.
    """

    def __init__(self, client: DockerClient, name: str) -> None:
        self._client, self._name = client, name

    def up(self, plan: Plan) -> None:
        """Start what is not there yet, and wait until all of it is healthy.

        Raises:
            EngineError: if the engine refuses, or something does not become healthy.
        """
        with in_our_words(f"starting {plan.name}"):
            if not self._client.networks.list(names=[plan.network]):
                labels = {PROJECT: plan.name, "com.docker.compose.network": "fleet"}
                self._client.networks.create(plan.network, driver="bridge", internal=True, labels=labels)
            for name in VOLUMES:
                labels = {PROJECT: plan.name, "com.docker.compose.volume": name}
                self._client.volumes.create(plan.volume(name), labels=labels)
            self._to_its_end(plan, plan.provision())
            self._start(plan, plan.aggregator(), "aggregator")
            self._await_healthy("aggregator")
            for number in range(1, plan.workers + 1):
                self._start(plan, plan.worker(number), "worker")
            self._await_healthy("worker")

    def scale(self, plan: Plan) -> None:
        """Have `plan.workers` workers: those with the highest numbers go, or new ones come, like those that are there.

        Raises:
            EngineError: if there is no such federation, or the engine refuses.
        """
        workers = self._containers("worker")
        if not workers:
            raise EngineError(f"expected a federation {self._name!r} with workers, got none: `neurofed cluster up`")
        with in_our_words(f"scaling {self._name}"):
            for container in workers:
                if _number(container) > plan.workers:
                    container.stop(timeout=20)
                    container.remove(v=False)
            config = workers[0].attrs["Config"]
            like = dataclasses.replace(plan, worker_image=config["Image"])
            wanted = {**like.worker(1), "command": config["Cmd"], "mem_limit": workers[0].attrs["HostConfig"]["Memory"]}
            self._to_its_end(plan, plan.provision())
            for number in range(1, plan.workers + 1):
                own = {key: like.worker(number)[key] for key in ("name", "labels")}
                self._start(plan, {**wanted, **own}, "worker")
            self._await_healthy("worker")

    def down(self, *, volumes: bool = False) -> list[str]:
        """End it; runs and certificates are kept unless `volumes` go too.

        Returns:
            What was removed.
        """
        mine: dict[str, Any] = {"label": f"{PROJECT}={self._name}"}
        removed = []
        with in_our_words(f"ending {self._name}"):
            containers = self._client.containers.list(all=True, filters=mine)
            for container in sorted(containers, key=lambda c: c.labels.get(SERVICE) == "aggregator"):
                if container.status == "paused":
                    container.unpause()
                container.stop(timeout=20)
                container.remove()
                removed.append(str(container.name))
            for network in self._client.networks.list(filters=mine):
                network.remove()
                removed.append(str(network.name))
            for volume in self._client.volumes.list(filters=mine) if volumes else ():
                volume.remove()
                removed.append(volume.name)
        return removed

    def status(self) -> list[Row]:
        """Each container, the aggregator first, with what the aggregator says of it.

        Raises:
            EngineError: if there is no such federation.
        """
        containers = self._containers("aggregator") + self._containers("worker")
        if not containers:
            raise EngineError(f"expected a federation {self._name!r}, got none: `neurofed cluster up`")
        seen = self._seen()
        return [self._row(container, seen) for container in containers]

    def worker(self, name: str) -> Container:
        """The container of a worker.

        Raises:
            ConfigError: if there is none of that name.
        """
        found = {worker_of(str(container.name)): container for container in self._containers("worker")}
        if name not in found:
            raise ConfigError(f"worker {name!r}: {nearest(name, found)}")
        return found[name]

    def command(self, plan: Plan, arguments: list[str]) -> tuple[int, Iterator[bytes]]:
        """Run a command of neurofed inside, as the operator; its exit code, and what it wrote."""
        with in_our_words(f"running {arguments[:1]}"):
            container = self._client.containers.run(**plan.command(arguments), network=plan.network, detach=True)
            try:
                code: int = container.wait()["StatusCode"]
                return code, iter([container.logs()])
            finally:
                container.remove(force=True)

    # -- the engine's side

    def _containers(self, service: str) -> list[Container]:
        labels = [f"{PROJECT}={self._name}", f"{SERVICE}={service}", f"{ONE_OFF}=False"]
        with in_our_words(f"looking for {self._name}"):
            found = self._client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return sorted(found, key=_number)

    def _start(self, plan: Plan, options: dict[str, Any], alias: str) -> None:
        """Create and start a container, unless it is there; one that is there is started."""
        present = {container.name: container for container in self._containers(options["labels"][SERVICE])}
        container = present.get(options["name"])
        if container is None:
            attached = self._client.api.create_endpoint_config(aliases=[alias])
            container = self._client.containers.create(
                **options, network=plan.network, networking_config={plan.network: attached}
            )
        container.start()

    def _to_its_end(self, plan: Plan, options: dict[str, Any]) -> None:
        container = self._client.containers.run(**options, network=plan.network, detach=True)
        try:
            if code := container.wait(timeout=_PATIENCE_S)["StatusCode"]:
                raise EngineError(f"{options['command'][0]} ended with {code}: {_last_line(container)}")
        finally:
            container.remove(force=True)

    def _await_healthy(self, service: str) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while waiting := [c for c in self._containers(service) if _health(c) != "healthy"]:
            dead = next((c for c in waiting if c.status in ("exited", "restarting", "dead")), None)
            if dead or time.monotonic() > deadline:
                container = dead or waiting[0]
                raise EngineError(
                    f"expected {container.name} to become healthy, got {container.status}, {_health(container)}: "
                    f"{_last_line(container)}"
                )
            time.sleep(_POLL_S)

    def _seen(self) -> dict[str, dict[str, Any]]:
        """The aggregator's view of its workers, by name; nothing where it does not answer."""
        for container in self._containers("aggregator"):
            if container.status == "running":
                with in_our_words("asking the aggregator"):
                    answer: Any = container.exec_run(["entrypoint", "workers", "--json"], demux=True)
                if answer.exit_code == 0:
                    return {entry["name"]: entry for entry in json.loads(answer.output[0])}
        return {}

    def _row(self, container: Container, seen: dict[str, dict[str, Any]]) -> Row:
        name = str(container.name)
        worker = worker_of(name) if container.labels[SERVICE] == "worker" else ""
        view = seen.get(worker, {})
        return Row(
            name,
            worker,
            "out of memory" if container.attrs["State"]["OOMKilled"] else container.status,
            _health(container),
            container.attrs.get("RestartCount", 0),
            view.get("state", ""),
            view.get("heartbeat_age_s"),
            view.get("rss_bytes"),
        )


def _number(container: Container) -> int:
    return int(container.labels.get(NUMBER, 0))


def _health(container: Container) -> str:
    return str(container.attrs["State"].get("Health", {}).get("Status", ""))


def _last_line(container: Container) -> str:
    lines = container.logs(tail=1).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
