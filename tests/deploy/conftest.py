"""The compose file as data; YAML is read by the environment that deployments are checked in."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
COMPOSE = PROJECT / "deploy" / "compose"
DEPLOY_PYTHON = PROJECT / ".venv-deploy" / "bin" / "python"


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """deploy/compose/compose.yaml with its anchors resolved, its variables as written."""
    if not DEPLOY_PYTHON.exists():
        pytest.skip("needs the environment .venv-deploy: make images-lint")
    code = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    done = subprocess.run([DEPLOY_PYTHON, "-c", code], input=text, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
