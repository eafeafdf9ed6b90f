"""Which revisions of the fleet protocol this version speaks, and how two sides agree on one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from neurofed import __version__, spec
from neurofed.errors import VersionMismatchError
from neurofed.v1 import fleet_pb2

OLDEST, NEWEST = 2, 2
"""The revisions of fleet.proto spoken here. A change of a message's meaning makes a new one."""
NUMERICS = f"numerics/{'.'.join(__version__.split('.')[:2])}"
"""Workers that have this in common with the aggregator compute the same bits from the same task."""
CAPABILITIES = frozenset({NUMERICS, *(f"codec/{name}" for name in spec.CODECS)})
REQUIRED = frozenset({NUMERICS})
_MAX_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides speak: the newest protocol that both know, and the capabilities that both have."""

    protocol: int
    capabilities: tuple[str, ...]


def agree(request: fleet_pb2.JoinRequest) -> Agreement:
    """What an aggregator of this version and a worker have in common.

    Raises:
        VersionMismatchError: if it is too little; names the versions of both sides.
    """
    newest, oldest = request.newest_protocol, request.oldest_protocol or request.newest_protocol
    common = min(newest, NEWEST)
    if not max(oldest, OLDEST) <= common:
        raise _mismatch(request, f"protocol {_span(OLDEST, NEWEST)}", f"protocol {_span(oldest, newest)}")
    capabilities = CAPABILITIES.intersection(request.capabilities)
    if missing := sorted(REQUIRED - capabilities):
        raise _mismatch(request, f"capability {missing[0]}", _shown(request.capabilities))
    return Agreement(common, tuple(sorted(capabilities)))


def check(response: fleet_pb2.JoinResponse) -> None:
    """Check, as a worker, what an aggregator chose.

    Raises:
        VersionMismatchError: if this version does not speak it.
    """
    if not OLDEST <= response.protocol <= NEWEST:
        raise VersionMismatchError(
            f"expected an aggregator that chooses protocol {_span(OLDEST, NEWEST)} (this worker is neurofed "
            f"{__version__}), got protocol {response.protocol} of neurofed {response.version[:_MAX_SHOWN]!r}"
        )


def _mismatch(request: fleet_pb2.JoinRequest, expected: str, got: str) -> VersionMismatchError:
    return VersionMismatchError(
        f"expected a worker with {expected} (the aggregator is neurofed {__version__}), got {got} of neurofed "
        f"{request.version[:_MAX_SHOWN]!r}: install neurofed=={__version__} on the worker, or update the aggregator"
    )


def _span(oldest: int, newest: int) -> str:
    return str(newest) if oldest == newest else f"{oldest} to {newest}"


def _shown(names: Iterable[str]) -> str:
    return (", ".join(name[:_MAX_SHOWN] for name in sorted(names)[:8]) or "none") + " only"
