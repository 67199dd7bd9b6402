"""Plans as edge and worker get them: what each may use, what each must not need, and what is measured only once."""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import plan_folders
import plan_graphs
import pytest

from splitmesh.errors import ModelError
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.lab.display import Display
from splitmesh.lab.stages import gather
from splitmesh.plan.bundle.read import read_bundle
from splitmesh.plan.footage import Footage
from splitmesh.plan.manifest_toml import manifest_toml
from splitmesh.provision.parts import log_stages, provide_parts
from splitmesh.provision.plan import provide_plan
from splitmesh.settings.model import LabSettings


class Seen:
    def __init__(self) -> None:
        self.stages: list[str] = []

    def __call__(self, stage: str, _share: float) -> None:
        if stage not in self.stages:
            self.stages.append(stage)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    model = plan_graphs.save(plan_graphs.residual_classifier(), folder / "model.onnx")
    request = PlanRequest(model, plan_graphs.classifier_manifest())
    return make_plan(request, Footage(), folder / "tiny.plan", lambda *_: None).folder


@pytest.fixture(scope="module")
def measured_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated plan with the profile of another device only."""
    bundle = plan_folders.publish(tmp_path_factory.mktemp("plan") / "tiny.plan")
    plan_folders.put_profile(bundle, "elsewhere")
    return bundle.folder


def given(plan: Path, **changes: Any) -> dict[str, Any]:
    return {"model": "unused", "manifest": None, "plan": plan, "threads": 1, "progress": Seen(), **changes}


def test_a_worker_takes_a_plan_without_calibration_and_an_edge_refuses_it(parts: Path) -> None:
    assert provide_parts(**given(parts)).cuts
    with pytest.raises(ModelError, match="parts only") as refusal:
        provide_plan(**given(parts), source="unused.mp4")
    assert "splitmesh plan" in refusal.value.advice


def test_a_lab_refuses_a_plan_of_another_model(measured_elsewhere: Path) -> None:
    settings = LabSettings(plan=measured_elsewhere, source="unused.mp4")
    with pytest.raises(ModelError, match="another model than coco-ssdlite"):
        gather(settings, Display(quiet=True, stream=io.StringIO()))


def test_a_worker_without_a_plan_makes_the_parts_of_a_file_once(tmp_path: Path) -> None:
    model = plan_graphs.save(plan_graphs.residual_classifier(), tmp_path / "model.onnx")
    manifest = tmp_path / "model.toml"
    manifest.write_text(manifest_toml(plan_graphs.classifier_manifest()))
    first, second = Seen(), Seen()
    wanted = {"model": str(model), "manifest": manifest, "plan": None, "threads": 1}
    bundle = provide_parts(**wanted, progress=first)
    assert bundle.cuts and not bundle.plan.calibrated and "parity" in first.stages
    assert provide_parts(**{**wanted, "threads": 2}, progress=second) == bundle
    assert second.stages == ["reuse"]
    with (bundle.folder / "parts" / "full.onnx").open("ab") as file:
        file.write(b"x")
    third = Seen()
    assert provide_parts(**wanted, progress=third).plan == bundle.plan and "parity" in third.stages


def test_times_of_a_new_device_are_measured_once_and_kept_in_the_plan(
    measured_elsewhere: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(measured_elsewhere, tmp_path / "copy.plan"))
    first = given(folder)
    bundle = provide_plan(**first, source="unused.mp4")
    assert first["progress"].stages == ["profile"]
    assert bundle.threads == 1 and bundle.device != plan_folders.DEVICE
    names = [point.name for point in bundle.points]
    assert {"local", "track"} < set(names) and any(name.startswith("split/") for name in names)
    assert len(list((folder / "profiles").iterdir())) == 2
    second = given(folder)
    assert provide_plan(**second, source="unused.mp4").points == bundle.points
    assert second["progress"].stages == []
    other = given(folder, threads=2)
    assert provide_plan(**other, source="unused.mp4").threads == 2 and other["progress"].stages == ["profile"]
    assert len(read_bundle(folder).profiles) == 3


def test_times_go_to_the_cache_where_the_plan_can_not_be_written(measured_elsewhere: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(measured_elsewhere, tmp_path / "copy.plan"))
    shutil.rmtree(folder / "profiles")
    (folder / "profiles").write_text("no folder can be made here")
    first, second = given(folder), given(folder)
    bundle = provide_plan(**first, source="unused.mp4")
    assert bundle.points and first["progress"].stages == ["profile"]
    assert provide_plan(**second, source="unused.mp4").points == bundle.points
    assert second["progress"].stages == []
    (kept,) = (tmp_path / "cache" / "profiles").rglob("*.json")
    kept.write_text("{}")
    third = given(folder)
    assert provide_plan(**third, source="unused.mp4").points and third["progress"].stages == ["profile"]


def test_a_damaged_profile_is_said_aloud(
    measured_elsewhere: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(measured_elsewhere, tmp_path / "copy.plan"))
    (folder / "profiles" / "torn.json").write_text("{")
    with caplog.at_level(logging.WARNING, "splitmesh"):
        assert provide_plan(**given(folder), source="unused.mp4").points
    assert "torn.json" in caplog.text


def test_a_worker_needs_no_video_decoder() -> None:
    code = "import sys; import splitmesh.cloud.command; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_each_stage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    report = log_stages()
    with caplog.at_level(logging.INFO, "splitmesh"):
        for stage, share in (("cuts", 0.0), ("parity", 0.1), ("cuts", 1.0), ("parity", 0.2), ("write", 1.0)):
            report(stage, share)
    assert [record.getMessage().split()[2] for record in caplog.records] == ["cuts", "parity", "write"]
