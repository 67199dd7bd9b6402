"""The chart as Helm renders it, for the tests beside this file: manifests as data, or Helm's refusal."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "deploy" / "helm" / "splitmesh"
PROFILES = PROJECT / "deploy" / "helm" / "profiles"
BIN = PROJECT / ".venv-deploy" / "bin"
VERSIONS = ("1.29", "1.33", "1.37")
CUSTOM = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject"}
"""Kinds that Kubernetes itself does not know."""

Manifest = dict[str, Any]
CAMERA = {"settings": {"source": "rtsp://camera.example/stream"}}

MATRIX: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("", {}),
    "lab": ("lab", {}),
    "hybrid": ("hybrid", {}),
    "tenants": ("tenants", {}),
    "everything-off": (
        "",
        {
            "gateway": {"enabled": False},
            "networkPolicies": {"enabled": False},
            "priorityClasses": {"create": False},
            "disruptionBudgets": {"enabled": False},
        },
    ),
    "open-to-leaves": (
        "",
        {
            "broker": {"replicas": 3, "leafService": {"type": "LoadBalancer", "annotations": {"a": "b"}}},
            "networkPolicies": {"leafCidrs": ["203.0.113.0/24"], "gatewayClients": [{"podSelector": {}}]},
            "image": {"pullSecrets": ["registry"], "tag": "2.0.0"},
            "monitoring": {"monitors": True, "rules": True, "dashboards": True, "labels": {"release": "prom"}},
        },
    ),
    "no-leaf": (
        "",
        {
            "fullnameOverride": "mesh",
            "edgePools": {
                "a": {**CAMERA, "leaf": {"enabled": False}},
                "b": {**CAMERA, "disk": {"kind": "ephemeral"}},
            },
            "worker": {"autoscaling": {"kind": "keda"}},
            "secrets": {"prefix": "shared", "names": {"worker": "login-of-workers"}},
            "otlpEndpoint": "grpcs://collector.example:4317",
        },
    ),
}


def values_of(case: str) -> list[str]:
    profile, values = MATRIX[case]
    arguments = ["--values", str(PROFILES / f"{profile}.yaml")] if profile else []
    return [*arguments, *as_arguments(values)]


def as_arguments(values: Mapping[str, Any]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not (BIN / "helm").exists():
        pytest.skip("needs the environment .venv-deploy: make images-lint")
    return subprocess.run([BIN / "helm", *arguments], capture_output=True, text=True, timeout=60)


def rendered(arguments: Sequence[str], *, chart: Path = CHART, release: str = "splitmesh") -> list[Manifest]:
    """All manifests of the chart, hooks included."""
    done = helm("template", release, str(chart), "--namespace", "mesh", *arguments)
    assert done.returncode == 0, done.stderr
    code = "import json, sys, yaml; json.dump([each for each in yaml.safe_load_all(sys.stdin) if each], sys.stdout)"
    read = subprocess.run([BIN / "python", "-c", code], input=done.stdout, capture_output=True, text=True, check=True)
    return json.loads(read.stdout)


def refusal(values: Mapping[str, Any]) -> str:
    """What Helm says against these values; fails if it says nothing."""
    done = helm("template", "splitmesh", str(CHART), *as_arguments(values))
    assert done.returncode != 0, f"{values} are taken"
    return done.stderr


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] in kinds]


def named(manifests: Sequence[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in of_kind(manifests, kind) if each["metadata"]["name"] == name]
    return found


def pods(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """(who, spec) of every pod that the manifests make."""
    for each in manifests:
        who = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield who, each["spec"]
        elif "template" in each.get("spec", {}):
            yield who, each["spec"]["template"]["spec"]


def containers(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for who, spec in pods(manifests):
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield f"{who} {container['name']}", container
