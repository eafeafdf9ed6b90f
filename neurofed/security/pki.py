"""The folder that `neurofed provision` keeps: an authority, and one folder of credentials for each who takes part.

ca/               the authority, what it has issued, and the join tokens; stays where certificates are made
server/           the aggregator's --tls-dir, with the list of revoked certificates
worker-NAME/      a worker's --tls-dir
operator/ viewer/ the --tls-dir of who starts runs and of who watches them
"""

from __future__ import annotations

import ipaddress
import re
import tempfile
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from neurofed.errors import ConfigError
from neurofed.security.ca import LEAF_DAYS, Authority, PublicKey, cert_pem, fingerprint, key_pem, new_key
from neurofed.security.credentials import read_certificate, read_key
from neurofed.security.identity import NAME, Peer, Role, peer_of, serial_of
from neurofed.security.options import CA_FILE, CERT_FILE, KEY_FILE, REVOKED_FILE
from neurofed.security.private import make_folder, read_file, write_private
from neurofed.security.revocation import read_serials
from neurofed.security.tokens import TokenStore

CA_KEY_FILE = "ca.key"
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REVOKED_HEAD = b"# One revoked serial number a line. The aggregator reads this file again whenever it changes.\n"


class CaFolder:
    """An authority on disk.

    Args:
        folder: holds its certificate, its key, what it has issued and the join tokens.

    Raises:
        CredentialsError: if there is none, or others can read its key.
    """

    def __init__(self, folder: Path) -> None:
        self._issued = folder / "issued"
        self.tokens = TokenStore(folder / "tokens")
        self._authority = Authority(read_certificate(folder / CA_FILE), read_key(folder / CA_KEY_FILE))

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return cert_pem(self._authority.certificate)

    @property
    def fingerprint(self) -> str:
        """Its SHA-256."""
        return fingerprint(self._authority.certificate)

    def issue(
        self, role: Role, name: str, key: PublicKey, hosts: Sequence[str] = (), days: int = LEAF_DAYS
    ) -> x509.Certificate:
        """Sign a certificate and keep a copy, by which it can be revoked; see `Authority.issue`."""
        certificate = self._authority.issue(role, name, key, hosts, days)
        write_private(self._issued / f"{serial_of(certificate)}.crt", cert_pem(certificate))
        return certificate

    def issued(self) -> list[Peer]:
        """The holders of all certificates, by role, name and time."""
        peers = (peer_of(read_certificate(path)) for path in self._issued.glob("*.crt"))
        return sorted((p for p in peers if p), key=lambda p: (p.role, p.name, p.expires, p.serial))


