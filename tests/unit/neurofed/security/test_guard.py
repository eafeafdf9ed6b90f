"""Who may call what: real TLS on the loopback interface, and handlers of every kind behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FileDescriptor

from neurofed import rpc
from neurofed.security.guard import ALLOWED, Guard
from neurofed.security.identity import Peer, Role, caller
from neurofed.security.options import Security
from neurofed.security.pki import Pki
from neurofed.security.revocation import RevocationList
from neurofed.v1 import control_pb2, fleet_pb2, monitor_pb2

FLEET, CONTROL, MONITOR = "neurofed.v1.FleetService", "neurofed.v1.ControlService", "neurofed.v1.MonitorService"
SERVICES = (FLEET, CONTROL, MONITOR, "neurofed.v1.SomethingNew")
FOLDERS = {Role.WORKER: "worker-board-1", Role.OPERATOR: "operator", Role.VIEWER: "viewer"}


def _who(context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    peer = caller(context)
    assert peer
    return str(peer).encode()


async def _answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return _who(context)


async def _generate(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    yield _who(context)
    await asyncio.Event().wait()


async def _converse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    while True:
        message: Any = await context.read()
        if message is grpc.aio.EOF:
            return
        await context.write(message)


async def _collect(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return b"".join([request async for request in requests])


_HANDLERS = {
    "Unary": grpc.unary_unary_rpc_method_handler(_answer),
    "Generator": grpc.unary_stream_rpc_method_handler(_generate),
    "Collector": grpc.stream_unary_rpc_method_handler(_collect),
    "Conversation": grpc.stream_stream_rpc_method_handler(_converse),
}


class Aggregator:
    """A guarded server, and channels to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.guard = Guard(RevocationList(root / "server" / "revoked.txt"))
        self.server = grpc.aio.server(interceptors=[self.guard])
        for service in SERVICES:
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, _HANDLERS),))
        credentials = Security(root / "server").credentials("127.0.0.1")
        assert credentials
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials.for_server())}"

    def channel(self, folder: str) -> grpc.aio.Channel:
        return rpc.aio_channel(self.address, Security(self.root / folder).credentials("127.0.0.1"))


def _serve(root: Path, act: Callable[[Aggregator], Awaitable[None]]) -> None:
    async def main() -> None:
        aggregator = Aggregator(root)
        await aggregator.server.start()
        watching = asyncio.create_task(aggregator.guard.watch())
        try:
            await asyncio.wait_for(act(aggregator), 60)
        finally:
            watching.cancel()
            await aggregator.server.stop(None)

    asyncio.run(main())


async def _refused(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    return refused.value.details() or ""


@pytest.mark.parametrize("role", FOLDERS)
def test_a_role_may_call_its_services_and_no_other(root: Path, role: Role) -> None:
    allowed = {Role.WORKER: {FLEET}, Role.OPERATOR: {CONTROL, MONITOR}, Role.VIEWER: {MONITOR}}[role]

    async def act(aggregator: Aggregator) -> None:
        async with aggregator.channel(FOLDERS[role]) as channel:
            for service in SERVICES:
                call = channel.unary_unary(f"/{service}/Unary")(b"")
                if service in allowed:
                    assert (await call).decode().startswith(role)
                else:
                    assert f"got {role} " in await _refused(call)

    _serve(root, act)


def test_the_aggregators_own_certificate_opens_nothing(root: Path) -> None:
    assert ALLOWED[Role.SERVER] == frozenset()


def test_every_service_of_the_protocol_is_somebodys(root: Path) -> None:
    files: list[FileDescriptor] = [fleet_pb2.DESCRIPTOR, control_pb2.DESCRIPTOR, monitor_pb2.DESCRIPTOR]
    services = {service.full_name for file in files for service in file.services_by_name.values()}
    assert services == {FLEET, CONTROL, MONITOR}
    assert services <= frozenset().union(*ALLOWED.values())


def test_calls_of_every_kind_pass_the_guard_unchanged(root: Path) -> None:
    async def act(aggregator: Aggregator) -> None:
        async with aggregator.channel("worker-board-1") as channel:
            assert await channel.unary_unary(f"/{FLEET}/Unary")(b"") == b"worker 'board-1'"
            assert await channel.stream_unary(f"/{FLEET}/Collector")(iter([b"a", b"b"])) == b"ab"
            generated = channel.unary_stream(f"/{FLEET}/Generator")(b"")
            assert await generated.read() == b"worker 'board-1'"
            talk = channel.stream_stream(f"/{FLEET}/Conversation")()
            for word in (b"one", b"two"):
                await talk.write(word)
                assert await talk.read() == word
            await talk.done_writing()
            assert await talk.read() is grpc.aio.EOF
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await channel.unary_unary(f"/{FLEET}/Nothing")(b"")
            assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED

    _serve(root, act)


@pytest.mark.parametrize("kind", ["Generator", "Conversation"])
def test_revocation_ends_open_streams_and_refuses_new_calls_but_nobody_elses(root: Path, kind: str) -> None:
    async def act(aggregator: Aggregator) -> None:
        async with aggregator.channel("worker-board-1") as first, aggregator.channel("worker-board-2") as second:
            stream: Any = first.stream_stream(f"/{FLEET}/Conversation")()
            if kind == "Generator":
                stream = first.unary_stream(f"/{FLEET}/Generator")(b"")
                await stream.read()
            other = second.stream_stream(f"/{FLEET}/Conversation")()
            for talk in (stream, other) if kind == "Conversation" else (other,):
                await talk.write(b"x")
                assert await talk.read() == b"x"
            Pki(root).revoke(["board-1"])
            assert "is revoked" in await _refused(stream.read())
            assert "is revoked" in await _refused(first.unary_unary(f"/{FLEET}/Unary")(b""))
            await other.write(b"still here")
            assert await other.read() == b"still here"

    _serve(root, act)


def test_a_certificate_that_expires_ends_its_streams(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(aggregator: Aggregator) -> None:
        async with aggregator.channel("worker-board-1") as channel:
            talk = channel.stream_stream(f"/{FLEET}/Conversation")()
            await talk.write(b"x")
            assert await talk.read() == b"x"
            monkeypatch.setattr(Peer, "expired", True)
            assert "has expired" in await _refused(talk.read())

    _serve(root, act)


def test_a_certificate_without_role_and_name_opens_nothing(root: Path) -> None:
    """One of our CA's, but for a purpose we do not know."""
    from cryptography import x509

    from neurofed.security import ca, identity

    nobody = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "nobody")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ca, "subject_of", lambda role, name: nobody)
        Pki(root).issue(identity.Role.WORKER, "nobody")

    async def act(aggregator: Aggregator) -> None:
        async with aggregator.channel("worker-nobody") as channel:
            assert "got none" in await _refused(channel.unary_unary(f"/{FLEET}/Unary")(b""))

    _serve(root, act)
