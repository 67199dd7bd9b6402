"""Alerts and recorded ratios: Prometheus takes them, each alert has a case where it fires, its metrics exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from splitmesh.telemetry.gateway import GatewayMetrics
from splitmesh.telemetry.metrics import Metrics

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "deploy" / "observability" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
TESTS = sorted((FOLDER / "tests").glob("*.yml"))
ALERTS = (FOLDER / "rules" / "alerts.yml").read_text(encoding="utf-8")


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules_and_the_configuration(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", *RULES)
    assert "SUCCESS" in run(promtool, "check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_must_and_not_when_it_must_not(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", *TESTS)


def test_no_alert_is_without_a_case_where_it_fires() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", ALERTS))
    fires = set()
    for path in TESTS:
        for case in re.findall(r"- alertname: (\w+)\n(?:.*\n)*?.*exp_alerts:\n", path.read_text(encoding="utf-8")):
            fires.add(case)
    assert len(alerts) >= 15
    assert alerts == fires


def test_rules_name_metrics_that_processes_expose() -> None:
    text = ""
    for role in ("edge", "cloud"):
        metrics = Metrics()
        getattr(metrics, role)
        text += generate_latest(metrics.registry).decode()
    doors = CollectorRegistry()
    GatewayMetrics(doors)
    text += generate_latest(doors).decode()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.M))
    named = {
        name.removesuffix("_bucket")
        for path in RULES
        for name in re.findall(r"(?<![\w:])(splitmesh_\w+)(?=[\[{\s)])", path.read_text(encoding="utf-8"))
    }
    assert len(named) >= 12
    assert named <= known, named - known


def test_each_runbook_is_a_section_of_the_operations_manual() -> None:
    manual = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", manual, re.M)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    wanted = set(re.findall(r"runbook_url: docs/operations.md#(\S+)", ALERTS))
    assert len(wanted) >= 8
    assert wanted <= anchors, wanted - anchors
