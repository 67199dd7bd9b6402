"""Plans as edge and worker get them: what each may use, and what each must not need."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import plan_graphs
import pytest

from splitmesh.errors import ModelError
from splitmesh.inference.planning.builder import ensure_plan
from splitmesh.provision.parts import log_stages, provide_parts
from splitmesh.provision.plan import provide_plan


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    model = plan_graphs.save(plan_graphs.residual_classifier(), folder / "model.onnx")
    manifest = plan_graphs.classifier_manifest()
    return ensure_plan(model, manifest, [], folder / "tiny.plan", progress=lambda *_: None).folder


def test_a_worker_takes_a_plan_without_calibration_and_an_edge_refuses_it(parts: Path) -> None:
    wanted = {"model": "unused", "manifest": None, "plan": parts, "threads": 1, "progress": log_stages()}
    assert provide_parts(**wanted).cuts
    with pytest.raises(ModelError, match="parts only") as refusal:
        provide_plan(**wanted, source="unused.mp4")
    assert "splitmesh plan build" in refusal.value.advice


def test_a_worker_needs_no_video_decoder() -> None:
    code = "import sys; import splitmesh.cloud.command; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_each_stage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    report = log_stages()
    with caplog.at_level(logging.INFO, "splitmesh"):
        for stage, share in (("cuts", 0.0), ("parity", 0.1), ("parity", 0.2), ("write", 1.0)):
            report(stage, share)
    assert [record.getMessage().split()[2] for record in caplog.records] == ["cuts", "parity", "write"]
