"""Dashboards: what is committed follows from the table; every query is valid and asks for what processes expose."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tools import dashboards
from tools.dashboard_panels import Dashboard, Panel

from splitmesh.telemetry.gateway import GatewayMetrics
from splitmesh.telemetry.metrics import Metrics

OBSERVABILITY = Path(__file__).resolve().parents[2] / "deploy" / "observability"
RULES = OBSERVABILITY / "prometheus" / "rules"
FROM_PROMETHEUS = {"job", "instance", "alertname", "alertstate", "le"}
PANELS = [(each, panel) for each in dashboards.DASHBOARDS for panel in each.panels]
UNITS = {"s", "bps", "Bps", "bytes", "reqps", "percentunit", "short"}


def exposed() -> dict[str, set[str]]:
    """Name of a series → its labels. Those without children yet are asked for their label names."""
    labels: dict[str, set[str]] = {}
    edge, cloud, gateway = Metrics(), Metrics(), CollectorRegistry()
    GatewayMetrics(gateway)
    for registry in (edge.edge and edge.registry, cloud.cloud and cloud.registry, gateway):
        for collector, names in registry._collector_to_names.items():
            for name in names:
                labels.setdefault(name, set()).update(getattr(collector, "_labelnames", ()))
    return labels


def recorded() -> set[str]:
    return set(re.findall(r"record: (\S+)", (RULES / "recording.yml").read_text("utf-8")))


def test_what_is_committed_follows_from_the_table() -> None:
    files = dashboards.expected()
    assert {path.name for path in files} == {path.name for path in dashboards.TARGET.glob("*.json")}
    assert [path.name for path, text in files.items() if path.read_text("utf-8") != text] == []


def asked(text: str) -> set[str]:
    """Names of series in a query."""
    return set(re.findall(r"(?<![\w:\"])((?:\w+:)?splitmesh_\w+(?::\w+)?)", text)) - {""}


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda each: getattr(each, "title", ""))
def test_a_query_asks_for_series_and_labels_that_there_are(dashboard: Dashboard, panel: Panel) -> None:
    known = exposed() | {name: {"instance"} for name in recorded()}
    for query, legend in panel.queries:
        query = re.sub(r'"[^"]*"', '""', query)
        series = asked(query)
        assert series or re.search(r"\b(up|ALERTS)\b", query), query
        assert series <= set(known), series - set(known)
        there = set().union(*(known[name] for name in series)) | FROM_PROMETHEUS
        used = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        used |= set(re.findall(r"(\w+)=~?\"", query)) | set(re.findall(r"{{(\w+)}}", legend))
        assert used <= there, used - there


def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    queries = [query for _, panel in PANELS for query, _ in panel.queries]
    filled = [query.replace("$__rate_interval", "5m") for query in queries]
    rules = [{"record": f"q:{number}", "expr": query} for number, query in enumerate(filled)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")
    done = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True)
    assert done.returncode == 0 and f"{len(queries)} rules found" in done.stdout, done.stdout + done.stderr


def test_variables_are_offered_where_they_are_used() -> None:
    for each in dashboards.DASHBOARDS:
        text = " ".join(query for panel in each.panels for query, _ in panel.queries)
        assert set(re.findall(r"\$(\w+)", text)) - {"__rate_interval"} == set(each.variables), each.name
        for label, metric in each.variables.values():
            assert metric in exposed() and label in exposed()[metric] | FROM_PROMETHEUS


def test_every_panel_has_a_unit_and_the_grid_has_no_overlap() -> None:
    for each in dashboards.DASHBOARDS:
        assert {panel.unit for panel in each.panels} <= UNITS
        cells: set[tuple[int, int]] = set()
        for panel in dashboards.dashboard_json(each)["panels"]:
            grid = panel["gridPos"]
            assert grid["x"] + grid["w"] <= 24
            taken = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"])
                     for y in range(grid["y"], grid["y"] + grid["h"])}  # fmt: skip
            assert not cells & taken, f"{each.name}: {panel['title']}"
            cells |= taken


def test_dashboards_lead_to_each_other_and_say_where_it_gets_bad() -> None:
    for each in dashboards.DASHBOARDS:
        made = dashboards.dashboard_json(each)
        linked = {link["url"] for link in made["links"]}
        assert linked == {f"/d/splitmesh-{other.name}" for other in dashboards.DASHBOARDS if other is not each}
        assert sum("thresholds" in panel["fieldConfig"]["defaults"] for panel in made["panels"]) >= 2


@pytest.mark.parametrize(
    ("thresholds", "colours"),
    [((0.05, 0.1), ["green", "yellow", "red"]), ((0.95, 0.9), ["red", "yellow", "green"])],
)
def test_colours_go_with_the_direction(thresholds: tuple[float, float], colours: list[str]) -> None:
    panel = Panel("x", "s", (("up", ""),), thresholds=thresholds)
    dashboard = dashboards.dashboard_json(Dashboard("x", "x", (panel,)))
    steps = dashboard["panels"][0]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["color"] for step in steps] == colours
    assert [step["value"] for step in steps[1:]] == sorted(thresholds)


def test_grafana_is_told_of_the_folder_that_compose_mounts() -> None:
    text = (OBSERVABILITY / "grafana" / "provisioning" / "dashboards" / "mesh.yaml").read_text("utf-8")
    assert "path: /etc/observability/grafana/dashboards" in text
    compose = (OBSERVABILITY.parent / "compose" / "compose.yaml").read_text("utf-8")
    assert "GF_PATHS_PROVISIONING: /etc/observability/grafana/provisioning" in compose
