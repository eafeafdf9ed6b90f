"""`neurofed provision`: certificates and join tokens."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurofed.cli.options import json_option

if TYPE_CHECKING:
    from neurofed.security.identity import Peer
    from neurofed.security.pki import Pki

_FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
_HOSTS = click.option(
    "--host", "hosts", multiple=True, help="Name or IP address the aggregator is reached at; repeatable."
)
_DAYS = click.option(
    "--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long certificates count."
)


@click.group()
def provision() -> None:
    """Make certificates and join tokens for a federation, in one folder."""


@provision.command()
@_FOLDER
@_HOSTS
@click.option(
    "--worker", "workers", multiple=True, metavar="NAME", help="A worker to make credentials for; repeatable."
)
@_DAYS
@json_option
def init(folder: Path, hosts: tuple[str, ...], workers: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make FOLDER: a CA, and --tls-dir folders for the server, an operator, a viewer and each --worker."""
    from neurofed.security.pki import Pki

    _show(Pki.create(folder, hosts, workers, days), as_json)


@provision.command()
@_FOLDER
@click.argument("role", type=click.Choice(["server", "worker", "operator", "viewer"]))
@click.argument("names", nargs=-1)
@_HOSTS
@click.option("--renew", is_flag=True, help="Put a fresh certificate for the same key into the folder that is there.")
@_DAYS
@json_option
def issue(
    folder: Path, role: str, names: tuple[str, ...], hosts: tuple[str, ...], renew: bool, days: int, as_json: bool
) -> None:
    """Make a --tls-dir folder for each of NAMES, who get ROLE; without names, for one named after the role."""
    from neurofed.security.identity import Role
    from neurofed.security.pki import Pki

    pki = Pki(folder)
    made = [pki.issue(Role(role), name, hosts, renew=renew, days=days) for name in names or (role,)]
    click.echo(json.dumps({"folders": [str(path) for path in made]}) if as_json else "\n".join(map(str, made)))


@provision.command()
@_FOLDER
@click.argument("name")
@click.option("--hours", type=click.FloatRange(0, 8760, min_open=True), default=24, show_default=True, help="Lifetime.")
@click.option("--file", type=click.Path(path_type=Path), help="Where to write it; by default FOLDER/NAME.token.")
@json_option
def token(folder: Path, name: str, hours: float, file: Path | None, as_json: bool) -> None:
    """Make a one-time join token with which the worker NAME gets a certificate by itself."""
    from neurofed.security.pki import Pki

    path = file or folder / f"{name}.token"
    Pki(folder).token(name, timedelta(hours=hours), path)
    click.echo(json.dumps({"name": name, "file": str(path)}) if as_json else path)


@provision.command()
@_FOLDER
@click.argument("names", nargs=-1, required=True, metavar="NAME|SERIAL...")
@json_option
def revoke(folder: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Revoke all certificates of a NAME, or the one with a SERIAL number; open connections of theirs are closed."""
    from neurofed.security.pki import Pki

    found = Pki(folder).revoke(names)
    if as_json:
        click.echo(json.dumps({"revoked": [_entry(peer) for peer in found]}))
    for peer in found if not as_json else []:
        click.echo(f"{peer.serial}  {peer}")


@provision.command("list")
@_FOLDER
@json_option
def list_certificates(folder: Path, as_json: bool) -> None:
    """List what was issued, and what of it still counts."""
    from neurofed.security.pki import Pki

    _show(Pki(folder), as_json)


def _show(pki: Pki, as_json: bool) -> None:
    revoked = pki.revoked()
    table = [{**_entry(peer), "revoked": peer.serial in revoked} for peer in pki.ca.issued()]
    if as_json:
        click.echo(json.dumps({"ca_fingerprint": pki.ca.fingerprint, "certificates": table}))
        return
    click.echo(f"CA {pki.ca.fingerprint}")
    for row in table:
        state = "revoked" if row["revoked"] else f"until {row['expires'][:10]}"
        click.echo(f"{row['role']:<9} {row['name']:<20} {state:<16}  {row['serial']}")


def _entry(peer: Peer) -> dict[str, Any]:
    return {"role": peer.role, "name": peer.name, "serial": peer.serial, "expires": peer.expires.isoformat()}
