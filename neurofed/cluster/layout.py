"""How the containers of a federation are made. deploy/compose.yaml says the same; a test keeps the two equal.

Containers are NAME-SERVICE-NUMBER and carry the labels that Compose gives its own. Worker `worker-3` is NAME-worker-3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PORT = 9050
PROJECT, SERVICE, NUMBER = (f"com.docker.compose.{key}" for key in ("project", "service", "container-number"))
ONE_OFF = "com.docker.compose.oneoff"
VOLUMES = ("pki", "aggregator-tls", "worker-tls", "operator-tls", "monitoring-tls", "runs", "worker-state")
COMMANDS = ("submit", "runs", "monitor", "workers", "stop", "pause", "resume")
"""Those that talk to an aggregator, and take its address from the environment."""
_NUMBERED = re.compile(r".*[-_](\d+)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a federation is made of.

    Attributes:
        name: its name, which containers, volumes and the network begin with.
        workers: how many.
        chip: the chip they emulate where a run names none.
        server_image: image of the aggregator.
        worker_image: image of the workers.
        worker_memory: limit of each worker, in Docker's notation.
        server_memory: limit of the aggregator.
    """

    name: str = "neurofed"
    workers: int = 5
    chip: str = "core20_28nm"
    server_image: str = "neurofed-server"
    worker_image: str = "neurofed-worker"
    worker_memory: str = "1g"
    server_memory: str = "2g"

    @property
    def network(self) -> str:
        """The private network."""
        return f"{self.name}_fleet"

    def volume(self, name: str) -> str:
        """A volume's full name."""
        return f"{self.name}_{name}"

    def labels(self, service: str, number: int = 1, *, one_off: bool = False) -> dict[str, str]:
        """By which a container is found again."""
        return {PROJECT: self.name, SERVICE: service, NUMBER: str(number), ONE_OFF: str(one_off)}

    def provision(self) -> dict[str, Any]:
        """The container that makes certificates, and ends."""
        return {
            **self._process("provision"),
            "image": self.server_image,
            "command": ["provision"],
            "healthcheck": {"test": ["NONE"]},
            "environment": {"NEUROFED_WORKERS": str(self.workers)},
            "volumes": self._mounts(
                {
                    "pki": "/pki",
                    "aggregator-tls": "/handout/aggregator",
                    "worker-tls": "/handout/workers",
                    "operator-tls": "/handout/operator",
                    "monitoring-tls": "/handout/monitoring",
                }
            ),
        }

    def aggregator(self) -> dict[str, Any]:
        """The aggregator."""
        return {
            **self._process("aggregator"),
            **_LASTING,
            "name": f"{self.name}-aggregator-1",
            "image": self.server_image,
            "command": ["server"],
            "mem_limit": self.server_memory,
            "nano_cpus": 2_000_000_000,
            "environment": {"NEUROFED_SERVER_HTTP": "0.0.0.0:8080", "NEUROFED_HTTP_TOKEN_FILE": "/tls/http/tokens"},
            "volumes": self._mounts({"runs": "/runs"}) | self._mounts({"aggregator-tls": "/tls"}, "ro"),
        }

    def worker(self, number: int) -> dict[str, Any]:
        """A worker, counted from 1."""
        return {
            **self._process("worker", number),
            **_LASTING,
            "name": f"{self.name}-worker-{number}",
            "image": self.worker_image,
            "command": ["worker", "--chip", self.chip],
            "mem_limit": self.worker_memory,
            "nano_cpus": 1_000_000_000,
            "environment": {"NEUROFED_METRICS": "0.0.0.0:9051"},
            "volumes": self._mounts({"worker-state": "/state"}) | self._mounts({"worker-tls": "/tls"}, "ro"),
        }

    def command(self, arguments: list[str]) -> dict[str, Any]:
        """A command of neurofed as the operator, inside the private network."""
        addresses = {f"NEUROFED_{name.upper()}_ADDRESS": f"aggregator:{PORT}" for name in COMMANDS}
        return {
            **self._process("cli", one_off=True),
            "image": self.server_image,
            "command": arguments,
            "healthcheck": {"test": ["NONE"]},
            "environment": {"NEUROFED_TLS_DIR": "/tls/operator", **addresses},
            "volumes": self._mounts({"operator-tls": "/tls"}, "ro"),
        }

    def _process(self, service: str, number: int = 1, *, one_off: bool = False) -> dict[str, Any]:
        return {
            "labels": self.labels(service, number, one_off=one_off),
            "read_only": True,
            "tmpfs": {"/tmp": "size=64m"},  # noqa: S108 (inside the container)
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "pids_limit": 200,
        }

    def _mounts(self, targets: Mapping[str, str], mode: str = "rw") -> dict[str, dict[str, str]]:
        return {self.volume(name): {"bind": target, "mode": mode} for name, target in targets.items()}


_LASTING = {
    "restart_policy": {"Name": "unless-stopped"},
    "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
}


def worker_of(container: str) -> str:
    """The worker in a container: `worker-3` for `neurofed-worker-3`; empty where the name has no number."""
    found = _NUMBERED.fullmatch(container)
    return f"worker-{int(found[1])}" if found else ""
