"""The mesh, by hand: nodes of a 3 x 4 mesh are

0 1  2  3
4 5  6  7
8 9 10 11
"""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_engine.chip import Chip
from neuro_engine.cost.noc import NocParameters, Traffic, all_reduce, multicast, reduction, route

MESH = NocParameters(3, 4, flit_bits=64, flits_per_cycle=0.5, hop_cycles=2)
nodes = st.integers(0, 11)


def test_routes_go_along_the_row_first():
    assert route(1, 11, 4) == ((1, 2), (2, 3), (3, 7), (7, 11))
    assert route(11, 1, 4) == ((11, 10), (10, 9), (9, 5), (5, 1))
    assert route(5, 5, 4) == ()


@given(nodes, nodes)
def test_routes_are_shortest_and_over_links_of_the_mesh(a, b):
    links = route(a, b, 4)
    assert len(links) == abs(a // 4 - b // 4) + abs(a % 4 - b % 4)
    assert all(abs(u - v) in (1, 4) for u, v in links)
    assert [u for u, _ in links] + [b] == [a] + [v for _, v in links]


def test_a_packet_to_one_node():
    # 20 bytes are 3 flits of 8. At half a flit a cycle a link is busy for 6; 2 hops of 2 cycles come before.
    traffic = multicast(MESH, 0, [2], 20)
    assert traffic == Traffic({(0, 1): 3, (1, 2): 3}, 40, 2)
    assert traffic.cycles(MESH) == 6 + 4


def test_a_multicast_takes_each_link_once():
    # 0 to 2 and 6: both over 0-1-2, then 2-6.
    traffic = multicast(MESH, 0, [2, 6], 8)
    assert traffic == Traffic({(0, 1): 1, (1, 2): 1, (2, 6): 1}, 24, 3)


def test_a_reduction_adds_where_routes_meet():
    # 0 and 1 to 10: rows first, so both over 1-2 and down 2-6-10.
    traffic = reduction(MESH, [0, 1], 10, 8)
    assert traffic == Traffic({(0, 1): 1, (1, 2): 1, (2, 6): 1, (6, 10): 1}, 32, 4)


def test_routers_that_cannot_copy_send_to_each():
    plain = NocParameters(3, 4, flit_bits=64, multicast=False)
    assert multicast(plain, 0, [2, 6], 8) == Traffic({(0, 1): 2, (1, 2): 2, (2, 6): 1}, 40, 3)
    assert reduction(plain, [0, 1], 10, 8) == Traffic({(0, 1): 1, (1, 2): 2, (2, 6): 2, (6, 10): 2}, 56, 4)


@given(nodes, st.sets(nodes, min_size=1), st.floats(1, 1000))
def test_multicast_is_a_tree_no_longer_than_the_routes(source, destinations, size):
    traffic = multicast(MESH, source, destinations, size)
    reached = Counter(to for _, to in traffic.flits)
    assert all(count == 1 for count in reached.values())  # one way to each node
    assert destinations - {source} <= set(reached)
    apart = sum(len(route(source, to, 4)) for to in destinations) * size
    assert traffic.byte_hops <= apart * (1 + 1e-9)


@given(nodes, st.sets(nodes, min_size=1), st.floats(1, 1000))
def test_a_reduction_leaves_each_node_once(destination, sources, size):
    leaves = Counter(of for of, _ in reduction(MESH, sources, destination, size).flits)
    assert all(count == 1 for count in leaves.values())


def test_an_all_reduce_on_a_ring():
    # 4 members around a square: 2 x 3 steps of 1/4 of 64 bytes, 2 flits each, over one link each.
    traffic = all_reduce(MESH, (0, 1, 5, 4), 64)
    assert traffic == Traffic({(0, 1): 12, (1, 5): 12, (5, 4): 12, (4, 0): 12}, 4 * 6 * 16, 6)
    assert traffic.cycles(MESH) == 12 / 0.5 + 6 * 2


def test_the_way_back_of_a_ring_in_a_row_is_long():
    # Members 0, 1, 2: 4 steps; 2 back to 0 passes two links.
    traffic = all_reduce(MESH, (0, 1, 2), 24)
    assert traffic == Traffic(dict.fromkeys([(0, 1), (1, 2), (2, 1), (1, 0)], 4), 4 * 4 * 8, 8)


@pytest.mark.parametrize("members", [(), (3,)])
def test_who_is_alone_has_nothing_to_sum(members):
    assert all_reduce(MESH, members, 64) == Traffic()


def test_nothing_to_send_takes_no_time():
    assert multicast(MESH, 5, [5], 64) == multicast(MESH, 5, [6], 0) == Traffic()
    assert Traffic().cycles(MESH) == 0


def test_traffic_adds_up():
    a, b = multicast(MESH, 0, [2], 8), multicast(MESH, 1, [6], 16)
    assert a + b == Traffic({(0, 1): 1, (1, 2): 3, (2, 6): 2}, 16 + 32, 2)


@pytest.mark.parametrize(("cores", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (16, 4, 4), (20, 4, 5)])
def test_a_mesh_for_cores_is_nearly_square(cores, rows, columns):
    mesh = NocParameters.for_cores(cores)
    assert (mesh.rows, mesh.columns) == (rows, columns)
    assert mesh.nodes >= cores


def test_bytes_per_cycle():
    assert MESH.bytes_per_cycle == 4


def test_the_mesh_of_a_chip():
    keys = {"rows": 2, "columns": 3, "flit_bits": 32, "flits_per_cycle": 0.25, "hop_cycles": 1.5}
    chip = Chip.load("core20_28nm").override({f"noc.{key}": value for key, value in keys.items()})
    assert NocParameters.of(chip) == NocParameters(**keys)


@pytest.mark.parametrize(
    "change", [{"rows": 0}, {"columns": -1}, {"flit_bits": 0}, {"flits_per_cycle": 0}, {"hop_cycles": float("nan")}]
)
def test_a_mesh_must_be_possible(change):
    with pytest.raises(ValueError, match="mesh: expected positive"):
        NocParameters(**{"rows": 2, "columns": 2, **change})
