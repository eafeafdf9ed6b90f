"""A client of an aggregator's control and monitor services, in plain blocking calls."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import grpc

from neurofed import errors, rpc
from neurofed.security.options import Security
from neurofed.v1 import control_pb2, monitor_pb2
from neurofed.v1.control_pb2_grpc import ControlServiceStub
from neurofed.v1.monitor_pb2_grpc import MonitorServiceStub

_TIMEOUT_S = 20.0


class AggregatorClient:
    """Talks to one aggregator. Every failed call is one of `neurofed.errors`.

    Args:
        address: `HOST:PORT` of the aggregator.
        security: the files to show and to trust by; without any, only the loopback interface is called.

    Raises:
        ConfigError: if the address is malformed, or plain text would leave this machine.
        CredentialsError: if a file cannot be used.
    """

    def __init__(self, address: str, security: Security = Security()) -> None:  # noqa: B008 (it is frozen)
        self._address = address
        self._credentials = security.credentials(rpc.split_address(address)[0])
        self._channel = rpc.channel(address, self._credentials)
        self._control = ControlServiceStub(self._channel)
        self._monitor = MonitorServiceStub(self._channel)

    def __enter__(self) -> AggregatorClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and every call on it; may be called from any thread, and twice."""
        self._channel.close()

    def submit(self, run_spec: control_pb2.RunSpec, run_id: str = "") -> str:
        """Submit a run; returns its name."""
        request = control_pb2.SubmitRunRequest(spec=run_spec, run_id=run_id)
        try:
            response: control_pb2.SubmitRunResponse = self._control.SubmitRun(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None
        return response.run_id

    def runs(self) -> list[control_pb2.RunEntry]:
        """The aggregator's runs, newest first."""
        try:
            response = self._control.ListRuns(control_pb2.ListRunsRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None
        return list(response.runs)

    def stop(self, run_id: str) -> None:
        """Stop a run."""
        try:
            self._control.StopRun(control_pb2.StopRunRequest(run_id=run_id), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None

    def pause(self, run_id: str) -> None:
        """Let a run rest once its current round is safe."""
        try:
            self._control.PauseRun(control_pb2.PauseRunRequest(run_id=run_id), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None

    def resume(self, run_id: str) -> None:
        """Let a run go on."""
        try:
            self._control.ResumeRun(control_pb2.ResumeRunRequest(run_id=run_id), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None

    def drain(self, name: str, reason: str = "") -> None:
        """Ask a worker to leave; it gets no more tasks until it joins again."""
        try:
            request = control_pb2.DrainWorkerRequest(name=name, reason=reason)
            self._control.DrainWorker(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None

    def workers(self) -> list[monitor_pb2.WorkerEntry]:
        """The workers that have joined the aggregator, by name."""
        try:
            response = self._monitor.ListWorkers(monitor_pb2.ListWorkersRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None
        return list(response.workers)

    def watch(self, run_id: str = "", after_seq: int = 0) -> Iterator[monitor_pb2.Event]:
        """A run's events, past ones first, until it has finished."""
        request = monitor_pb2.WatchEventsRequest(run_id=run_id, after_seq=after_seq)
        try:
            for response in self._monitor.WatchEvents(request):
                yield response.event
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None

    def _in_our_words(self, error: grpc.RpcError) -> errors.NeuroFedError:
        code = next((str(m.value) for m in error.trailing_metadata() or () if m.key == "exit-code"), "")
        if kind := {str(kind.exit_code): kind for kind in _family(errors.NeuroFedError)}.get(code):
            return kind(error.details() or kind.__doc__)
        return rpc.in_our_words(error, self._address, self._credentials)


def _family(kind: type[errors.NeuroFedError]) -> Iterator[type[errors.NeuroFedError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)
