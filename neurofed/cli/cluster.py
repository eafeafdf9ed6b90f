"""`neurofed cluster`: a federation in containers, and drills with it."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from neurofed import spec, units
from neurofed.cli.options import json_option

if TYPE_CHECKING:
    from neurofed.cluster.federation import Federation
    from neurofed.cluster.layout import Plan

_NAME = click.option("--name", default="neurofed", show_default=True, help="The federation, or Compose project.")
_IMAGES = (
    click.option("--server-image", default="neurofed-server", show_default=True, help="Image of the aggregator."),
    click.option("--worker-image", default="neurofed-worker", show_default=True, help="Image of the workers."),
)


@click.group()
def cluster() -> None:
    """Run a federation in containers of one engine; one that Compose started counts, too."""


@cluster.command()
@_NAME
@click.option("--workers", type=click.IntRange(1, 1000), default=spec.DEFAULT_WORKERS, show_default=True)
@click.option("--chip", default=spec.DEFAULT_CHIP, show_default=True, help="Chip to emulate where a run names none.")
@_IMAGES[0]
@_IMAGES[1]
@click.option("--worker-memory", default="1g", show_default=True, help="Limit of each worker.")
@click.option("--server-memory", default="2g", show_default=True, help="Limit of the aggregator.")
@json_option
def up(as_json: bool, **options: Any) -> None:
    """Start an aggregator and workers on a private network, with certificates, and wait until they are well."""
    federation, plan = _open(**options)
    federation.up(plan)
    _show(federation, as_json)
    if not as_json:
        click.echo(f"next: neurofed cluster do --name {plan.name} submit --rounds 3")


@cluster.command()
@_NAME
@json_option
def status(name: str, as_json: bool) -> None:
    """Show each container's health beside what the aggregator says of the worker in it."""
    _show(_open(name=name)[0], as_json)


@cluster.command()
@click.argument("workers", type=click.IntRange(1, 1000))
@_NAME
@_IMAGES[0]
@json_option
def scale(as_json: bool, **options: Any) -> None:
    """Have WORKERS workers: new ones come, or those with the highest numbers go."""
    federation, plan = _open(**options)
    federation.scale(plan)
    _show(federation, as_json)


@cluster.command()
@_NAME
@click.option("--volumes", is_flag=True, help="Remove the runs, the certificates and the workers' states, too.")
@json_option
def down(name: str, volumes: bool, as_json: bool) -> None:
    """End the federation; runs and certificates stay for the next `up`."""
    removed = _open(name=name)[0].down(volumes=volumes)
    click.echo(json.dumps({"removed": removed}) if as_json else "\n".join(removed))


@cluster.command("do", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_NAME
@_IMAGES[0]
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def do_command(arguments: tuple[str, ...], **options: Any) -> None:
    """Run a command of neurofed inside, as the operator: `cluster do submit --rounds 3`, `cluster do monitor`."""
    federation, plan = _open(**options)
    code, output = federation.command(plan, list(arguments))
    for part in output:
        sys.stdout.buffer.write(part)
    sys.exit(code)


@cluster.command()
@click.argument("kind", type=click.Choice(["kill", "pause", "cut", "slow"]))
@click.argument("worker")
@_NAME
@click.option("--for-s", type=click.FloatRange(0, 86_400), default=30.0, show_default=True, help="How long it lasts.")
@click.option("--rate-kbit", type=int, default=2000, show_default=True, help="What `slow` leaves, in kbit/s.")
def fault(kind: str, worker: str, name: str, for_s: float, rate_kbit: int) -> None:
    """Do to WORKER what happens to boards, then undo it: kill its process, pause it, cut it off, slow its network."""
    from neurofed.cluster import faults
    from neurofed.cluster.engine import connect

    client = connect()
    container = _federation(client, name).worker(worker)
    if kind == "kill":
        faults.kill(container)
        click.echo(f"{worker}: killed; its container starts it again")
        return
    fault: contextlib.AbstractContextManager[None] = {
        "pause": lambda: faults.paused(container),
        "cut": lambda: faults.cut(client, container),
        "slow": lambda: faults.slowed(client, container, rate_kbit),
    }[kind]()
    with fault:
        faults.hold(for_s, lambda left: click.echo(f"{worker}: {kind}, {units.duration(left)} left"))
    click.echo(f"{worker}: {kind} is over")


def _open(**options: Any) -> tuple[Federation, Plan]:
    from neurofed.cluster.engine import connect
    from neurofed.cluster.layout import Plan

    plan = Plan(**options)
    return _federation(connect(), plan.name), plan


def _federation(client: Any, name: str) -> Federation:
    from neurofed.cluster.federation import Federation

    return Federation(client, name)


def _show(federation: Federation, as_json: bool) -> None:
    rows = federation.status()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
        return
    for row in rows:
        restarts = f"{row.restarts} restarts" if row.restarts else ""
        view = "" if not row.worker else f"{row.seen or 'not joined':<11}"
        age = "" if row.heartbeat_age_s is None else f"heard {units.duration(row.heartbeat_age_s)} ago"
        line = f"{row.container:<24} {row.state:<9} {row.health:<10} {view:<11} {age:<20} {restarts}"
        click.echo(line.rstrip())
