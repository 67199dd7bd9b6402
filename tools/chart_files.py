"""Owns what the Helm chart holds of other parts of the project: rules, dashboards, and the settings in its schema.

Usage: python tools/chart_files.py [--check]

Helm reads no file outside of a chart, so that copies are committed; --check fails where they differ from their
originals.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from splitmesh.settings.model import SECTIONS, Settings

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "splitmesh"
OBSERVABILITY = ROOT / "deploy" / "observability"
COPIES = {"rules": ("prometheus/rules", "*.yml"), "dashboards": ("grafana/dashboards", "*.json")}
"""Folder below the chart's files/ → folder of the originals, and which of them."""

OURS = frozenset(
    {
        "name",
        "tenant",
        "tenants",
        "nats_url",
        "nats_ca",
        "nats_cert",
        "nats_key",
        "nats_creds",
        "web_host",
        "web_port",
        "grpc_host",
        "grpc_port",
        "tokens",
        "tls_cert",
        "tls_key",
        "client_ca",
        "ready_json",
        "log_json",
        "lab_control",
        "otlp_endpoint",
    }
)
"""Settings that the chart itself gives, from other values or from Secrets."""

_UNITS = ("_ms", "_s", "_bps", "_bytes")


def settings_schema(model: type[Settings]) -> dict[str, Any]:
    """JSON schema (draft 7) of a section in values.yaml: names, kinds and bounds; null and "" mean "not set"."""
    fields = model.model_json_schema()["properties"]
    properties = {name: _property(name, fields[name]) for name in model.model_fields if name not in OURS}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(name: str, field: dict[str, Any]) -> dict[str, Any]:
    kinds = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    kind = kinds[0].get("type", "string")
    types = [kind, "null"]
    if kind == "array" or (name.endswith(_UNITS) and name != "drain_s"):
        types.insert(1, "string")  # as on the command line: "a,b", "150ms"
    found: dict[str, Any] = {"description": field["description"], "type": types}
    if "enum" in kinds[0]:
        return {"description": field["description"], "enum": [*kinds[0]["enum"], None]}
    found |= {bound: kinds[0][bound] for bound in ("minimum", "maximum") if bound in kinds[0]}
    if name == "source":  # a password belongs into a Secret, which nodesSecret names
        found["not"] = {"pattern": "://[^/@]*@"}
    return found


def expected() -> dict[Path, str]:
    """Path → text of every file of the chart that follows from others."""
    files: dict[Path, str] = {}
    for target, (folder, pattern) in COPIES.items():
        for path in sorted((OBSERVABILITY / folder).glob(pattern)):
            files[CHART / "files" / target / path.name] = path.read_text("utf-8")
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    for section in ("edge", "cloud", "gateway"):
        schema["definitions"][f"{section}Settings"] = settings_schema(SECTIONS[section])
    files[CHART / "values.schema.json"] = json.dumps(schema, indent=1) + "\n"
    return files


def strays(files: dict[Path, str]) -> list[Path]:
    """Copies whose original is gone."""
    return [path for target in COPIES for path in (CHART / "files" / target).glob("*") if path not in files]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if anything differs")
    checking = arguments.parse_args().check
    files = expected()
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    stray = strays(files)
    for path in [*stale, *stray]:
        print(path.relative_to(ROOT))
    if checking:
        if stale or stray:
            print("these differ from what they follow from: python tools/chart_files.py", file=sys.stderr)
        return int(bool(stale or stray))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], "utf-8")
    for path in stray:
        path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
