"""deploy/monitoring: Prometheus takes it, and it asks only for numbers that there are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support import need_program

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
FILES = ("rules.yml", "alerts.yml", "grafana/dashboards/neurofed.json")
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def _offered() -> set[str]:
    """Every number in the reference, which a test of its own compares with what is served."""
    text = (ROOT / "docs" / "reference" / "monitoring.md").read_text()
    recorded = re.findall(r"record: (\S+)", (FOLDER / "rules.yml").read_text())
    return {*re.findall(r"`(neurofed_[a-z_]+)", text), *recorded}


def _asked(text: str) -> set[str]:
    return set(re.findall(r"\bneurofed[_:][a-z_:0-9]+\b", text))


@pytest.mark.parametrize("file", FILES)
def test_only_numbers_that_there_are(file: str) -> None:
    offered = _offered()
    unknown = {
        name
        for name in _asked((FOLDER / file).read_text())
        if name not in offered and not any(name.removesuffix(suffix) in offered for suffix in SUFFIXES)
    }
    assert unknown <= {"neurofed_prometheus"}


def test_every_alert_says_what_to_do() -> None:
    alerts = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len(alerts) >= 6
    for alert in alerts:
        assert set(alert["annotations"]) == {"summary", "action"}, alert["alert"]
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_every_alert_is_tested() -> None:
    alerts = {rule["alert"] for rule in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]}
    tests = yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]
    assert alerts == {case["alertname"] for test in tests for case in test.get("alert_rule_test", ())}


def test_panels_lie_side_by_side_and_know_their_source() -> None:
    dashboard = json.loads((FOLDER / "grafana/dashboards/neurofed.json").read_text())
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"][0]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["datasource"]["uid"] == source["uid"]
        assert panel["targets"]


@pytest.mark.parametrize("arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "tests.yml")])
def test_prometheus_takes_it(arguments: tuple[str, ...]) -> None:
    need_program("promtool")
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
