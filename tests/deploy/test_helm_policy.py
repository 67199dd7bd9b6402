"""What the chart makes may do little, asks for what it needs, reaches what it must alone, and holds no secret."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from helm_chart import MATRIX, Manifest, containers, named, of_kind, pods, rendered, values_of

CLUSTER_WIDE = {"PriorityClass"}
SECRET_WORDS = re.compile(r"password|secret|token|creds", re.I)


@pytest.fixture(scope="module", params=MATRIX)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return rendered(values_of(request.param))


@pytest.fixture(scope="module")
def hybrid() -> list[Manifest]:
    return rendered(values_of("hybrid"))


def test_nobody_is_root_and_nobody_can_become_it(manifests: list[Manifest]) -> None:
    for who, spec in pods(manifests):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0, who
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, who
        assert not any(spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")), who
    for who, container in containers(manifests):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False and not security.get("privileged"), who
        assert security["readOnlyRootFilesystem"] is True, who
        assert security["capabilities"] == {"drop": ["ALL"]}, who


def test_every_container_has_requests_limits_and_a_pinned_image(manifests: list[Manifest]) -> None:
    for who, container in containers(manifests):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), who
        assert {"cpu", "memory"} <= set(resources["limits"]), who
        assert re.search(r":[^:/]+$", container["image"]) and not container["image"].endswith(":latest"), who


def test_what_may_be_written_is_bounded(manifests: list[Manifest]) -> None:
    for who, spec in pods(manifests):
        for volume in spec["volumes"]:
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"], f"{who} {volume['name']}"
        writable = {mount["mountPath"] for each in spec["containers"] for mount in each["volumeMounts"]
                    if not mount.get("readOnly") and not mount["mountPath"].startswith("/dev/")}  # fmt: skip
        assert writable <= {"/tmp", "/var/lib/splitmesh", "/data"}, who


def test_nobody_may_ask_the_cluster_anything(manifests: list[Manifest]) -> None:
    assert of_kind(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") == []
    for who, spec in pods(manifests):
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False, who
    (account,) = of_kind(manifests, "ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert {spec["serviceAccountName"] for _, spec in pods(manifests)} <= {account["metadata"]["name"]}


def test_secrets_are_named_and_never_written(manifests: list[Manifest]) -> None:
    assert of_kind(manifests, "Secret") == []
    for who, container in containers(manifests):
        for variable in container["env"]:
            if SECRET_WORDS.search(variable["name"]):
                value = variable.get("value", "")
                assert value.startswith("/run/splitmesh/") or re.fullmatch(r'"\$\(\w+\)"', value) or (
                    "secretKeyRef" in variable["valueFrom"]
                ), f"{who} {variable['name']}"  # fmt: skip
    for config in of_kind(manifests, "ConfigMap"):
        for text in config["data"].values():
            assert not re.search(r"password:\s*[^$\s]", text), config["metadata"]["name"]
            assert not re.search(r"://[^/\s$]*:[^/\s$]*@", text), config["metadata"]["name"]


def test_a_pod_mounts_no_login_but_its_own(hybrid: list[Manifest]) -> None:
    tenants = rendered(values_of("tenants"))
    edge = secrets_of(named(tenants, "DaemonSet", "splitmesh-edge-gates"))
    assert edge == {"splitmesh-leaf-gates", "splitmesh-leaf-tls", "cameras-of-gates"}
    yard = secrets_of(named(tenants, "DaemonSet", "splitmesh-edge-yard"))
    assert yard == {"splitmesh-edge-yard", "splitmesh-ca", "cameras-of-yard"}
    worker = secrets_of(named(tenants, "Deployment", "splitmesh-cloud-shared"))
    assert worker == {"splitmesh-worker", "splitmesh-ca"}
    gateway = secrets_of(named(tenants, "Deployment", "splitmesh-gateway-gates"))
    assert gateway == {"splitmesh-gateway-gates", "splitmesh-ca"}
    broker = secrets_of(named(hybrid, "StatefulSet", "splitmesh-broker"))
    assert broker == {"splitmesh-broker-users", "splitmesh-broker-tls"}


def secrets_of(manifest: Manifest) -> set[str]:
    text = json.dumps(manifest)
    return set(re.findall(r'"secretName": "([^"]+)"', text)) | set(
        re.findall(r'"secretKeyRef": \{[^}]*"name": "([^"]+)"', text)
    )


def test_probes_ask_pages_that_processes_have_at_ports_that_they_open(manifests: list[Manifest]) -> None:
    pages = {"/healthz", "/readyz"}
    for who, container in containers(manifests):
        if container["name"] == "test":
            continue
        ports = {port["name"] for port in container["ports"]}
        for kind in ("startupProbe", "livenessProbe"):
            get = container[kind]["httpGet"]
            assert get["port"] in ports and get["path"].partition("?")[0] in pages, who
        if container["name"] in ("edge", "cloud", "gateway"):
            assert container["readinessProbe"]["httpGet"]["path"] == "/readyz", who
            patience_s = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
            assert patience_s >= 300, f"{who} is killed while it fetches a model"


def test_a_pod_has_the_time_that_its_process_takes_to_leave(manifests: list[Manifest]) -> None:
    for who, spec in pods(manifests):
        for container in spec["containers"]:
            given = {each["name"]: each.get("value", "") for each in container["env"]}
            drain_s = [float(value) for name, value in given.items() if name.endswith("_DRAIN_S")]
            if drain_s:
                stop_s = 5 if "lifecycle" in container else 0
                assert spec["terminationGracePeriodSeconds"] >= drain_s[0] + stop_s + 5, who


def test_drain_moves_the_grace_period() -> None:
    manifests = rendered(["--set-json", 'worker.settings={"drain_s": 90.5}'])
    spec = named(manifests, "Deployment", "splitmesh-cloud-default")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 101


def test_replicas_are_spread_and_never_all_evicted_at_once(hybrid: list[Manifest]) -> None:
    for each in of_kind(hybrid, "Deployment", "StatefulSet"):
        labels = each["spec"]["selector"]["matchLabels"]
        spread = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert {rule["topologyKey"] for rule in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(rule["labelSelector"]["matchLabels"] == labels for rule in spread)
        budgets = [budget for budget in of_kind(hybrid, "PodDisruptionBudget")
                   if budget["spec"]["selector"]["matchLabels"] == labels]  # fmt: skip
        assert [budget["spec"]["maxUnavailable"] for budget in budgets] == [1], each["metadata"]["name"]


def test_selectors_select_their_own_pods_and_no_others(manifests: list[Manifest]) -> None:
    makers = of_kind(manifests, "Deployment", "DaemonSet", "StatefulSet")
    for each in makers:
        wanted = each["spec"]["selector"]["matchLabels"]
        selected = [other["metadata"]["name"] for other in makers
                    if wanted.items() <= other["spec"]["template"]["metadata"]["labels"].items()]  # fmt: skip
        assert selected == [each["metadata"]["name"]]


# -- who may talk to whom -----------------------------------------------------------------------------------------


def allowed(manifests: list[Manifest], source: str, target: str, port: str) -> bool:
    """True if policies of both ends let pods of component `source` connect to `port` of component `target`."""
    policies = {
        each["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: each["spec"]
        for each in of_kind(manifests, "NetworkPolicy")
    }
    out = any(_opens(rule, "to", target, port) for rule in policies[source].get("egress", ()))
    return out and any(_opens(rule, "from", source, port) for rule in policies[target].get("ingress", ()))


def _opens(rule: dict[str, Any], side: str, component: str, port: str) -> bool:
    peers = rule.get(side)
    reaches = peers is None or any(
        peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component") == component
        for peer in peers
    )
    return reaches and port in {each["port"] for each in rule.get("ports", [{"port": port}])}


@pytest.mark.parametrize(
    ("source", "target", "port", "expected"),
    [
        ("edge", "broker", "leafnodes", True),
        ("edge", "broker", "client", True),
        ("cloud", "broker", "client", True),
        ("gateway", "broker", "client", True),
        ("test", "broker", "client", True),
        ("broker", "broker", "cluster", True),
        ("cloud", "broker", "leafnodes", False),
        ("cloud", "broker", "cluster", False),
        ("edge", "broker", "monitor", False),
        ("edge", "cloud", "http", False),
        ("cloud", "gateway", "http", False),
        ("gateway", "edge", "http", False),
        ("broker", "cloud", "http", False),
    ],
)
def test_pods_reach_what_they_need_and_nothing_else(
    hybrid: list[Manifest], source: str, target: str, port: str, expected: bool
) -> None:
    assert allowed(hybrid, source, target, port) is expected


def test_every_pod_is_under_a_policy_that_closes_both_ways(manifests: list[Manifest]) -> None:
    policies = of_kind(manifests, "NetworkPolicy")
    if not policies:
        pytest.skip("policies are turned off in this case")
    assert all(set(each["spec"]["policyTypes"]) == {"Ingress", "Egress"} for each in policies)
    for each in of_kind(manifests, "Deployment", "DaemonSet", "StatefulSet"):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert any(policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items() for policy in policies)


def test_only_what_must_be_is_outside_of_the_namespace(manifests: list[Manifest]) -> None:
    assert {each["kind"] for each in manifests if each["kind"].startswith("Cluster")} == set()
    for each in of_kind(manifests, *CLUSTER_WIDE):
        assert each["globalDefault"] is False
