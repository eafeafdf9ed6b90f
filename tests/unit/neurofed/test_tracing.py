"""Traces of rounds: spans of events, and on their way to a collector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.message import Message
from support import need
from support_monitor import a_round, a_spec, numbered

from neurofed.cli.export import export
from neurofed.errors import ConfigError, LinkError
from neurofed.eventlog import EventLog, to_json_line
from neurofed.tracing import RoundSpans, Span, live, work_span
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import fleet_pb2
from neurofed.v1 import monitor_pb2 as m

WORKERS = ["a", "b"]
OPENED: list[Message] = [m.RunSubmitted(run_id="r", spec=a_spec()), m.RunStarted(first_round=1, workers=WORKERS)]


def spans_of(*payloads: Message) -> list[Span]:
    rounds = RoundSpans()
    return [span for event in numbered(*payloads) for span in rounds.take(event)]


def seconds(span: Span) -> tuple[float, float]:
    """Begin and end by the number of the event."""
    return (span.start_ns / 1e9 - 1.7e9, span.end_ns / 1e9 - 1.7e9)


def test_a_round_is_a_trace_with_its_tasks_and_steps_below() -> None:
    spans = spans_of(*OPENED, *a_round(1, WORKERS))
    # 1 submitted, 2 started, 3 round, 4-5 sent, 6-9 progress, 10-11 results, 12 aggregated, 13 evaluated, 14 safe
    assert [(span.name, *map(round, seconds(span))) for span in spans] == [
        ("train", 4, 10),
        ("train", 5, 11),
        ("aggregate", 11, 12),
        ("evaluate", 12, 13),
        ("checkpoint", 13, 14),
        ("round", 3, 14),
    ]
    *parts, whole = spans
    assert {span.trace for span in spans} == {whole.trace}
    assert {span.parent for span in parts} == {whole.number}
    assert whole.parent == 0
    assert len({span.number for span in spans}) == len(spans)
    assert parts[0].attributes == {
        "neurofed.worker": "a",
        "neurofed.bytes_down": 2000,
        "neurofed.bytes_up": 1000,
        "neurofed.run": "r",
        "neurofed.round": 1,
    }
    assert not any(span.error for span in spans)


def test_rounds_and_runs_are_traces_of_their_own() -> None:
    spans = spans_of(*OPENED, *a_round(1, WORKERS), *a_round(2, WORKERS))
    assert len({span.trace for span in spans}) == 2


def test_a_task_that_fails_says_why_and_a_round_cut_short_too() -> None:
    sent = [m.TaskSent(worker=w, round=1, kind="train") for w in ("a", "b", "c", "d")]
    spans = spans_of(
        *OPENED,
        m.RoundStarted(round=1, workers=["a", "b", "c", "d"]),
        *sent,
        m.TaskFailed(worker="a", round=1, reason="out of\nmemory"),
        m.WorkerLost(name="b"),
        m.ResultRejected(worker="c", round=1, reason="not finite"),
        m.RunFinished(state=c.RUN_STATE_STOPPED),
    )
    assert [(span.attributes.get("neurofed.worker"), span.error) for span in spans] == [
        ("a", "out of memory"),
        ("b", "worker_lost"),
        ("c", "not finite"),
        ("d", "no result"),
        (None, "cut short"),
    ]


def test_what_comes_late_or_from_nowhere_makes_no_span() -> None:
    late = [m.TaskSent(worker="a", round=1, kind="train"), m.ResultReceived(worker="a", round=1)]
    assert spans_of(*OPENED, m.RoundStarted(round=2, workers=WORKERS), *late) == []
    assert spans_of(*late, m.RoundAggregated(round=1), m.RunFinished()) == []


def test_a_workers_span_finds_its_place_without_being_told() -> None:
    task = spans_of(*OPENED, *a_round(1, WORKERS))[0]
    work = work_span("r/1/train/a", "r", 1, "a", 5, 3)
    assert (work.trace, work.parent) == (task.trace, task.number)
    assert work.number != task.number
    assert work.end_ns == work.start_ns, "a clock set back makes no span of negative length"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any], threading.Event]]:
    """An OTLP receiver at a real port, and the requests it got."""
    need("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "otel")
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

    got: list[Any] = []
    came = threading.Event()

    class Receiver(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            got.append(request)
            came.set()
            return trace_service_pb2.ExportTraceServiceResponse()

    server = grpc.server(futures.ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Receiver(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", got, came
    server.stop(None).wait()


def received(requests: list[Any]) -> list[Any]:
    return [s for request in requests for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]


def test_a_log_is_sent_to_a_collector(collector: tuple[str, list[Any], threading.Event], tmp_path: Path) -> None:
    endpoint, got, _ = collector
    events = numbered(*OPENED, *a_round(1, WORKERS), *a_round(2, WORKERS))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "events.jsonl").write_text("".join(f"{to_json_line(event)}\n" for event in events))
    done = CliRunner().invoke(export, ["r", "--out", str(tmp_path), "--otlp", endpoint], catch_exceptions=False)
    assert done.output == "12 spans\n"
    rounds = RoundSpans()
    expected = [span for event in events for span in rounds.take(event)]
    assert [
        (s.name, int.from_bytes(s.trace_id), int.from_bytes(s.span_id), int.from_bytes(s.parent_span_id))
        for s in received(got)
    ] == [(s.name, s.trace, s.number, s.parent) for s in expected]
    assert [(s.start_time_unix_nano, s.end_time_unix_nano) for s in received(got)] == [
        (s.start_ns, s.end_ns) for s in expected
    ]
    service = {a.key: a.value.string_value for a in got[0].resource_spans[0].resource.attributes}
    assert service["service.name"] == "neurofed-aggregator"


def test_spans_are_sent_as_they_come(collector: tuple[str, list[Any], threading.Event]) -> None:
    from neurofed.tracing.otlp import Sender

    endpoint, got, came = collector
    with Sender("neurofed-worker", endpoint) as sender:
        sender.send(work_span("r/1/train/a", "r", 1, "a", 1, 2, error="broken"))
    assert came.wait(60)
    (span,) = received(got)
    assert (span.name, span.status.message) == ("work", "broken")


def test_a_collector_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    need("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "otel")
    from neurofed.tracing.otlp import deliver

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with pytest.raises(LinkError, match="expected a collector"):
        deliver([work_span("r/1/train/a", "r", 1, "a", 1, 2)], "neurofed-worker", "http://127.0.0.1:1")


class Running:
    """A task on a chip, as `worker.jobs.RunningTask` is one."""

    def __init__(self) -> None:
        self.task = fleet_pb2.Task(task_id="r/1/train/a", run_id="r", round=1, kind="train")


def test_nothing_is_traced_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUROFED_TRACES", raising=False)
    monkeypatch.setattr(live, "_sender", None)

    def execute(running: Running) -> int:
        return 1

    assert live.trace_work(execute, "a") is execute
    with EventLog(tmp_path / "events.jsonl") as log:
        live.trace_run(log)
        log.emit(OPENED[0])
    monkeypatch.setenv("NEUROFED_TRACES", "zipkin")
    with pytest.raises(ConfigError, match="NEUROFED_TRACES: expected otlp"):
        live.trace_work(execute, "a")


def test_rounds_are_sent_as_they_end_and_work_finds_its_place_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sender:
        spans: list[Span] = []  # noqa: RUF012

        def send(self, span: Span) -> None:
            self.spans.append(span)

    monkeypatch.setenv("NEUROFED_TRACES", "otlp")
    monkeypatch.setattr(live, "_sender", lambda service: Sender())

    def execute(running: Running) -> None:
        raise ValueError("no data")

    with EventLog(tmp_path / "events.jsonl") as log:
        for payload in [*OPENED, *a_round(1, WORKERS)[:3]]:  # what was before this process
            log.emit(payload)
        live.trace_run(log)
        with pytest.raises(ValueError, match="no data"):
            live.trace_work(execute, "a")(Running())
        for payload in a_round(1, WORKERS)[3:]:
            log.emit(payload)
    names = [span.name for span in Sender.spans]
    assert names == ["work", "train", "train", "aggregate", "evaluate", "checkpoint", "round"]
    work, task = Sender.spans[:2]
    assert (work.trace, work.parent, work.error) == (task.trace, task.number, "ValueError: no data")
