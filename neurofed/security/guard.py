"""The aggregator's check of every call: is the certificate ours, does it still count, may its role call this?"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from neurofed.security.identity import Peer, Role, caller
from neurofed.security.revocation import RevocationList

_LOG = logging.getLogger(__name__)
_CHECK_S = 1.0

_HEALTH = "grpc.health.v1.Health"
_REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
ALLOWED: Mapping[Role, frozenset[str]] = {
    Role.SERVER: frozenset(),
    Role.WORKER: frozenset({_HEALTH, "neurofed.v1.FleetService"}),
    Role.OPERATOR: frozenset({_HEALTH, _REFLECTION, "neurofed.v1.ControlService", "neurofed.v1.MonitorService"}),
    Role.VIEWER: frozenset({_HEALTH, _REFLECTION, "neurofed.v1.MonitorService"}),
}
"""What each role may call. A service that is not here may be called by nobody."""

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(eq=False, slots=True)
class _Call:
    """A call that goes on."""

    peer: Peer
    work: asyncio.Future[Any]
    refusal: str = ""


class Guard(grpc.aio.ServerInterceptor):
    """Refuses calls that the caller's certificate does not allow, and ends those it allows no longer.

    Args:
        revoked: the certificates that no longer count.
    """

    def __init__(self, revoked: RevocationList) -> None:
        self._revoked = revoked
        self._open: set[_Call] = set()

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Put the check before a handler."""
        handler = await continuation(handler_call_details)
        service = handler_call_details.method.strip("/").rpartition("/")[0]
        return handler and self._guarded(handler, service)

    async def watch(self) -> None:
        """End open calls whose certificate was revoked or has expired, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_S)
            for call in list(self._open):
                call.refusal = self._complaint(call.peer)
                if call.refusal:
                    _LOG.warning("%s; ending its call", call.refusal)
                    call.work.cancel()

    def _guarded(self, handler: Any, service: str) -> Any:
        inner = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

        async def behaviour(request: object, context: Context) -> object:
            peer = await self._admit(service, context)
            call = _Call(peer, asyncio.ensure_future(_run(inner, request, context)))
            self._open.add(call)
            try:
                return await call.work
            except asyncio.CancelledError:
                if not call.refusal:
                    raise
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, call.refusal)
            finally:
                self._open.discard(call)

        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        return kinds[handler.request_streaming, handler.response_streaming](
            behaviour,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _admit(self, service: str, context: Context) -> Peer:
        peer = caller(context)
        if peer is None:
            complaint = "expected a certificate that names a role and a name, got none: see `neurofed provision`"
        else:
            complaint = self._complaint(peer)
            if not complaint and service not in ALLOWED[peer.role]:
                roles = " or ".join(role for role, services in ALLOWED.items() if service in services) or "no role"
                complaint = f"expected a certificate of role {roles} for {service}, got {peer}"
        if complaint or peer is None:
            _LOG.warning("call of %s from %s refused: %s", service, context.peer(), complaint)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, complaint)
        return peer

    def _complaint(self, peer: Peer) -> str:
        """Why a certificate does not count now; empty where it does."""
        if peer.serial in self._revoked:
            return f"the certificate {peer.serial} of {peer} is revoked: ask the operator for another"
        if peer.expired:
            return f"the certificate {peer.serial} of {peer} has expired: ask the operator to renew it"
        return ""


async def _run(inner: Callable[..., Any], request: object, context: Context) -> object:
    """Call a handler of any of the kinds that gRPC knows."""
    result = inner(request, context)
    if inspect.isasyncgen(result):
        async for response in result:
            await context.write(response)
        return None
    return await result
