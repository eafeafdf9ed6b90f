"""`neurofed doctor`: what keeps this machine from being a good worker or aggregator, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurofed.cli.options import json_option, security_options
from neurofed.errors import UnfitError
from neurofed.security.options import Security

if TYPE_CHECKING:
    from neurofed.doctor.finding import Finding


@click.command()
@click.option("--address", default=None, help="HOST:PORT of the aggregator to join: checks the way to it, too.")
@click.option("--listen", default=None, help="HOST:PORT where an aggregator is to listen: checks that it is free.")
@security_options
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder that the worker will keep its state in; by default the home folder.",
)
@click.option("--ntp", "references", multiple=True, metavar="HOST", help="Time server to compare with; repeatable.")
@json_option
def doctor(
    address: str | None,
    listen: str | None,
    security: Security,
    state_dir: Path | None,
    references: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check this machine, and the way to an aggregator; each finding says what to do.

    Ends with 0 if nothing keeps a worker from running, and with 61 otherwise.
    """
    findings = []
    for finding in _findings(address, listen, security, state_dir, references):
        findings.append(finding)
        if not as_json:
            click.echo(f"{finding.level:<8} {finding.check:<12} {finding.text}")
    failures = [finding.check for finding in findings if finding.level == "failure"]
    if as_json:
        click.echo(json.dumps({"fit": not failures, "findings": [asdict(finding) for finding in findings]}))
    if failures:
        raise UnfitError(
            f"expected a machine that can take part, got {len(failures)} in the way: {', '.join(failures)}"
        )


def _findings(
    address: str | None, listen: str | None, security: Security, state_dir: Path | None, references: tuple[str, ...]
) -> Iterator[Finding]:
    from neurofed.doctor import link, machine

    yield machine.check_python()
    yield machine.check_processor()
    torch = machine.check_torch()
    yield torch
    if torch.level == "ok":
        from neuro_engine.kernels import build

        yield machine.check_kernels(*build.find())
    yield machine.check_memory()
    yield machine.check_disk(state_dir or Path.home())
    yield link.check_clock(references)
    yield link.check_certificate(security.folder)
    if listen:
        yield link.check_listen(listen)
    if address:
        yield from _way(address, security)


def _way(address: str, security: Security) -> Iterator[Finding]:
    """The way to the aggregator, as far as it leads: each step needs the one before."""
    from neurofed.doctor import link

    for step in (link.check_name, link.check_port):
        finding = step(address)
        yield finding
        if finding.level == "failure":
            return
    yield link.check_trust(address, security)
