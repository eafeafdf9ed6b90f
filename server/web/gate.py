"""Who may see and do what at the page's port, and what a browser may do with what it gets.

On the loopback interface without tokens, whoever is on this machine may do everything, as at the gRPC port; `Host` and
`Origin` tell that no page of somebody else is among them. With tokens, a caller shows one as bearer, or the cookie that
it got for one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neurofed.errors import CredentialsError
from neurofed.security.identity import Role
from neurofed.security.options import is_loopback
from neurofed.security.private import read_secret

CONTROL_HEADER: Final = "x-neurofed"
"""A header that no form and no page of another origin can send."""
COOKIE: Final = "neurofed"
_MIN_TOKEN_CHARS: Final = 16
_OPEN: Final = re.compile(r"/|/static/[A-Za-z0-9_./-]+|/healthz|/api/session")
"""What everybody may have: the page without any numbers, and the way to log in."""
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def read_tokens(path: Path) -> dict[str, Role]:
    """Read the file of `--http-token-file`: lines of a role, `operator` or `viewer`, and a token.

    Raises:
        CredentialsError: if it is missing, malformed, or readable by others.
    """
    tokens: dict[str, Role] = {}
    for number, line in enumerate(read_secret(path, "tokens for the page").decode(errors="replace").splitlines(), 1):
        role, _, token = line.strip().partition(" ")
        if not line.strip() or role.startswith("#"):
            continue
        if role not in (Role.OPERATOR, Role.VIEWER) or not token.isascii() or len(token) < _MIN_TOKEN_CHARS:
            raise CredentialsError(
                f"{path}, line {number}: expected `operator TOKEN` or `viewer TOKEN` with a token of at least "
                f"{_MIN_TOKEN_CHARS} ASCII characters, got something else"
            )
        tokens[token.strip()] = Role(role)
    if not tokens:
        raise CredentialsError(f"expected a line `operator TOKEN` or `viewer TOKEN` in {path}, got none")
    return tokens


class Gate:
    """The check of every request; puts the caller's role into the request's state.

    Args:
        app: what is behind it.
        tokens: the tokens that count, with their roles; none lets everybody on this machine be an operator.
        hosts: the names under which this port is called; without tokens, no others are accepted.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, Role], hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts
        self._secret = secrets.token_bytes(32)
        self._roles = {self._digest(token): role for token, role in tokens.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        role = self.role_of(headers)
        scope.setdefault("state", {}).update(role=role, gate=self)
        refusal = self._refusal(scope, headers, role)

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    out.setdefault(name, value)
            await send(message)

        await (refusal or self._app)(scope, receive, sealed)

    def cookie_for(self, token: str) -> tuple[str, Role] | None:
        """The cookie that stands for a token until this process ends; None where the token does not count."""
        digest = self._digest(token)
        role = self._roles.get(digest)
        return (digest, role) if role else None

    def role_of(self, headers: Headers) -> Role | None:
        """What the caller may do; None where it has not shown a token."""
        if not self._roles:
            return Role.OPERATOR
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._roles.get(self._digest(token.strip()))
        shown = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        return next(
            (role for digest, role in self._roles.items() if hmac.compare_digest(digest.encode(), shown.encode())), None
        )

    def _digest(self, token: str) -> str:
        return hmac.new(self._secret, token.encode(), hashlib.sha256).hexdigest()

    def _refusal(self, scope: Scope, headers: Headers, role: Role | None) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._roles and not self._is_known(host):
            return _no(421, f"expected one of {', '.join(sorted(self._hosts))} as host, got another")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if headers.get(CONTROL_HEADER) is None or (origin and origin.partition("://")[2] != host):
                return _no(403, f"expected the header {CONTROL_HEADER} and no other origin")
            if role is not Role.OPERATOR and scope["path"] != "/api/session":
                return _no(403 if role else 401, "expected a token of role operator")
        if role is None and not _OPEN.fullmatch(scope["path"]):
            return _no(401, "expected a token: as `Authorization: Bearer TOKEN`, or log in at the page")
        return None

    def _is_known(self, host: str) -> bool:
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        return name in self._hosts or is_loopback(name)


def _no(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)
