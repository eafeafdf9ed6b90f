"""The network on chip: a mesh of cores with XY routing, its links' occupancy and the distance that bytes travel.

A node is a number, `row * columns + column`; a link is a pair of neighbouring nodes and has one direction. A packet
is as many flits as its bytes fill; heads and tails of packets are not counted. How long traffic takes is bounded by
its busiest link, which moves `flits_per_cycle`; the first flit comes `hop_cycles` later for each link of the route.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

from neuro_engine.chip import Chip

Link = tuple[int, int]


@dataclass(frozen=True, slots=True)
class NocParameters:
    """A mesh.

    Attributes:
        rows: rows of nodes.
        columns: columns of nodes.
        flit_bits: bits that a link moves at once.
        flits_per_cycle: flits that a link moves in one cycle.
        hop_cycles: cycles in which a router passes a flit on.
        multicast: routers copy spikes to several destinations and add gradients on the way to one. Where they do
            not, each pair of cores has packets of its own.

    Raises:
        ValueError: a number that is not positive.
    """

    rows: int
    columns: int
    flit_bits: int = 128
    flits_per_cycle: float = 1.0
    hop_cycles: float = 1.0
    multicast: bool = True

    def __post_init__(self) -> None:
        rates = self.flits_per_cycle, self.hop_cycles
        if min(self.rows, self.columns, self.flit_bits) < 1 or not all(rate > 0 for rate in rates):
            raise ValueError(f"mesh: expected positive sizes and rates, got {self}")

    @classmethod
    def of(cls, chip: Chip) -> NocParameters:
        """The mesh of a chip, whose routers copy and add."""
        noc = chip.noc
        return cls(noc.rows, noc.columns, noc.flit_bits, noc.flits_per_cycle, noc.hop_cycles)

    @classmethod
    def for_cores(cls, cores: int) -> NocParameters:
        """The mesh nearest to a square that has a node for each of the cores, with the default links."""
        rows = math.isqrt(cores)
        return cls(rows, -(-cores // rows))

    @property
    def nodes(self) -> int:
        """Nodes of the mesh."""
        return self.rows * self.columns

    @property
    def bytes_per_cycle(self) -> float:
        """Bytes that a link moves in one cycle."""
        return self.flit_bits / 8 * self.flits_per_cycle

    def flits(self, size: float) -> int:
        """Flits of a packet of `size` bytes; parts of a byte are no error of a caller that averages."""
        return math.ceil(8 * size / self.flit_bits)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What packets ask of the links; traffic adds up.

    Attributes:
        flits: flits by link.
        byte_hops: bytes times links passed, to which the energy is proportional.
        hops: links passed one after the other by the flit that is last to arrive.
    """

    flits: Mapping[Link, int] = field(default_factory=dict)
    byte_hops: float = 0.0
    hops: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        flits = Counter(self.flits)
        flits.update(other.flits)
        return Traffic(flits, self.byte_hops + other.byte_hops, max(self.hops, other.hops))

    def cycles(self, noc: NocParameters) -> float:
        """Cycles until the last flit arrives, without other traffic on the links; 0.0 for no traffic."""
        return max(self.flits.values(), default=0) / noc.flits_per_cycle + self.hops * noc.hop_cycles


@lru_cache(maxsize=65536)
def route(source: int, destination: int, columns: int) -> tuple[Link, ...]:
    """The links from one node to another, first along the row, then along the column (XY: free of deadlock)."""
    nodes = [source]
    while nodes[-1] % columns != destination % columns:
        nodes.append(nodes[-1] + (1 if destination % columns > nodes[-1] % columns else -1))
    while nodes[-1] != destination:
        nodes.append(nodes[-1] + (columns if destination > nodes[-1] else -columns))
    return tuple(pairwise(nodes))


def multicast(noc: NocParameters, source: int, destinations: Iterable[int], size: float) -> Traffic:
    """`size` bytes from one node to several; XY routes from one node form a tree, whose links carry them once."""
    return _along(noc, [route(source, to, noc.columns) for to in destinations], size)


def reduction(noc: NocParameters, sources: Iterable[int], destination: int, size: float) -> Traffic:
    """The sum of `size` bytes from each of several nodes at one node; where routes meet, routers add."""
    return _along(noc, [route(of, destination, noc.columns) for of in sources], size)


def all_reduce(noc: NocParameters, members: tuple[int, ...], size: float) -> Traffic:
    """The sum of `size` bytes of each member, at all members.

    On a ring of n members, in the order given, each sends 2 (n - 1) parts of 1/n of the bytes to the next: half of
    them to sum, half to spread the sums, the fewest bytes possible (Patarasuk and Yuan, JPDC 2009).
    """
    n = len(members)
    if n < 2:
        return Traffic()
    steps = 2 * (n - 1)
    routes = [route(of, to, noc.columns) for of, to in zip(members, members[1:] + members[:1], strict=True)]
    links = Counter(link for links in routes for link in links)
    part = noc.flits(size / n)
    flits = {link: steps * part * number for link, number in links.items()}
    return Traffic(flits, links.total() * steps * size / n, steps * max(map(len, routes)))


def _along(noc: NocParameters, routes: list[tuple[Link, ...]], size: float) -> Traffic:
    """`size` bytes along each route, or once along each link where routers copy or add."""
    if not size:
        return Traffic()
    links = Counter(link for links in routes for link in links)
    if noc.multicast:
        links = Counter(dict.fromkeys(links, 1))
    flits = noc.flits(size)
    hops = max(map(len, routes), default=0)
    return Traffic({link: flits * number for link, number in links.items()}, links.total() * size, hops)
