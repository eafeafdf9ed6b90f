"""`neurofed server` and `neurofed worker join`: the two long-running processes."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import click

from neurofed import log, spec
from neurofed.cli.options import out_option


@click.command()
@click.option(
    "--listen", default=f"127.0.0.1:{spec.DEFAULT_PORT}", show_default=True, help="HOST:PORT; port 0 takes a free one."
)
@out_option
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    default=None,
    metavar="[RUN]",
    help="Take up unfinished runs again, or the named one.",
)
@click.option("--address-file", type=click.Path(path_type=Path), help="Write the address here once it answers.")
@click.option("--threads", "torch_threads", type=int, default=2, show_default=True, help="Threads for evaluation.")
@click.option("--grace-s", type=float, default=5.0, show_default=True, help="How long a cut worker may stay away.")
@click.option("--parent-pid", type=int, default=0, hidden=True)
@click.option("--log-level", default="INFO", show_default=True)
def server(log_level: str, **options: Any) -> None:
    """Run an aggregator: it waits for workers and for runs."""
    _share_cores()
    from server.app import ServerOptions, main

    log.configure(log_level)
    main(ServerOptions(**options))


@click.group()
def worker() -> None:
    """Run a worker."""


@worker.command()
@click.argument("address")
@click.option("--name", default=None, help="Name in the federation; by default the host's.")
@click.option("--chip", default=spec.DEFAULT_CHIP, show_default=True, help="Chip to emulate where a run names none.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads torch may use.")
@click.option("--give-up-after-s", type=float, default=None, help="Stop trying to reach the aggregator; default never.")
@click.option("--parent-pid", type=int, default=0, hidden=True)
@click.option("--log-level", default="INFO", show_default=True)
def join(name: str | None, log_level: str, **options: Any) -> None:
    """Join the aggregator at ADDRESS (HOST:PORT) and train for it."""
    _share_cores()
    from worker.app import WorkerOptions, main

    log.configure(log_level)
    main(WorkerOptions(name=name or _host_name(), **options))


def _share_cores() -> None:
    """Let idle threads sleep: OpenMP reads this when torch loads, and by default they spin on cores others need."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64].lstrip("._-") or "worker"
