"""The container engine: how it is reached, and its failures in our words."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from neurofed.errors import EngineError

if TYPE_CHECKING:
    from docker import DockerClient

_TIMEOUT_S = 60
_USUAL = "unix:///var/run/docker.sock"


def connect() -> DockerClient:
    """A client of the engine that DOCKER_HOST names, or of this machine's.

    Raises:
        EngineError: if the extra `docker` is not installed, or no engine answers.
    """
    try:
        import docker
    except ImportError:
        raise EngineError("expected the package `docker`, got none: pip install 'neurofed[docker]'") from None
    try:
        _knock(os.environ.get("DOCKER_HOST") or _USUAL)
        client = docker.from_env(timeout=_TIMEOUT_S)
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(
            f"expected a container engine, none answers ({_reason(error)}): start Docker, set DOCKER_HOST, and check "
            "that this user may use it"
        ) from None
    return client


def _knock(address: str) -> None:
    """Try whether anybody listens at a local address: the package would leave its socket open if nobody does.

    Raises:
        OSError: if nobody does.
    """
    scheme, _, path = address.partition("://")
    if scheme.endswith("unix"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect("/" + path.lstrip("/"))


@contextlib.contextmanager
def in_our_words(what: str) -> Iterator[None]:
    """Say what was wanted when the engine refuses.

    Raises:
        EngineError: for any error of the engine within.
    """
    import docker

    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise EngineError(
            f"{what}: expected the image, got: {_reason(error)}: build it with "
            "`docker compose -f deploy/compose.yaml build`, or name another with --server-image and --worker-image"
        ) from None
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(f"{what}: the engine says: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The innermost of what was said, as one line."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(text.split()) or type(error).__name__
