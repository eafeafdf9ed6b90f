"""The proxy between worker and aggregator: what passes, what is counted, what is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.fleet.link import Link

PATIENCE_S = 20.0


class Echo:
    """Sends back what it gets, on as many connections as come."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.server.accept()
                self.connections.append(connection)
                self.threads.append(threading.Thread(target=self.serve, args=(connection,)))
                self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(1 << 16):
                connection.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    try:
        yield echo
    finally:
        echo.close()


@pytest.fixture
def link(echo: Echo) -> Iterator[Link]:
    with Link(echo.address) as link:
        yield link


def connect(link: Link) -> socket.socket:
    host, _, port = link.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def established(link: Link) -> socket.socket:
    """A connection that the far side has answered on."""
    connection = connect(link)
    connection.sendall(b"x")
    assert read(connection, 1) == b"x"
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while len(data) < size and (part := connection.recv(size - len(data))):
            data += part
    return bytes(data)


def test_bytes_pass_unchanged_and_are_counted_in_both_directions(link: Link) -> None:
    message = bytes(range(256)) * 4000
    with connect(link) as connection:
        sender = threading.Thread(target=connection.sendall, args=(message,))
        sender.start()
        assert read(connection, len(message)) == message
        sender.join()
    assert (link.bytes_up, link.bytes_down) == (len(message), len(message))
    assert link.cuts == 0


def test_connections_do_not_mix(link: Link) -> None:
    with connect(link) as one, connect(link) as other:
        one.sendall(b"one")
        other.sendall(b"other")
        assert (read(one, 3), read(other, 5)) == (b"one", b"other")


@pytest.mark.parametrize(("direction", "passed"), [("up", (30_000, 0)), ("down", (0, 30_000))])
def test_a_cut_comes_after_exactly_so_many_bytes(link: Link, direction: str, passed: tuple[int, int]) -> None:
    with established(link) as connection:
        link.cut_after(direction, 30_000)
        connection.sendall(bytes(100_000))
        read(connection, 100_000)
    assert link.cuts == 1
    counted = (link.bytes_up - 1, link.bytes_down - 1)
    assert counted[direction == "down"] == 30_000


def test_after_a_cut_the_link_is_as_good_as_new(link: Link) -> None:
    with established(link) as connection:
        link.cut()
        assert read(connection, 1) == b""
    with connect(link) as connection:
        connection.sendall(b"again")
        assert read(connection, 5) == b"again"


def test_a_link_that_is_down_takes_nobody_until_it_is_up(link: Link) -> None:
    with established(link) as before:
        link.set_open(False)
        assert read(before, 1) == b""
        with connect(link) as during:
            assert read(during, 1) == b""
    link.set_open(True)
    established(link).close()


def test_where_nobody_listens_the_connection_ends() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Link(address) as link, connect(link) as connection:
            assert read(connection, 1) == b""


def test_an_end_on_the_far_side_is_passed_on(echo: Echo, link: Link) -> None:
    with established(link) as connection:
        echo.connections[0].shutdown(socket.SHUT_RDWR)
        assert read(connection, 1) == b""


def test_delay_and_bandwidth_take_their_time(link: Link) -> None:
    with connect(link) as connection:
        link.delay_s = 0.1
        began_s = time.monotonic()
        connection.sendall(b"x")
        read(connection, 1)
        assert time.monotonic() - began_s >= 0.2
        link.delay_s, link.bytes_per_s = 0.0, 1e6
        began_s = time.monotonic()
        connection.sendall(bytes(300_000))
        read(connection, 300_000)
        assert time.monotonic() - began_s >= 0.2


def test_closing_leaves_no_thread_and_no_connection(echo: Echo) -> None:
    before = threading.active_count()
    link = Link(echo.address)
    with link:
        connection = established(link)
    with connection:
        assert read(connection, 1) == b""
    echo.close()
    assert threading.active_count() == before - 1, "only the echo's own threads have ended besides"
