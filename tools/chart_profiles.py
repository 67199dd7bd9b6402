"""Owns what the chart makes of its three profiles: the manifests, and a picture of who connects to whom.

Usage: python -m tools.chart_profiles [--check]

Manifests go to deploy/helm/rendered/, without rules and dashboards, which are files of their own; pictures to
docs/images/. Needs the environment that deployments are checked in: `make images-lint` makes it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.chart_picture import picture

ROOT = Path(__file__).resolve().parent.parent
HELM = ROOT / "deploy" / "helm"
BIN = ROOT / ".venv-deploy" / "bin"
PROFILES = ("lab", "hybrid", "tenants")
TITLES = {"lab": "lab: one node", "hybrid": "hybrid: boards at the cameras", "tenants": "tenants: three on one pool"}
_WITHOUT = ("monitoring.rules=false", "monitoring.dashboards=false")


def rendered(profile: str) -> str:
    """YAML of all manifests. Raises CalledProcessError."""
    chart, values = HELM / "splitmesh", HELM / "profiles" / f"{profile}.yaml"
    command = [str(BIN / "helm"), "template", "splitmesh", str(chart), "--namespace", "mesh", "--values", str(values)]
    without = [part for each in _WITHOUT for part in ("--set", each)]
    return subprocess.run([*command, *without], capture_output=True, text=True, check=True).stdout


def manifests_of(text: str) -> Sequence[dict[str, Any]]:
    code = "import json, sys, yaml; json.dump([each for each in yaml.safe_load_all(sys.stdin) if each], sys.stdout)"
    done = subprocess.run([BIN / "python", "-c", code], input=text, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def expected() -> dict[Path, str]:
    """Path → text of every file that follows from the chart and its profiles."""
    files: dict[Path, str] = {}
    for profile in PROFILES:
        text = rendered(profile)
        files[HELM / "rendered" / f"{profile}.yaml"] = text
        files[ROOT / "docs" / "images" / f"topology-{profile}.svg"] = picture(TITLES[profile], manifests_of(text))
    return files


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if anything differs")
    checking = arguments.parse_args().check
    stale = {path: text for path, text in expected().items() if not path.is_file() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        print(path.relative_to(ROOT))
        if not checking:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if checking and stale:
        print("these differ from what the chart makes: python -m tools.chart_profiles", file=sys.stderr)
    return int(checking and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
