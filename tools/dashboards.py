"""Owns how dashboards become Grafana's JSON. What they show is in `dashboard_fleet` and `dashboard_edges`.

Usage: python -m tools.dashboards [--check]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tools.dashboard_edges import CODEC, EDGE, LINK
from tools.dashboard_fleet import FLEET, POOL, SLO
from tools.dashboard_panels import Dashboard, Panel

ROOT = Path(__file__).resolve().parent.parent
DASHBOARDS = (FLEET, EDGE, POOL, LINK, CODEC, SLO)
TARGET = ROOT / "deploy" / "observability" / "grafana" / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
ALERTS = "/alerting/list?search=Splitmesh"
_COLUMNS = 24


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """What Grafana 10 and later import; it gives the number."""
    others = [each for each in DASHBOARDS if each is not dashboard]
    return {
        "uid": f"splitmesh-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["splitmesh"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [
            {"type": "link", "title": each.title, "url": f"/d/splitmesh-{each.name}", "keepTime": True}
            for each in others
        ],
        "templating": {"list": _variables(dashboard)},
        "panels": _laid_out(dashboard.panels),
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"name": "datasource", "type": "datasource", "query": "prometheus"}]
    for name, (label, metric) in dashboard.variables.items():
        found.append(
            {
                "name": name,
                "type": "query",
                "datasource": SOURCE,
                "query": {"query": f"label_values({metric}, {label})", "refId": name},
                "refresh": 2,
                "sort": 1,
                "multi": True,
                "includeAll": True,
                "allValue": ".*",
                "current": {"text": "All", "value": "$__all"},
            }
        )
    return found


def _laid_out(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Figures in a row of four, graphs in twos, wide ones alone."""
    found: list[dict[str, Any]] = []
    x = y = row = 0
    for number, panel in enumerate(panels, 1):
        width, height = (6, 4) if panel.kind == "stat" else (_COLUMNS if panel.wide else 12, 8)
        if x + width > _COLUMNS or (row and height != row):
            x, y = 0, y + row
        found.append(_panel(number, panel) | {"gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, row = x + width, height
    return found


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit}
    if panel.thresholds is not None:
        defaults["thresholds"] = {"mode": "absolute", "steps": _steps(*panel.thresholds)}
    if panel.kind == "timeseries":
        shown = {
            "fillOpacity": 30 if panel.stacked else 5,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
        lines = {"thresholdsStyle": {"mode": "line" if panel.thresholds else "off"}}
        defaults["custom"] = shown | lines
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": expr,
            "legendFormat": legend or "__auto",
            "exemplar": "_bucket" in expr,
        }
        for index, (expr, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "links": [{"title": "Alerts", "url": ALERTS}] if panel.thresholds else [],
        "targets": targets,
    }


def _steps(warn: float, bad: float) -> list[dict[str, Any]]:
    if bad > warn:
        return [{"color": "green", "value": None}, {"color": "yellow", "value": warn}, {"color": "red", "value": bad}]
    return [{"color": "red", "value": None}, {"color": "yellow", "value": bad}, {"color": "green", "value": warn}]


def expected() -> dict[Path, str]:
    return {TARGET / f"{each.name}.json": json.dumps(dashboard_json(each), indent=1) + "\n" for each in DASHBOARDS}


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if anything differs")
    checking = arguments.parse_args().check
    files = expected()
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    stale += [path for path in TARGET.glob("*.json") if path not in files]
    for path in stale:
        print(path.relative_to(ROOT))
        if checking:
            continue
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], "utf-8")
        else:
            path.unlink()
    if checking and stale:
        print("these differ from their table: python -m tools.dashboards", file=sys.stderr)
    return int(checking and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
