"""Each finding of the doctor: well, doubtful, and in the way."""

from __future__ import annotations

import importlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from neurofed.doctor import link, machine
from neurofed.doctor.finding import Finding, Level
from neurofed.security.identity import Role
from neurofed.security.options import Security
from neurofed.security.pki import Pki


def _told(finding: Finding) -> tuple[str, str]:
    return finding.check, finding.level


@pytest.mark.parametrize(
    ("version", "level"), [((3, 11, 0), "ok"), ((3, 13, 1), "ok"), ((3, 10, 14), "failure"), ((2, 7, 18), "failure")]
)
def test_python_must_be_new_enough(version: tuple[int, ...], level: str) -> None:
    finding = machine.check_python(version)
    assert _told(finding) == ("python", level)
    assert ".".join(map(str, version)) in finding.text


@pytest.mark.parametrize(
    ("kind", "pointer_bytes", "level", "hint"),
    [
        ("x86_64", 8, "ok", "x86_64"),
        ("aarch64", 8, "ok", "aarch64"),
        ("armv7l", 4, "failure", "32-bit ARM (armv7l): there is no torch for it"),
        ("armv6l", 4, "failure", "32-bit ARM"),
        ("aarch64", 4, "failure", "expected a 64-bit system"),
        ("riscv64", 8, "failure", "riscv64"),
    ],
)
def test_only_64_bit_processors_that_torch_knows(kind: str, pointer_bytes: int, level: str, hint: str) -> None:
    finding = machine.check_processor(kind, pointer_bytes)
    assert _told(finding) == ("processor", level)
    assert hint in finding.text