class Pki:
    """The whole folder.

    Args:
        root: the folder, as `create` made it.

    Raises:
        CredentialsError: if it is none of ours.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.ca = CaFolder(root / "ca")

    @classmethod
    def create(cls, root: Path, hosts: Sequence[str], workers: Iterable[str], days: int = LEAF_DAYS) -> Pki:
        """Make an authority, a server's, an operator's, a viewer's and the workers' certificates: all or nothing.

        Args:
            root: the folder to make.
            hosts: names and IP addresses that the aggregator is reached at, besides the loopback ones.
            workers: names of the workers.
            days: how long the certificates count.

        Returns:
            The folder's keeper.

        Raises:
            ConfigError: if there is something in the folder already, or a name or host cannot be used.
        """
        if root.exists() and not (root.is_dir() and not any(root.iterdir())):
            raise ConfigError(f"expected a new folder, got {root} which holds something: nothing was changed")
        make_folder(root.absolute().parent)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.absolute().parent) as temporary:
            draft = Path(temporary) / "pki"
            authority = Authority.create()
            write_private(draft / "ca" / CA_FILE, cert_pem(authority.certificate))
            write_private(draft / "ca" / CA_KEY_FILE, key_pem(authority.key))
            pki = cls(draft)
            pki.issue(Role.SERVER, Role.SERVER, hosts, days=days)
            write_private(draft / "server" / REVOKED_FILE, _REVOKED_HEAD)
            for role, name in ((Role.OPERATOR, "operator"), (Role.VIEWER, "viewer")):
                pki.issue(role, name, days=days)
            for name in workers:
                pki.issue(Role.WORKER, name, days=days)
            draft.replace(root)
        return cls(root)

    def folder_of(self, role: Role, name: str) -> Path:
        """Where a holder's credentials are."""
        return self._root / (role if name == role and role is not Role.WORKER else f"{role}-{name}")

    def issue(
        self, role: Role, name: str, hosts: Sequence[str] = (), *, renew: bool = False, days: int = LEAF_DAYS
    ) -> Path:
        """Make a folder of credentials, or put a fresh certificate for the same key into one.

        Args:
            role: what the holder may do.
            name: who it is.
            hosts: what a server is reached at, besides the loopback addresses; renewed without any, it keeps its own.
            renew: put a fresh certificate into the folder that is there.
            days: how long the certificate counts.

        Returns:
            The folder.

        Raises:
            ConfigError: if a name or host cannot be used, or the folder is there already, or not there to renew.
        """
        if not NAME.fullmatch(name):
            raise ConfigError(f"expected a name like board-1 ({NAME.pattern}), got {name!r}")
        folder = self.folder_of(role, name)
        if renew != (folder / CERT_FILE).exists():
            wish = "one to renew" if renew else "a new one: --renew puts a fresh certificate into it"
            raise ConfigError(f"expected {wish}, got the folder {folder} which {'is not' if renew else 'is'} there")
        if hosts and role is not Role.SERVER:
            raise ConfigError(f"expected --host for a server only, got it for a {role}, which nobody calls")
        if role is Role.SERVER:
            hosts = _server_names(hosts, folder / CERT_FILE)
        key = read_key(folder / KEY_FILE) if renew else new_key()
        certificate = self.ca.issue(role, name, key.public_key(), hosts, days)
        write_private(folder / CA_FILE, self.ca.pem)
        write_private(folder / KEY_FILE, key_pem(key))
        write_private(folder / CERT_FILE, cert_pem(certificate))
        return folder

    def token(self, name: str, lifetime: timedelta, path: Path) -> None:
        """Make a join token for a worker and write its file.

        Raises:
            ConfigError: if the name cannot be used, or the file is there already.
        """
        if not NAME.fullmatch(name):
            raise ConfigError(f"expected a name like board-1 ({NAME.pattern}), got {name!r}")
        if path.exists():
            raise ConfigError(f"expected a new file, got {path} which is there already: nothing was changed")
        self.ca.tokens.new(name, lifetime, self.ca.pem.decode()).write(path)

    def revoke(self, names: Iterable[str]) -> list[Peer]:
        """Put certificates on the server's list.

        Args:
            names: names, which stand for all their certificates, or serial numbers.

        Returns:
            The holders of the certificates that were put on it now.

        Raises:
            ConfigError: if nothing was ever issued for a name.
        """
        issued, wanted = self.ca.issued(), list(names)
        for name in wanted:
            if not any(name in (peer.name, peer.serial) for peer in issued):
                known = ", ".join(sorted({peer.name for peer in issued}))
                raise ConfigError(f"expected the name or serial number of a certificate ({known}), got {name!r}")
        revoked = self.revoked()
        found = [p for p in issued if (p.name in wanted or p.serial in wanted) and p.serial not in revoked]
        path = self._root / "server" / REVOKED_FILE
        old = read_file(path, "a list of revoked certificates") if path.exists() else _REVOKED_HEAD
        write_private(path, old + "".join(f"{peer.serial}  # {peer}\n" for peer in found).encode())
        return found

    def revoked(self) -> frozenset[str]:
        """The serial numbers on the server's list."""
        path = self._root / "server" / REVOKED_FILE
        return read_serials(path) if path.exists() else frozenset()


def _server_names(hosts: Sequence[str], certificate: Path) -> list[str]:
    """What the server's certificate is to list."""
    for host in hosts:
        if not _is_host(host):
            raise ConfigError(f"expected a host name or an IP address without a port, got {host!r}")
    if not hosts and certificate.exists():
        listed = read_certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(name.value) for name in listed]
    return list(dict.fromkeys((*hosts, *_LOOPBACK)))


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(_HOST.fullmatch(host)) and not host.replace(".", "").isdecimal()
    return True
