"""An upgrade changes no field that Kubernetes refuses to change: neither between releases, nor by ordinary values."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helm_chart import CHART, MATRIX, Manifest, rendered, values_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "helm_immutable.json"
PROFILES = ("lab", "hybrid", "tenants")


def immutable(manifests: list[Manifest]) -> dict[str, Any]:
    """kind/name → what the API server refuses to change of it once it is there."""
    found: dict[str, Any] = {}
    for each in manifests:
        spec, key = each.get("spec", {}), f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] in ("Deployment", "DaemonSet"):
            found[key] = {"selector": spec["selector"]}
        elif each["kind"] == "StatefulSet":
            names = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")
            found[key] = {name: spec.get(name) for name in names}
        elif each["kind"] == "Service":
            found[key] = {"clusterIP": spec.get("clusterIP", "")}
        elif each["kind"] == "PriorityClass":
            found[key] = {"value": each["value"], "preemptionPolicy": each.get("preemptionPolicy", "")}
    return found


def next_release(folder: Path) -> Path:
    """The chart as its next release will be, as far as version numbers go."""
    shutil.copytree(CHART, folder / "next")
    chart = folder / "next" / "Chart.yaml"
    text, count = re.subn(r"^(version|appVersion): .*$", r"\1: 99.1.0", chart.read_text("utf-8"), flags=re.M)
    assert count == 2
    chart.write_text(text, "utf-8")
    return folder / "next"


@pytest.mark.parametrize("case", MATRIX)
def test_the_next_release_changes_versions_and_nothing_that_is_fixed(case: str, tmp_path: Path) -> None:
    before, after = rendered(values_of(case)), rendered(values_of(case), chart=next_release(tmp_path))
    assert "99.1.0" in json.dumps(after) and before != after
    assert immutable(before) == immutable(after)


def test_ordinary_values_change_nothing_that_is_fixed() -> None:
    changes = {
        "image.tag": "9.9.9",
        "broker.image": "docker.io/library/nats:9.9.9",
        "broker.jetstream.maxFile": "4GB",
        "worker.settings": {"threads": 7},
        "worker.podAnnotations": {"a": "b"},
        "gateway.service.type": "LoadBalancer",
        "tenants.more": {},
        "workerPools.more": {},
        "monitoring.monitors": True,
        "logJson": False,
    }
    arguments = [part for key, value in changes.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
    before = immutable(rendered(values_of("lab")))
    after = immutable(rendered([*values_of("lab"), *arguments]))
    assert {key: after.get(key) for key in before} == before
    assert set(after) - set(before) == {
        "Deployment/splitmesh-cloud-more", "Deployment/splitmesh-gateway-more", "Service/splitmesh-gateway-more",
    }  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_fixed_is_what_it_was_in_the_first_release(profile: str) -> None:
    """The file holds what clusters have. If this fails, the change needs a way for them, not another file."""
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert immutable(rendered(values_of(profile))) == golden[profile]


def test_the_comparison_sees_each_kind_of_change() -> None:
    manifests = rendered(values_of("hybrid"))
    paths = {
        "StatefulSet": ("spec", "volumeClaimTemplates", 0, "spec", "accessModes"),
        "Deployment": ("spec", "selector", "matchLabels"),
        "PriorityClass": ("value",),
    }
    for kind, path in paths.items():
        changed = json.loads(json.dumps(manifests))
        target = next(each for each in changed if each["kind"] == kind)
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = "something else"
        assert immutable(changed) != immutable(manifests), kind
