"""Spans on their way to a collector of OpenTelemetry, by the extra `otel`; how to reach it, OTEL_* variables say.

The spans are made, with their times and identities, before the library sees them: nothing is traced by itself, and no
global state of the library is touched.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from neurofed import __version__
from neurofed.errors import ConfigError, LinkError
from neurofed.tracing.spans import Span

_BATCH: Final = 500


class Sender:
    """Sends spans as they come, in batches, from a thread of its own. What a collector does not take is dropped.

    Args:
        service: what the spans are of: `neurofed-aggregator`, `neurofed-worker`.
        endpoint: `http://HOST:PORT` of an OTLP receiver over gRPC (https for TLS); None lets the OTEL_* variables say.

    Raises:
        ConfigError: if the extra is missing.
    """

    def __init__(self, service: str, endpoint: str | None = None) -> None:
        self._translate = _Translation(service)
        self._batches = _load("opentelemetry.sdk.trace.export").BatchSpanProcessor(_exporter(endpoint))

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, span: Span) -> None:
        """Send a span by and by; never waits."""
        self._batches.on_end(self._translate(span))

    def close(self) -> None:
        """Send the rest and end."""
        self._batches.shutdown()


def deliver(spans: Sequence[Span], service: str, endpoint: str | None = None) -> None:
    """Send spans and wait until they have been taken.

    Args:
        spans: what to send.
        service: as of `Sender`.
        endpoint: as of `Sender`.

    Raises:
        ConfigError: if the extra is missing.
        LinkError: if the collector does not take them.
    """
    translate, exporter = _Translation(service), _exporter(endpoint)
    taken = _load("opentelemetry.sdk.trace.export").SpanExportResult.SUCCESS
    try:
        for start in range(0, len(spans), _BATCH):
            if exporter.export([translate(span) for span in spans[start : start + _BATCH]]) is not taken:
                raise LinkError(f"expected a collector at {endpoint or 'the address of OTEL_*'}, it took no spans")
    finally:
        exporter.shutdown()


class _Translation:
    """Spans of ours as spans of the library."""

    def __init__(self, service: str) -> None:
        self._api, self._sdk = _load("opentelemetry.trace"), _load("opentelemetry.sdk.trace")
        about = {"service.name": service, "service.version": __version__}
        self._resource = _load("opentelemetry.sdk.resources").Resource.create(about)
        self._scope = _load("opentelemetry.sdk.util.instrumentation").InstrumentationScope("neurofed", __version__)

    def __call__(self, span: Span) -> Any:
        status = self._api.Status(self._api.StatusCode.ERROR, span.error) if span.error else self._api.Status()
        return self._sdk.ReadableSpan(
            name=span.name,
            context=self._context(span.trace, span.number),
            parent=self._context(span.trace, span.parent) if span.parent else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=self._api.SpanKind.INTERNAL,
            instrumentation_scope=self._scope,
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
        )

    def _context(self, trace: int, number: int) -> Any:
        flags = self._api.TraceFlags(self._api.TraceFlags.SAMPLED)
        return self._api.SpanContext(trace, number, is_remote=False, trace_flags=flags)


def _exporter(endpoint: str | None) -> Any:
    return _load("opentelemetry.exporter.otlp.proto.grpc.trace_exporter").OTLPSpanExporter(endpoint=endpoint)


def _load(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"expected the extra `otel` ({error}): pip install 'neurofed[otel]'") from None
