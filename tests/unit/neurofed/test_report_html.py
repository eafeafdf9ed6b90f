"""The report's page and its charts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from google.protobuf.message import Message

from neurofed.folding import fold_all
from neurofed.report import render_html, report_data
from neurofed.report.charts import Line, bar_chart, legend, line_chart, sparkline
from neurofed.v1 import control_pb2 as c
from neurofed.v1 import monitor_pb2 as m

FIELDS = {f.message_type.name: f.name for f in m.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
EVIL = "<script>alert('x')</script>\"&"


def folded(*payloads: Message) -> m.Snapshot:
    return fold_all(
        m.Event(seq=i, time_unix_s=1.7e9 + i, **{FIELDS[type(p).__name__]: p}) for i, p in enumerate(payloads, 1)
    )


@pytest.fixture
def page() -> str:
    """The page of a small run."""
    bill = {
        "energy-j": 18.0,
        "energy-j/fp/mac": 6.0,
        "energy-j/wg/dram": 12.0,
        "dram-bytes": 600.0,
        "dram-bytes/weights": 600.0,
        "ops-dense/fp": 80.0,
        "ops-executed/fp": 8.0,
    }
    snapshot = folded(
        m.RunSubmitted(run_id="r1", spec=c.RunSpec(workload="digits", preset="quick", workers=1, rounds=1)),
        m.RoundStarted(round=1, workers=["a"]),
        m.ResultReceived(worker="a", round=1, examples=10, metrics=bill),
        m.RoundAggregated(round=1, updates=1, train_metrics={"loss": 1.5, "spike-rate/conv1": 0.2}),
        m.ModelEvaluated(round=1, metrics={"accuracy": 0.75, "loss": 0.5}, wall_s=2),
        m.RunFinished(state=c.RUN_STATE_COMPLETED),
    )
    return render_html(report_data(snapshot))


class Outline(HTMLParser):
    """Tags and attributes of a page, and whether its tags are closed in order."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag) if tag not in self.VOID else None
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return parser


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    shown = outline(page)
    assert not {"script", "link", "img", "iframe"} & set(shown.tags)
    assert not {"src", "href", "style"} & set(shown.attributes)
    assert not re.search(r"https?:|@import|url\(", page)


def test_the_page_shows_the_figures_with_their_provenance(page: str) -> None:
    for text in (
        "75.0 %",
        "18 J",
        "600 B",
        "digits",
        "Energy by engine and component",
        "DRAM traffic by tensor class",
    ):
        assert text in page
    for kind in ("measured", "counted", "modelled"):
        assert f'class="tag {kind}"' in page
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert captions
    assert all("tag " in caption for caption in captions)


def test_no_text_from_the_network_becomes_markup() -> None:
    spec = c.RunSpec(
        workload=EVIL, preset=EVIL, chip=EVIL, codec=EVIL, strategy=EVIL, settings={EVIL: json.dumps(EVIL)}
    )
    names = [
        "loss",
        EVIL,
        *(f"{kind}/{EVIL}" for kind in ("spike-rate", "dram-bytes", "cycles", "ops-dense")),
        f"energy-j/{EVIL}/{EVIL}",
    ]
    numbers = dict.fromkeys(names, 1.0)
    snapshot = folded(
        m.RunSubmitted(run_id=EVIL, spec=spec, version=EVIL, commit=EVIL),
        m.WorkerJoined(name=EVIL, chip=EVIL),
        m.RoundStarted(round=1, workers=[EVIL, "b"]),
        m.ResultReceived(worker=EVIL, round=1, metrics=numbers),
        m.TaskFailed(worker="b", round=1, reason=EVIL),
        m.RoundAggregated(round=1, model_sha256=EVIL, train_metrics=numbers),
        m.ModelEvaluated(round=1, metrics={EVIL: 1.0, "loss": 1.0}),
        m.RunFinished(state=c.RUN_STATE_FAILED, reason=EVIL),
    )
    page = render_html(report_data(snapshot))
    assert "script" not in outline(page).tags
    assert "alert(&#x27;x&#x27;)" in page


def test_runaway_numbers_do_not_spoil_the_page() -> None:
    huge = {
        "loss": 1e308,
        "energy-j": 1e308,
        "energy-j/fp/mac": 1e308,
        "energy-j/fp/dram": 1e308,
        "spike-rate/x": 1e-320,
    }
    snapshot = folded(
        m.RoundStarted(round=1, workers=["a", "b"]),
        m.ResultReceived(worker="a", round=1, metrics=huge),
        m.ResultReceived(worker="b", round=1, metrics=huge),
        m.RoundAggregated(round=1, train_metrics=huge),
        m.ModelEvaluated(round=1, metrics={"accuracy": 1e308, "loss": 5e-324}),
    )
    report = report_data(snapshot)
    json.dumps(report, allow_nan=False)
    outline(render_html(report))
    assert report["rounds"][0]["energy_j"] is None


def test_a_line_chart_stays_inside_its_frame() -> None:
    chart = line_chart([Line("x", [(0, 1.0), (1, 5.5), (2, 3.0)])], "x by round", str, str)
    points = re.search(r'points="([^"]+)"', chart)
    assert points
    pairs = [tuple(map(float, pair.split(","))) for pair in points[1].split()]
    assert len(pairs) == 3
    assert all(0 <= x <= 400 and 0 <= y <= 210 for x, y in pairs)
    assert pairs[1][1] < pairs[2][1] < pairs[0][1]  # greater is higher


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 0.98, 1e-20, 1e20])
def test_a_level_line_has_an_axis(value: float) -> None:
    assert "<polyline" in line_chart([Line("x", [(1, value), (2, value)])], "x", str, str)


def test_bars_have_lengths_in_proportion() -> None:
    chart = bar_chart({"fp": {"mac": 1.0, "dram": 3.0}, "wg": {"dram": 2.0}}, "energy", str)
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', chart)]
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.3)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.3)
    assert [int(n) for n in re.findall(r'<rect class="c(\d)"', chart)] == [0, 1, 1]


def test_small_charts() -> None:
    assert "<polyline" in sparkline([0.5], 0.0, "one value")
    assert legend(["only"]) == ""
    assert legend(["a", "<b>"]).count("<li") == 2
