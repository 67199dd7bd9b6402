"""The chart renders for every matrix of values what Kubernetes takes, and refuses values that could not work."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helm_chart import (
    BIN,
    CAMERA,
    CHART,
    CUSTOM,
    MATRIX,
    VERSIONS,
    Manifest,
    containers,
    helm,
    named,
    of_kind,
    refusal,
    rendered,
    values_of,
)
from tools import chart_files

from splitmesh.settings.model import SECTIONS
from splitmesh.settings.resolve import resolve

VALIDATE = """
import json, sys, kubernetes_validate
wrong = []
for case, manifests in json.load(sys.stdin).items():
    for manifest in manifests:
        for version in sys.argv[1:]:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as exc:
                name = f"{manifest['kind']} {manifest['metadata']['name']}"
                wrong.append(f"{case} {version} {name}: {exc.message[:300]}")
json.dump(wrong, sys.stdout)
"""


@pytest.fixture(scope="module")
def matrix() -> dict[str, list[Manifest]]:
    return {case: rendered(values_of(case)) for case in MATRIX}


@pytest.mark.parametrize("case", MATRIX)
def test_helm_finds_nothing_to_complain_about(case: str) -> None:
    done = helm("lint", "--strict", str(CHART), *values_of(case))
    assert done.returncode == 0 and "0 chart(s) failed" in done.stdout, done.stdout + done.stderr


def validated(manifests: dict[str, list[Manifest]]) -> list[str]:
    command = [BIN / "python", "-c", VALIDATE, *VERSIONS]
    done = subprocess.run(command, input=json.dumps(manifests), capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_three_versions_of_kubernetes_take_every_manifest(matrix: dict[str, list[Manifest]]) -> None:
    known = {case: [each for each in manifests if each["kind"] not in CUSTOM] for case, manifests in matrix.items()}
    assert sum(map(len, known.values())) > 100
    assert validated(known) == []


def test_a_manifest_with_a_fault_would_be_found(matrix: dict[str, list[Manifest]]) -> None:
    broken = json.loads(json.dumps(named(matrix["lab"], "Deployment", "splitmesh-cloud-default")))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    assert len(validated({"broken": [broken]})) == len(VERSIONS)


def test_names_are_unique_and_short_enough_whatever_the_release_is_called() -> None:
    manifests = rendered(values_of("hybrid"), release="a-release-with-a-rather-long-name-of-52-characters-x")
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(names) == len(set(names))
    assert max(len(name) for _, name in names) <= 63


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown value": ({"wokers": {}}, "wokers"),
    "an unknown setting": ({"worker": {"settings": {"thread": 2}}}, "thread"),
    "a setting that the chart gives": ({"worker": {"settings": {"nats_url": "nats://x"}}}, "nats_url"),
    "a number out of bounds": ({"worker": {"settings": {"threads": 0}}}, "threads"),
    "a kind of scaler that there is not": ({"worker": {"autoscaling": {"kind": "cpu"}}}, "kind"),
    "no scale at all": ({"worker": {"autoscaling": {"minReplicas": 0}}}, "minReplicas"),
    "bounds the wrong way round": (
        {"worker": {"autoscaling": {"kind": "hpa", "minReplicas": 9, "maxReplicas": 3}}},
        "minReplicas is more than maxReplicas",
    ),
    "a password in a source": ({"edgePools": {"a": {"settings": {"source": "rtsp://u:p@camera/1"}}}}, "source"),
    "a password in a node's source": (
        {"edgePools": {"a": {"nodes": {"n1": {"source": "rtsp://u:p@camera/1"}}}}},
        "source",
    ),
    "a login in the broker's URL": ({"broker": {"mode": "external", "external": {"url": "tls://u:p@b:4222"}}}, "url"),
    "an external broker without an address": ({"broker": {"mode": "external"}}, "broker.external.url is needed"),
    "an edge without a camera": ({"edgePools": {"a": {}}}, "edgePools.a needs a camera"),
    "cameras from two places": (
        {"edgePools": {"a": {"nodes": {"n1": {"source": "x"}}, "nodesSecret": "y"}}},
        "nodes and nodesSecret",
    ),
    "an edge of nobody": ({"edgePools": {"a": {**CAMERA, "tenant": "other"}}}, "not among tenants"),
    "a pool for nobody": ({"workerPools": {"a": {"tenants": ["other"]}}}, "not among tenants"),
    "a tenant that no subject can hold": ({"tenants": {"a.b": {}}}, "a.b"),
    "a share above one": ({"tenants": {"a": {"quota": {"share": 2}}}}, "share"),
    "the tag latest": ({"image": {"tag": "latest"}}, "tag"),
    "the broker's tag latest": ({"broker": {"image": "nats:latest"}}, "image"),
    "a broker without a tag": ({"broker": {"image": "nats"}}, "image"),
    "no limit of memory": ({"worker": {"resources": {"limits": {"memory": None}}}}, "memory"),
    "two brokers, which never agree": ({"broker": {"replicas": 2}}, "replicas"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_could_not_work_are_refused(case: str) -> None:
    values, expected = REFUSED[case]
    assert expected in refusal(values)


# -- settings -----------------------------------------------------------------------------------------------------

SECTION_OF = {"edge": "edge", "cloud": "cloud", "gateway": "gateway"}


def test_every_variable_is_a_setting_that_there_is_with_a_value_that_it_takes(
    matrix: dict[str, list[Manifest]],
) -> None:
    seen: set[str] = set()
    for manifests in matrix.values():
        for who, container in containers(manifests):
            if container["name"] not in SECTION_OF:
                continue
            given = {each["name"]: each.get("value", "from-the-pod") for each in container["env"]}
            assert len(given) == len(container["env"]), f"{who} sets a variable twice"
            given.pop("SPLITMESH_CONFIG", None)  # a file of the node's own, checked below
            given |= {"SPLITMESH_EDGE_SOURCE": given.get("SPLITMESH_EDGE_SOURCE", "camera")}
            section = SECTION_OF[container["name"]]
            settings = resolve(section, SECTIONS[section], {}, environ=given, cwd=Path("/nonexistent")).settings
            assert settings.nats_url, who  # type: ignore[attr-defined]
            seen |= set(given)
    assert len([name for name in seen if name.startswith("SPLITMESH_")]) > 30


def test_what_a_pool_says_reaches_the_process(matrix: dict[str, list[Manifest]]) -> None:
    given = environment(named(matrix["hybrid"], "DaemonSet", "splitmesh-edge-gates"))
    settings = resolve("edge", SECTIONS["edge"], {"source": "x"}, environ=without_config(given)).settings.model_dump()
    assert settings["deadline_ms"] == 200 and settings["uplink_budget_bps"] == 800_000
    assert settings["providers"] == ("tensorrt", "cuda", "cpu")
    given = environment(named(matrix["tenants"], "Deployment", "splitmesh-cloud-shared"))
    tenants = {each.name: each for each in resolve("cloud", SECTIONS["cloud"], {}, environ=given).settings.tenants}  # type: ignore[attr-defined]
    assert set(tenants) == {"gates", "yard", "lab"}
    assert tenants["yard"].rate_rps == 50 and tenants["yard"].bytes_per_s == 2_000_000
    assert tenants["gates"].weight == 2 and tenants["lab"].concurrency == 8


def environment(manifest: Manifest) -> dict[str, str]:
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each.get("value", "from-the-pod") for each in container["env"]}


def without_config(given: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name != "SPLITMESH_CONFIG"}


def test_false_and_nothing_override_what_pools_have_in_common() -> None:
    values = {"edge": {"settings": {"loop": True, "max_fps": 5}}, "edgePools": {"a": {
        "settings": {"source": "x", "loop": False, "max_fps": 0}, "leaf": {"enabled": False}}}}  # fmt: skip
    arguments = [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
    edge = named(rendered(arguments), "DaemonSet", "splitmesh-edge-a")
    assert environment(edge)["SPLITMESH_EDGE_LOOP"] == "false" and environment(edge)["SPLITMESH_EDGE_MAX_FPS"] == "0"
    assert "initContainers" not in edge["spec"]["template"]["spec"]


def test_the_file_of_each_node_is_one_that_an_edge_takes(matrix: dict[str, list[Manifest]], tmp_path: Path) -> None:
    files = named(matrix["hybrid"], "ConfigMap", "splitmesh-edge-gates-nodes")["data"]
    found = {}
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
        settings = resolve("edge", SECTIONS["edge"], {}, config=tmp_path / name, environ={}).settings
        found[name] = (settings.source, settings.max_fps)  # type: ignore[attr-defined]
    assert found == {
        "jetson-1.site.example.toml": ("/dev/video0", 0.0),
        "jetson-2.site.example.toml": ("rtsp://camera-2.site.example/stream", 15.0),
    }


@pytest.mark.parametrize(
    ("node", "name"),
    [("jetson-1.site.example", "gates-jetson-1-site-example"), ("n" * 63, "gates-" + "n" * 58)],
)
def test_an_edge_is_called_by_pool_and_node(matrix: dict[str, list[Manifest]], node: str, name: str) -> None:
    edge = named(matrix["hybrid"], "DaemonSet", "splitmesh-edge-gates")["spec"]["template"]["spec"]["containers"][0]
    script = edge["args"][0].replace("exec splitmesh edge", 'printf %s "$SPLITMESH_EDGE_NAME"')
    assert script != edge["args"][0]
    done = subprocess.run(["sh", "-c", script], env={"NODE_NAME": node, "PATH": "/usr/bin:/bin"}, capture_output=True)
    assert done.stdout.decode() == name


def test_copies_and_schema_follow_from_their_originals() -> None:
    files = chart_files.expected()
    assert {path.name for path in files} >= {"alerts.yml", "recording.yml", "values.schema.json"}
    different = [path.name for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    assert different == [] and chart_files.strays(files) == []


# -- what is there for what ---------------------------------------------------------------------------------------


def test_workers_scale_by_predicted_wait_and_by_nothing_else(
    matrix: dict[str, list[Manifest]],
) -> None:
    manifests = matrix["hybrid"]
    hpa = named(manifests, "HorizontalPodAutoscaler", "splitmesh-cloud-gpu")["spec"]
    assert hpa["metrics"][0]["pods"]["metric"]["name"] == "splitmesh_predicted_wait_seconds"
    assert hpa["metrics"][0]["pods"]["target"]["averageValue"] == "20m"
    keda = named(manifests, "ScaledObject", "splitmesh-cloud-cpu")["spec"]
    assert keda["triggers"][0]["metadata"]["threshold"] == "0.03"
    assert 'namespace="mesh",pod=~"splitmesh-cloud-cpu-.+"' in keda["triggers"][0]["metadata"]["query"]
    for name, target in (("gpu", hpa), ("cpu", keda)):
        assert target["scaleTargetRef"]["name"] == f"splitmesh-cloud-{name}"
        assert "replicas" not in named(manifests, "Deployment", f"splitmesh-cloud-{name}")["spec"]


def test_alerts_and_dashboards_are_those_of_the_project(matrix: dict[str, list[Manifest]]) -> None:
    rules = named(matrix["hybrid"], "PrometheusRule", "splitmesh")["spec"]["groups"]
    assert {group["name"] for group in rules} == {"splitmesh-alerts", "splitmesh-slo", "splitmesh-load"}
    (alerts,) = [group["rules"] for group in rules if group["name"] == "splitmesh-alerts"]
    assert all("{{ $labels" in each["annotations"]["summary"] or "No worker" in each["annotations"]["summary"]
               for each in alerts)  # fmt: skip


def test_grafana_finds_the_dashboards_as_they_are_committed(matrix: dict[str, list[Manifest]]) -> None:
    found = {}
    for each in of_kind(matrix["hybrid"], "ConfigMap"):
        if each["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= each["data"]
    committed = sorted((CHART.parents[1] / "observability" / "grafana" / "dashboards").glob("*.json"))
    assert found == {f"splitmesh-{path.name}": path.read_text("utf-8") for path in committed} and len(found) == 6


def test_the_jobs_that_monitors_give_are_those_that_alerts_ask_for(matrix: dict[str, list[Manifest]]) -> None:
    monitors = of_kind(matrix["hybrid"], "PodMonitor", "ServiceMonitor")
    jobs = set()
    for monitor in monitors:
        (endpoint,) = monitor["spec"].get("podMetricsEndpoints") or monitor["spec"]["endpoints"]
        jobs |= {each["replacement"] for each in endpoint["relabelings"] if each["targetLabel"] == "job"}
    assert jobs == {"splitmesh-edge", "splitmesh-cloud", "splitmesh-gateway"}
    alerts = (CHART / "files" / "rules" / "alerts.yml").read_text("utf-8")
    assert all(f'job=~".*{job}"' in alerts for job in jobs)


def test_notes_tell_what_was_installed_and_how_to_ask_it(tmp_path: Path) -> None:
    """Helm shows notes only of an installation: here they are rendered as a manifest."""
    shutil.copytree(CHART, tmp_path / "chart")
    notes = (tmp_path / "chart" / "templates" / "NOTES.txt").read_text("utf-8")
    (tmp_path / "chart" / "templates" / "notes.yaml").write_text(
        '{{- define "notes" }}' + notes + '{{ end }}\nkind: Notes\ntext: {{ include "notes" . | toJson }}\n', "utf-8"
    )
    (shown,) = of_kind(rendered(values_of("hybrid"), chart=tmp_path / "chart"), "Notes")
    assert "splitmesh-edge-gates" in shown["text"] and "splitmesh-cloud-gpu" in shown["text"]
    assert "helm test splitmesh --namespace mesh" in shown["text"] and "https://127.0.0.1:9466" in shown["text"]
    assert "--release splitmesh --namespace mesh" in shown["text"]
