"""`neurofed server` and `neurofed worker join`: the two long-running processes."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import click

from neurofed import log, spec
from neurofed.cli.options import out_option, security_options
from neurofed.errors import ConfigError
from neurofed.security.options import Security


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
    help="Take up the named run again, also a stopped or failed one. Unfinished runs go on anyway.",
)
@click.option("--address-file", type=click.Path(path_type=Path), help="Write the address here once it answers.")
@click.option("--threads", "torch_threads", type=int, default=2, show_default=True, help="Threads for evaluation.")
@security_options
@click.option(
    "--tls-revoked",
    type=click.Path(path_type=Path),
    envvar="NEUROFED_TLS_REVOKED",
    help="List of revoked certificates; by default revoked.txt in --tls-dir.",
)
@click.option(
    "--enrol-dir",
    type=click.Path(path_type=Path),
    envvar="NEUROFED_ENROL_DIR",
    help="Folder ca/ of `neurofed provision`: enrol workers that bring a join token.",
)
@click.option("--enrol-listen", default=None, help="HOST:PORT for enrolment; by default the port after --listen's.")
@click.option(
    "--http",
    default=None,
    envvar="NEUROFED_HTTP",
    metavar="HOST:PORT",
    help="Serve the page and /metrics here; port 0 takes a free one.",
)
@click.option(
    "--http-token-file",
    type=click.Path(path_type=Path),
    envvar="NEUROFED_HTTP_TOKEN_FILE",
    help="Lines `operator TOKEN` and `viewer TOKEN`: who may do what at the page; needed off the loopback interface.",
)
@click.option("--grace-s", type=float, default=5.0, show_default=True, help="How long a cut worker may stay away.")
@click.option("--reflection", is_flag=True, help="Answer gRPC reflection, for tools such as grpcurl.")
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
@security_options
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    envvar="NEUROFED_TOKEN_FILE",
    help="Join token to exchange for a certificate, kept in --tls-dir, where there is none yet.",
)
@click.option("--enrol-address", default=None, help="HOST:PORT for enrolment; by default the port after ADDRESS's.")
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    help="Folder for what this worker must know after a restart; by default in the user's state folder, by name.",
)
@click.option(
    "--metrics",
    default=None,
    envvar="NEUROFED_METRICS",
    metavar="[HOST:]PORT",
    help="Serve numbers for Prometheus here; 0 takes a free port.",
)
@click.option(
    "--max-temperature-c",
    type=click.FloatRange(30, 120),
    default=None,
    help="Let training rest while the board's hottest zone is above this; by default never.",
)
@click.option(
    "--memory-limit-mib",
    type=click.IntRange(min=1),
    default=None,
    help="Most data the process may hold: a task that needs more fails, and the worker stays; by default no limit.",
)
@click.option("--give-up-after-s", type=float, default=None, help="Stop trying to reach the aggregator; default never.")
@click.option("--parent-pid", type=int, default=0, hidden=True)
@click.option("--log-level", default="INFO", show_default=True)
def join(
    name: str | None,
    log_level: str,
    security: Security,
    token_file: Path | None,
    enrol_address: str | None,
    **options: Any,
) -> None:
    """Join the aggregator at ADDRESS (HOST:PORT) and train for it."""
    log.configure(log_level)
    if token_file is not None:
        _enrol(security, token_file, enrol_address or _port_after(options["address"]), options["give_up_after_s"])
    name = name or security.own_name() or _host_name()
    _share_cores()
    from worker.app import WorkerOptions, main

    main(WorkerOptions(name=name, security=security, **options))


def _enrol(security: Security, token_file: Path, address: str, give_up_after_s: float | None) -> None:
    if security.folder is None:
        raise ConfigError("expected --tls-dir, the folder to keep the certificate in, beside --token-file")
    from neurofed.security.enrolment import enrol

    enrol(address, token_file, security.folder, give_up_after_s)


def _port_after(address: str) -> str:
    from neurofed import rpc

    host, port = rpc.split_address(address)
    return rpc.join_address(host, port + 1)


def _share_cores() -> None:
    """Let idle threads sleep: OpenMP reads this when torch loads, and by default they spin on cores others need."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64].lstrip("._-") or "worker"
