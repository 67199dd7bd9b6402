"""What is committed of the three profiles is what the chart makes of them, and the pictures show it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from helm_chart import BIN, named
from tools import chart_picture, chart_profiles


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    if not (BIN / "helm").exists():
        pytest.skip("needs the environment .venv-deploy: make images-lint")
    return {str(path.relative_to(chart_profiles.ROOT)): text for path, text in chart_profiles.expected().items()}


def test_manifests_and_pictures_follow_from_the_chart(files: dict[str, str]) -> None:
    different = [path for path, text in files.items() if (chart_profiles.ROOT / path).read_text("utf-8") != text]
    assert len(files) == 6 and different == [], "make chart-files"


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ("lab", ["splitmesh-edge-lab", "on every node", "edge + leaf broker", "splitmesh-broker", "1 replicas"]),
        ("hybrid", ["runtime nvidia", "2 to 8 replicas, by predicted wait", "1 to 20 replicas, by predicted wait"]),
        ("tenants", ["tenants gates, lab, yard", "tls://broker.example.org:4222", "tenant yard", "edge"]),
    ],
)
def test_a_picture_says_what_the_manifests_say(files: dict[str, str], profile: str, expected: list[str]) -> None:
    root = ElementTree.fromstring(files[f"docs/images/topology-{profile}.svg"])
    shown = [text for text in root.itertext() if text.strip()]
    assert set(expected) <= set(shown)
    manifests = chart_profiles.manifests_of(files[f"deploy/helm/rendered/{profile}.yaml"])
    running = {
        each["metadata"]["name"] for each in manifests if each["kind"] in ("Deployment", "DaemonSet", "StatefulSet")
    }
    assert running <= set(shown)


def test_boxes_of_a_column_do_not_overlap(files: dict[str, str]) -> None:
    for profile in chart_profiles.PROFILES:
        root = ElementTree.fromstring(files[f"docs/images/topology-{profile}.svg"])
        boxes = [{key: int(value) for key, value in each.attrib.items() if value.isdigit()}
                 for each in root.iter() if each.get("class") == "box"]  # fmt: skip
        for one in boxes:
            for other in boxes:
                if one is not other and one["x"] == other["x"]:
                    assert one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]


def test_a_worker_that_is_taken_away_is_taken_out_of_the_picture(files: dict[str, str]) -> None:
    manifests = chart_profiles.manifests_of(files["deploy/helm/rendered/hybrid.yaml"])
    gpu = named(manifests, "Deployment", "splitmesh-cloud-gpu")
    without = chart_picture.picture("x", [each for each in manifests if each is not gpu])
    assert "splitmesh-cloud-gpu" not in without and "splitmesh-cloud-cpu" in without
