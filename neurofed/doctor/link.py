"""Checks of the way to an aggregator: name, port, trust, clock."""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from neurofed import rpc
from neurofed.doctor.finding import Finding, failure, ok, warning
from neurofed.errors import NeuroFedError
from neurofed.security.options import CERT_FILE, Security
from neurofed.units import duration

_TIMEOUT_S = 5.0
_SKEW_S = 60.0
"""More than this, and certificates made a moment ago may not count yet."""
_NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900, where NTP counts from, to 1970."""
_NTP_PORT = 123
_TIME_ERROR = 5
"""Of timex.h: the kernel's clock follows no reference."""


def check_listen(address: str) -> Finding:
    """Can an aggregator listen here?"""
    try:
        rpc.require_free(*rpc.split_address(address))
    except NeuroFedError as error:
        return failure("listen", str(error))
    return ok("listen", f"{address} is free")


def check_name(address: str) -> Finding:
    """Does the aggregator's name lead to an address?"""
    try:
        host, port = rpc.split_address(address)
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except NeuroFedError as error:
        return failure("name", str(error))
    except OSError as error:
        return failure(
            "name",
            f"expected an address for {host!r}, got: {error.strerror or error}: check the name, or /etc/resolv.conf",
        )
    return ok("name", f"{host} is {', '.join(found)}")


def check_port(address: str) -> Finding:
    """Does anybody answer at the aggregator's port?"""
    try:
        with socket.create_connection(rpc.split_address(address), _TIMEOUT_S):
            return ok("port", f"{address} answers")
    except OSError as error:
        reason = "no answer" if isinstance(error, TimeoutError) else (error.strerror or error)
        return failure(
            "port",
            f"expected somebody to answer at {address}, got: {reason}: start the aggregator, or open its firewall",
        )


def check_trust(address: str, security: Security) -> Finding:
    """Do this machine and the aggregator trust each other, and does it serve?"""
    from neurofed.health import require_serving

    try:
        require_serving(address, security, timeout_s=_TIMEOUT_S)
    except NeuroFedError as error:
        return failure("trust", str(error))
    name = security.own_name()
    return ok("trust", f"the aggregator serves {name!r}" if name else "the aggregator serves, in plain text")


def check_certificate(folder: Path | None, now: datetime | None = None) -> Finding:
    """Does the certificate count now? Where it does not yet, the clock is the likely culprit.

    Args:
        folder: the `--tls-dir`; None where there is none.
        now: the time; None asks the clock.
    """
    if folder is None:
        return ok("certificate", "none is used")
    from neurofed.security.credentials import read_certificate

    now = now or datetime.now(UTC)
    try:
        certificate = read_certificate(folder / CERT_FILE)
    except NeuroFedError as error:
        return failure("certificate", str(error))
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        late = duration((begin - now).total_seconds())
        return failure(
            "certificate", f"expected one that counts now, got one that counts in {late}: this clock is behind; set it"
        )
    if now > end:
        return failure(
            "certificate",
            f"expected one that counts now, got one that ended on {end:%F}: renew it with "
            "`neurofed provision issue --renew`, or set this clock, if it is ahead",
        )
    if (left := end - now).days < 14:
        return warning("certificate", f"ends in {left.days} days: renew it with `neurofed provision issue --renew`")
    return ok("certificate", f"counts until {end:%F}")


def check_clock(references: Sequence[str] = ()) -> Finding:
    """Is this clock right?

    Args:
        references: `HOST` or `HOST:PORT` of NTP servers to ask; the first that answers counts. Without any, the kernel
            is asked whether its clock follows a reference.
    """
    for reference in references:
        try:
            ahead_s = _ahead_s(reference)
        except (OSError, NeuroFedError):
            continue
        where = "ahead" if ahead_s > 0 else "behind"
        if abs(ahead_s) > _SKEW_S:
            return failure(
                "clock",
                f"expected to agree with {reference} within {duration(_SKEW_S)}, got {duration(abs(ahead_s))} {where}: "
                "set the clock, for example with `timedatectl set-ntp true`",
            )
        return ok("clock", f"{duration(abs(ahead_s))} {where} of {reference}")
    if references:
        return warning("clock", f"expected an answer from {', '.join(references)}, got none: nothing is known of it")
    if _follows_reference():
        return ok("clock", "the kernel says that it follows a reference")
    return warning(
        "clock",
        f"{datetime.now(UTC):%F %T} UTC, and the kernel follows no reference: check it, or name a server with --ntp; "
        "where it is wrong, certificates do not count",
    )


def _ahead_s(reference: str) -> float:
    """How far this clock is ahead of an NTP server's, in seconds, by one question (SNTP, RFC 4330)."""
    host, port = rpc.split_address(reference) if ":" in reference else (reference, _NTP_PORT)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(_TIMEOUT_S)
        connection.connect((host, port))  # answers of others are not let through
        asked_s = time.time()
        connection.send(bytes([0b00_100_011]) + bytes(47))  # version 4, a client's question
        answer = connection.recv(512)
        got_s = time.time()
    if len(answer) < 48 or answer[0] & 0b111 != 4 or not answer[1]:
        raise OSError("not an answer of a server that knows the time")
    received, sent = (struct.unpack_from("!II", answer, offset) for offset in (32, 40))
    theirs_s: float = sum(seconds + fraction / 2**32 - _NTP_EPOCH_S for seconds, fraction in (received, sent)) / 2
    return (asked_s + got_s) / 2 - theirs_s


def _follows_reference() -> bool:
    """True if the kernel's clock is disciplined, as Linux tells it."""
    timex = ctypes.create_string_buffer(512)  # room for its struct, which is all zero for a mere question
    try:
        state: int = ctypes.CDLL(None).adjtimex(timex)
    except (OSError, AttributeError):
        return False
    return 0 <= state != _TIME_ERROR
