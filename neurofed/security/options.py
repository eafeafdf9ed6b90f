"""What the user says about security, and the rule where plain text is allowed. Imports nothing heavy."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neurofed.errors import ConfigError

if TYPE_CHECKING:
    from neurofed.security.credentials import Credentials

_LOG = logging.getLogger(__name__)

CA_FILE, CERT_FILE, KEY_FILE, REVOKED_FILE = "ca.crt", "tls.crt", "tls.key", "revoked.txt"
"""What a folder of credentials holds."""
ENVIRONMENT = (
    *("NEUROFED_TLS_DIR", "NEUROFED_TLS_CA", "NEUROFED_TLS_CERT", "NEUROFED_TLS_KEY", "NEUROFED_TLS_REVOKED"),
    *("NEUROFED_INSECURE", "NEUROFED_TOKEN_FILE", "NEUROFED_ENROL_DIR"),
    *("NEUROFED_HTTP", "NEUROFED_HTTP_TOKEN_FILE", "NEUROFED_METRICS"),
)
"""Variables that stand for options; processes that only this machine's loopback interface connects do without."""


@dataclass(frozen=True, slots=True)
class Security:
    """The options `--tls-dir`, `--tls-ca`, `--tls-cert`, `--tls-key` and `--insecure`.

    Attributes:
        folder: holds the files that are not given one by one.
        ca: certificate of the authority that the other side is trusted by.
        cert: certificate of this side.
        key: its key.
        insecure: plain text is wanted even where others can listen.
    """

    folder: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def credentials(self, host: str) -> Credentials | None:
        """What to show at `host`, and whom to trust there.

        Args:
            host: the host to call, or to listen on.

        Returns:
            The credentials, or None for plain text: on this machine, or where it was asked for.

        Raises:
            ConfigError: if plain text would leave this machine unasked, or the options contradict each other.
            CredentialsError: if a file cannot be used.
        """
        files = self._files()
        if self.insecure and any(files.values()):
            raise ConfigError("expected --insecure or --tls-..., got both (see NEUROFED_TLS_DIR, NEUROFED_INSECURE)")
        if any(files.values()):
            return self._load(files)
        if is_loopback(host):
            return None
        if self.insecure:
            _LOG.warning("plain text with %s: anybody on the way can read and change it, and anybody may call", host)
            return None
        raise ConfigError(
            f"expected TLS for {host}, which is not on the loopback interface, got none: give --tls-dir with a folder "
            "that `neurofed provision` made, or --insecure for plain text"
        )

    def own_name(self) -> str | None:
        """The name in this side's certificate; None without one.

        Raises:
            CredentialsError: if the certificate cannot be read.
        """
        cert = self._files()["--tls-cert"]
        if cert is None:
            return None
        from neurofed.security.credentials import read_certificate
        from neurofed.security.identity import peer_of

        peer = peer_of(read_certificate(cert))
        return peer.name if peer else None

    def _files(self) -> dict[str, Path | None]:
        names = {
            "--tls-ca": (self.ca, CA_FILE),
            "--tls-cert": (self.cert, CERT_FILE),
            "--tls-key": (self.key, KEY_FILE),
        }
        return {option: given or (self.folder and self.folder / name) for option, (given, name) in names.items()}

    def _load(self, files: dict[str, Path | None]) -> Credentials:
        from neurofed.security.credentials import load

        found = {option: path for option, path in files.items() if path}
        if missing := [option for option in files if option not in found]:
            raise ConfigError(f"expected also {' and '.join(missing)}, or --tls-dir with all three files")
        return load(found["--tls-ca"], found["--tls-cert"], found["--tls-key"])


def is_loopback(host: str) -> bool:
    """True for the addresses of this machine that no other reaches, and for `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
