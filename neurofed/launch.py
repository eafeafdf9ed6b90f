"""An aggregator and its workers as processes of this machine, started and ended together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from neurofed import errors
from neurofed.errors import LinkError
from neurofed.security.options import ENVIRONMENT

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 20.0


class LocalFleet:
    """One aggregator and a worker for each chip on the loopback interface.

    Used as a context manager; leaving it ends all processes. They also end by themselves should this one be killed.

    Args:
        listen: `HOST:PORT` for the aggregator; port 0 takes a free one.
        out: folder of the runs.
        logs: folder for the processes' output.
        chips: the chip of each worker.
        resume: a run to take up again.
        http: where the aggregator serves its page; None serves none.

    Attributes:
        address: `HOST:PORT` of the aggregator.
        url: where a browser finds the page; empty where there is none.
    """

    def __init__(
        self,
        listen: str,
        out: Path,
        logs: Path,
        chips: Sequence[str],
        resume: str | None = None,
        http: str | None = None,
    ) -> None:
        self._listen, self._out, self._logs, self._chips, self._resume = listen, out, logs, chips, resume
        self._http = http
        self._processes: list[subprocess.Popen[bytes]] = []
        self._files: list[IO[bytes]] = []
        self.address = self.url = ""

    def __enter__(self) -> LocalFleet:
        self._logs.mkdir(parents=True, exist_ok=True)
        address_file = self._logs / "address"
        address_file.unlink(missing_ok=True)
        resume = () if self._resume is None else ("--resume", self._resume)
        http = () if self._http is None else ("--http", self._http)
        try:
            aggregator = self._spawn(
                "aggregator",
                *("server", "--listen", self._listen, "--out", str(self._out), "--address-file", str(address_file)),
                *resume,
                *http,
            )
            self.address, _, self.url = self._await_address(aggregator, address_file).partition("\n")
            for number, chip in enumerate(self._chips):
                name = f"worker-{number}"
                state = str(self._logs.parent / "state" / name)
                self._spawn(name, "worker", "join", self.address, "--name", name, "--chip", chip, "--state-dir", state)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def workers(self) -> list[subprocess.Popen[bytes]]:
        """The processes of the workers, in the order of their chips."""
        return self._processes[1:]

    def close(self) -> None:
        """End the workers, then the aggregator: politely, then not."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for file in self._files:
            file.close()
        self._processes, self._files = [], []

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self._logs / f"{name}.log").open("ab")
        self._files.append(log)
        process = subprocess.Popen(
            [sys.executable, "-m", "neurofed", *arguments, "--parent-pid", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in ENVIRONMENT},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others in order
        )
        self._processes.append(process)
        return process

    def _await_address(self, aggregator: subprocess.Popen[bytes], address_file: Path) -> str:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not address_file.exists():
            if (code := aggregator.poll()) is not None:
                raise _as_error(code, self._logs / "aggregator.log")
            if time.monotonic() > deadline:
                raise LinkError(f"the aggregator did not start within {_START_TIMEOUT_S:g} s: see {self._logs}")
            time.sleep(0.05)
        return address_file.read_text()


def _as_error(code: int, log: Path) -> errors.NeuroFedError:
    """Why a process ended, from its exit code and the last line it wrote."""
    lines = log.read_text(errors="replace").strip().splitlines()
    reason = lines[-1].removeprefix("neurofed: ") if lines else f"exit code {code}"
    told = (
        errors.AddressInUseError,
        errors.RunNotFoundError,
        errors.RunStateError,
        errors.StorageError,
        errors.ConfigError,
    )
    return next((kind for kind in told if kind.exit_code == code), LinkError)(reason)
