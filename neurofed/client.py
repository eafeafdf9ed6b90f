"""A client of an aggregator's control and monitor services, in plain blocking calls."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

import grpc

from neurofed import errors, rpc
from neurofed.v1 import control_pb2, monitor_pb2
from neurofed.v1.control_pb2_grpc import ControlServiceStub
from neurofed.v1.monitor_pb2_grpc import MonitorServiceStub

_TIMEOUT_S = 20.0


class AggregatorClient:
    """Talks to one aggregator. Every failed call is one of `neurofed.errors`."""

    def __init__(self, address: str) -> None:
        rpc.split_address(address)
        self._address = address
        self._channel = grpc.insecure_channel(address, options=rpc.OPTIONS)
        self._control = ControlServiceStub(self._channel)
        self._monitor = MonitorServiceStub(self._channel)

    def __enter__(self) -> AggregatorClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def watch(self, run_id: str = "", after_seq: int = 0) -> Iterator[monitor_pb2.Event]:
        """A run's events, past ones first, until it has finished."""
        request = monitor_pb2.WatchEventsRequest(run_id=run_id, after_seq=after_seq)
        try:
            for response in self._monitor.WatchEvents(request):
                yield response.event
        except grpc.RpcError as error:
            raise self._in_our_words(error) from None

    def _in_our_words(self, error: grpc.RpcError) -> errors.NeuroFedError:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            return errors.RunNotFoundError(error.details() or "no such run")
        if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
            code = next((str(m.value) for m in error.trailing_metadata() or () if m.key == "exit-code"), "")
            kinds = {str(kind.exit_code): kind for kind in _config_errors()}
            return kinds.get(code, errors.ConfigError)(error.details() or "wrong argument")
        return rpc.in_our_words(error, self._address)


def _config_errors() -> tuple[type[errors.ConfigError], ...]:
    return (errors.UnknownNameError, errors.UnknownChipError, errors.UnknownSettingError)