def test_torch_is_tried_in_a_process_of_its_own() -> None:
    assert _told(machine.check_torch("print('9.9')")) == ("torch", "ok")
    broken = machine.check_torch("import torch_that_is_absent")
    assert _told(broken) == ("torch", "failure")
    assert "No module named 'torch_that_is_absent'" in broken.text
    killed = machine.check_torch("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert _told(killed) == ("torch", "failure")
    assert "signal 4" in killed.text


def test_kernels_are_wished_for_but_not_needed(tmp_path: Path) -> None:
    absent = machine.check_kernels(None, "no C compiler")
    assert _told(absent) == ("kernels", "warning")
    assert "no C compiler" in absent.text
    (tmp_path / "kernels.so").write_bytes(b"not a library")
    damaged = machine.check_kernels(tmp_path / "kernels.so", "built with the package")
    assert _told(damaged) == ("kernels", "warning")
    assert "kernels.so" in damaged.text
    library = Path(importlib.import_module("_ctypes").__file__ or "")
    assert machine.check_kernels(library, "from here") == Finding("kernels", Level.OK, "from here")


@pytest.mark.parametrize(
    ("free_kib", "file", "limit", "level", "hint"),
    [
        (4_000_000, None, "", "ok", "4.10 GB free"),
        (700_000, None, "", "warning", "717 MB free"),
        (100_000, None, "", "failure", "102 MB free"),
        (4_000_000, "memory.max", "max\n", "ok", "4.10 GB free"),
        (4_000_000, "memory.max", "300000000\n", "failure", "300 MB is the limit"),
        (4_000_000, "memory/memory.limit_in_bytes", "800000000\n", "warning", "800 MB is the limit"),
        (4_000_000, "memory/memory.limit_in_bytes", "9223372036854771712\n", "ok", "4.10 GB free"),
    ],
)
def test_memory_is_the_least_of_what_is_free_and_what_is_allowed(
    tmp_path: Path, free_kib: int, file: str | None, limit: str, level: str, hint: str
) -> None:
    info, groups = tmp_path / "meminfo", tmp_path / "groups"
    info.write_text(f"MemTotal:  8000000 kB\nMemAvailable:  {free_kib} kB\n")
    if file:
        (groups / file).parent.mkdir(parents=True)
        (groups / file).write_text(limit)
    finding = machine.check_memory(info, groups)
    assert _told(finding) == ("memory", level)
    assert hint in finding.text


def test_memory_that_nobody_tells_of_is_a_doubt(tmp_path: Path) -> None:
    assert _told(machine.check_memory(tmp_path / "absent", tmp_path)) == ("memory", "warning")


@pytest.mark.parametrize(("free", "level"), [(5e9, "ok"), (5e8, "warning"), (5e6, "failure")])
def test_a_disk_needs_room(tmp_path: Path, free: float, level: str) -> None:
    finding = machine.check_disk(tmp_path / "new" / "folder", int(free))
    assert _told(finding) == ("disk", level)
    assert list((tmp_path / "new" / "folder").iterdir()) == [], "nothing is left behind"


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    user = os.geteuid()
    if user == 0:  # who may write everywhere, unlike nobody
        os.seteuid(65534)
    try:
        finding = machine.check_disk(tmp_path)
    finally:
        os.seteuid(user)
    assert _told(finding) == ("disk", "failure")
    assert "Permission denied" in finding.text


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small disk")
@pytest.mark.parametrize(("option", "hint"), [("size=4k", "No space left on device"), ("ro", "Read-only file system")])
def test_a_disk_that_takes_nothing_is_found_by_writing(tmp_path: Path, option: str, hint: str) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        if option != "ro":
            (tmp_path / "filler").write_bytes(bytes(4096))
        finding = machine.check_disk(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert _told(finding) == ("disk", "failure")
    assert hint in finding.text


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = machine.check_disk(tmp_path / "file")
    assert _told(finding) == ("disk", "failure")
    assert "File exists" in finding.text


def test_a_port_in_use_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert _told(link.check_listen(address)) == ("listen", "failure")
        assert _told(link.check_port(address)) == ("port", "ok")
    assert _told(link.check_listen(address)) == ("listen", "ok")
    closed = link.check_port(address)
    assert _told(closed) == ("port", "failure")
    assert "Connection refused" in closed.text


def test_a_name_is_looked_up() -> None:
    assert "127.0.0.1" in link.check_name("localhost:9050").text
    unknown = link.check_name("aggregator.invalid:9050")
    assert _told(unknown) == ("name", "failure")
    assert "'aggregator.invalid'" in unknown.text
    assert _told(link.check_name("host:port")) == ("name", "failure")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Credentials of a worker."""
    return Pki.create(tmp_path / "pki", [], ["board"]).folder_of(Role.WORKER, "board")


@pytest.mark.parametrize(
    ("shift", "level", "hint"),
    [
        (timedelta(0), "ok", "counts until"),
        (timedelta(days=-1), "failure", "this clock is behind; set it"),
        (timedelta(days=360), "warning", "renew it"),
        (timedelta(days=4000), "failure", "set this clock, if it is ahead"),
    ],
)
def test_a_certificate_tells_on_the_clock(folder: Path, shift: timedelta, level: str, hint: str) -> None:
    finding = link.check_certificate(folder, datetime.now(UTC) + shift)
    assert _told(finding) == ("certificate", level)
    assert hint in finding.text


def test_a_missing_certificate_is_told(tmp_path: Path) -> None:
    assert _told(link.check_certificate(None)) == ("certificate", "ok")
    assert _told(link.check_certificate(tmp_path)) == ("certificate", "failure")


def _time_answer(question: bytes, ahead_s: float) -> bytes:
    now = time.time() + 2_208_988_800 + ahead_s
    stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
    return bytes([0b00_100_100, 2]) + bytes(22) + question[40:48] + stamp + stamp


@contextmanager
def _time_server(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """Answers one question."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)

        def serve() -> None:
            question, peer = server.recvfrom(512)
            server.sendto(answer(question), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("ahead_s", "level", "hint"),
    [(0.0, "ok", " of 127.0.0.1"), (3600.0, "failure", "1 h 00 min behind"), (-3600.0, "failure", "1 h 00 min ahead")],
)
def test_a_clock_off_by_an_hour_is_found(ahead_s: float, level: str, hint: str) -> None:
    with _time_server(lambda question: _time_answer(question, ahead_s)) as address:
        finding = link.check_clock([address])
    assert _told(finding) == ("clock", level)
    assert hint in finding.text


def test_a_time_server_that_does_not_know_the_time_is_not_believed() -> None:
    with _time_server(lambda question: bytes([0b00_100_100, 0]) + bytes(46)) as address:
        finding = link.check_clock([address])
    assert _told(finding) == ("clock", "warning")


def test_without_a_time_server_the_kernel_is_asked() -> None:
    finding = link.check_clock()
    assert finding.check == "clock"
    assert finding.level in ("ok", "warning")
    assert "kernel" in finding.text


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurofed", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_command_says_all_it_found_and_ends_with_61(tmp_path: Path) -> None:
    done = _run("--address", "127.0.0.1:1", "--state-dir", str(tmp_path), "--json")
    told = json.loads(done.stdout)
    levels = {finding["check"]: finding["level"] for finding in told["findings"]}
    assert levels.keys() >= {"python", "processor", "torch", "kernels", "memory", "disk", "clock", "certificate"}
    assert (levels["name"], levels["port"]) == ("ok", "failure")
    assert "trust" not in levels, "nobody answers, so nobody can be trusted"
    assert not told["fit"]
    assert done.returncode == 61
    assert done.stderr == "neurofed: expected a machine that can take part, got 1 in the way: port\n"


def test_the_command_is_content_with_a_machine_that_trains(tmp_path: Path) -> None:
    done = _run("--state-dir", str(tmp_path), "--listen", "127.0.0.1:0")
    assert done.returncode == 0, done.stdout
    assert "failure" not in done.stdout
    assert done.stderr == ""


def test_a_wrong_authority_is_found(tmp_path: Path, folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health, health_pb2_grpc

    ours, theirs = tmp_path / "pki", Pki.create(tmp_path / "others", [], ["board"]).folder_of(Role.WORKER, "board")
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    credentials = Security(ours / "server").credentials("127.0.0.1")
    assert credentials
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials.for_server())}"
    server.start()
    try:
        trusted = link.check_trust(address, Security(folder))
        stranger = link.check_trust(address, Security(theirs))
        plain = link.check_trust(address, Security())
    finally:
        server.stop(None).wait()
    assert _told(trusted) == ("trust", "ok")
    assert "'board'" in trusted.text
    assert _told(stranger) == ("trust", "failure")
    assert "that our CA vouches for" in stranger.text
    assert _told(plain) == ("trust", "failure")
    assert "got TLS" in plain.text
