"""Drills: what happens to boards in the field, done to a worker's container, and undone.

None needs more than the engine: no root on this machine, and the engine may be elsewhere.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from neurofed.cluster.engine import in_our_words
from neurofed.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_RATE_KBIT = (8, 10_000_000)


def kill(container: Container) -> None:
    """Kill the worker's process; the restart policy of the container brings it back.

    The engine's own kill counts as a wish that it be gone, so the process is killed from within.

    Raises:
        EngineError: if the engine refuses.
    """
    with in_our_words(f"killing {container.name}"):
        container.exec_run(["sh", "-c", "kill -9 -1"])


@contextlib.contextmanager
def paused(container: Container) -> Iterator[None]:
    """Freeze a worker while inside: a board that stalls, with its connections open."""
    with in_our_words(f"pausing {container.name}"):
        container.pause()
    try:
        yield
    finally:
        with in_our_words(f"waking {container.name}"):
            container.unpause()


@contextlib.contextmanager
def cut(client: DockerClient, container: Container) -> Iterator[None]:
    """Take a worker off its networks while inside."""
    networks: Mapping[str, Mapping[str, object]] = container.attrs["NetworkSettings"]["Networks"]
    with in_our_words(f"cutting {container.name} off"):
        for name in networks:
            client.networks.get(name).disconnect(container)
    try:
        yield
    finally:
        with in_our_words(f"connecting {container.name}"):
            for name, was in networks.items():
                client.networks.get(name).connect(container, aliases=was["Aliases"])


@contextlib.contextmanager
def slowed(client: DockerClient, container: Container, rate_kbit: int) -> Iterator[None]:
    """Let a worker send no more than a rate while inside: a token bucket in its own network.

    Args:
        client: the engine.
        container: the worker's.
        rate_kbit: the rate in kilobits per second.

    Raises:
        ConfigError: if the rate is out of bounds.
        EngineError: if the engine refuses.
    """
    low, high = _RATE_KBIT
    if not low <= rate_kbit <= high:
        raise ConfigError(f"rate: expected {low} to {high} kbit/s, got {rate_kbit}")
    bucket = f"tbf rate {rate_kbit}kbit burst 16kb latency 400ms"
    _shape(client, container, f'tc qdisc replace dev "$device" root {bucket}')
    try:
        yield
    finally:
        _shape(client, container, 'tc qdisc del dev "$device" root')


def _shape(client: DockerClient, container: Container, command: str) -> None:
    """Run a command for each network device of a container, in a helper that is allowed to."""
    import docker

    script = f"for path in /sys/class/net/eth*; do device=${{path##*/}}; {command} || exit 1; done"
    try:
        client.containers.run(
            container.attrs["Config"]["Image"],
            ["-c", script],
            entrypoint="sh",
            user="0",
            network_mode=f"container:{container.id}",
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            healthcheck={"test": ["NONE"]},
            remove=True,
        )
    except docker.errors.ContainerError as error:
        raise EngineError(f"shaping {container.name}: {error}") from None
    except docker.errors.APIError as error:
        raise EngineError(f"shaping {container.name}: the engine says: {error.explanation}") from None


def hold(seconds: float, tell: Callable[[float], None]) -> None:
    """Wait, telling now and then how many seconds are left."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        tell(left)
        time.sleep(min(left, 5.0))
