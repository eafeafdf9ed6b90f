"""An aggregator and its workers as processes that may be killed and frozen, each worker behind a link of its own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from benchmarks.fleet import plugin, stub
from benchmarks.fleet.journal import Entry, Journal
from benchmarks.fleet.link import Link
from neurofed import spec
from neurofed.client import AggregatorClient
from neurofed.errors import LinkError
from neurofed.v1.control_pb2 import RunEntry, RunSpec

_PATIENCE_S = 120.0
"""Only a hang is ever as slow as this."""
_GRACE_S = 30.0
"""Longer than a worker takes to start, so that the round waits for one that was killed."""


_LEASH = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""`--parent-pid` would do as well, but an aggregator that has a parent leaves unfinished runs alone."""


class Child:
    """A process of ours, ended by its number, or by the kernel should this process be killed.

    Args:
        arguments: what follows `python -m`.
        log: where its output goes.
        environment: its environment.
    """

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*_LEASH, sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """True until it has ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for the end; ends a frozen process too."""
        self._process.kill()
        self._process.wait()

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def has_said(self, words: str) -> bool:
        """True where its log has these words, be they of an earlier process with the same log."""
        return words in self.log.read_text(errors="replace")

    def last_words(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-2000:]


class Fleet:
    """One aggregator and its workers; leaving it as a context manager ends them all.

    Args:
        folder: for runs, logs and addresses.
        workers: how many workers.
        linked: whether each is behind a link that can be slowed and cut.
        grace_s: how long a worker that is away is waited for.

    Attributes:
        runs: folder of the runs.
        links: the workers' links to the aggregator.
    """

    def __init__(self, folder: Path, workers: int, *, linked: bool = True, grace_s: float = _GRACE_S) -> None:
        self.folder, self.runs = folder, folder / "runs"
        self.runs.mkdir(parents=True, exist_ok=True)
        self._address_file = folder / "address"
        self._environment = plugin.environment(folder / "plugin")
        self.address = f"127.0.0.1:{free_port()}"
        self.links = [Link(self.address) for _ in range(workers if linked else 0)]
        self._count, self._grace_s = workers, grace_s
        self.workers: list[Child] = []
        self._aggregator: Child | None = None
        self._journals: dict[str, Journal] = {}

    def __enter__(self) -> Fleet:
        with contextlib.ExitStack() as stack:
            stack.callback(self._end)
            for link in self.links:
                stack.enter_context(link)
            self.start_aggregator()
            self.workers = [self._worker(number) for number in range(self._count)]
            self.wait_until(lambda: all(worker.has_said("joined the aggregator") for worker in self.workers), "workers")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- processes

    @property
    def aggregator(self) -> Child:
        """The aggregator."""
        if self._aggregator is None:
            raise LinkError("expected an aggregator that was started")
        return self._aggregator

    def start_aggregator(self, *, wait: bool = True, module: Sequence[str] = ("neurofed",)) -> None:
        """Start the aggregator; what is unfinished goes on.

        Args:
            wait: until it answers.
            module: what to start instead of `neurofed`, with its first arguments.
        """
        self._address_file.unlink(missing_ok=True)
        options = ["--listen", self.address, "--out", str(self.runs), "--address-file", str(self._address_file)]
        options += ["--grace-s", f"{self._grace_s:g}", "--threads", "1"]
        self._aggregator = child = Child(
            [*module, "server", *options], self.folder / "aggregator.log", self._environment
        )
        if wait:
            self.wait_until(lambda: self._address_file.exists() or not child.is_alive, "the aggregator")
            if not child.is_alive:
                raise LinkError(f"the aggregator ended at once: {child.last_words()}")

    def restart_aggregator(self, *, module: Sequence[str] = ("neurofed",)) -> None:
        """SIGKILL the aggregator and start it again, perhaps another way."""
        self.aggregator.kill()
        self.start_aggregator(module=module)

    def use_folder(self, runs: Path) -> None:
        """Go on with the runs of another folder."""
        self.runs = runs
        self._journals.clear()
        self.restart_aggregator()

    def restart_worker(self, number: int) -> None:
        """SIGKILL a worker and start it again."""
        self.workers[number].kill()
        self.workers[number] = self._worker(number)

    @contextlib.contextmanager
    def guest(self, *arguments: str) -> Iterator[Child]:
        """Another process beside the workers, for as long as the context lasts."""
        child = Child(arguments, self.folder / "guests.log", self._environment)
        try:
            yield child
        finally:
            child.kill()

    def _worker(self, number: int) -> Child:
        name = f"worker-{number}"
        address = self.links[number].address if self.links else self.address
        command = ["neurofed", "worker", "join", address, "--name", name]
        return Child(command, self.folder / f"{name}.log", self._environment)

    def _end(self) -> None:
        for child in (*self.workers, *filter(None, [self._aggregator])):
            child.kill()

    # -- runs

    def submit(self, run_id: str, run: RunSpec) -> None:
        """Queue a run."""
        self.wait_until(self._address_file.exists, "the aggregator")
        with AggregatorClient(self.address) as client:
            client.submit(run, run_id)

    def listed(self, run_id: str) -> RunEntry:
        """A run's line in the aggregator's list."""
        with AggregatorClient(self.address) as client:
            return next(entry for entry in client.runs() if entry.run_id == run_id)

    def resume(self, run_id: str) -> None:
        """Let a failed run go on."""
        with AggregatorClient(self.address) as client:
            client.resume(run_id)

    def finish(self, run_id: str) -> list[str]:
        """Wait for a run's end; returns the digests of its rounds' models, none where it failed."""
        while not self.is_finished(run_id):  # however long it takes, as long as something happens
            seen = len(self.events(run_id))
            self.wait_until(partial(self._has_more, run_id, seen), f"an event of {run_id}")
        return [] if self.events(run_id, "run_finished")[-1].body.get("exit_code") else self.digests(run_id)

    def events(self, run_id: str, kind: str = "") -> list[Entry]:
        """The run's events so far, all or of one kind."""
        journal = self._journals.setdefault(run_id, Journal(self.runs / run_id / "events.jsonl"))
        return [entry for entry in journal.entries() if kind in ("", entry.kind)]

    def _has_more(self, run_id: str, seen: int) -> bool:
        return len(self.events(run_id)) > seen

    def count(self, run_id: str, kind: str) -> int:
        """How often something has happened in a run."""
        return len(self.events(run_id, kind))

    def digests(self, run_id: str) -> list[str]:
        """Digest of the model after each round; a round done again after a restart counts once, as it ended."""
        bodies = [entry.body for entry in self.events(run_id, "round_aggregated")]
        last = {body["round"]: body["model_sha256"] for body in bodies}
        return [last[number] for number in sorted(last)]

    def is_finished(self, run_id: str) -> bool:
        """True once a run has ended and was not taken up again."""
        entries = self.events(run_id)
        return bool(entries) and entries[-1].kind == "run_finished"

    def wait_for(self, run_id: str, kind: str, count: int = 1) -> None:
        """Wait until something has happened `count` times in a run, or the run has ended."""
        self.wait_until(
            lambda: self.count(run_id, kind) >= count or self.is_finished(run_id), f"{count} {kind} in {run_id}"
        )

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        """Poll until something holds.

        Raises:
            LinkError: if it does not within any reasonable time.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise LinkError(
                    f"waited in vain for {what}; the aggregator's last words: {self.aggregator.last_words()}"
                )
            time.sleep(0.02)


def stub_run(workers: int, rounds: int, *, seed: int = 0, **settings: float) -> RunSpec:
    """A run of the stub workload."""
    run = spec.default_spec()
    run.workload, run.preset, run.trace = stub.NAME, "small", False
    run.workers, run.rounds, run.seed = workers, rounds, seed
    run.settings.update({key: str(value) for key, value in settings.items()})
    return run


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
