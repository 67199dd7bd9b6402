"""An edge's plan without one at hand: made on the source, used again while all of it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cloud_rig import classifier_manifest, residual_classifier, save

from splitmesh.media.clip import write_test_clip
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Clip, Footage
from splitmesh.plan.graph.load import model_sha256
from splitmesh.plan.manifest_toml import manifest_toml
from splitmesh.provision import plan as provision
from splitmesh.provision.plan import edge_plan, provide_plan

pytestmark = pytest.mark.slow


class Seen:
    def __init__(self) -> None:
        self.stages: list[str] = []

    def __call__(self, stage: str, _share: float) -> None:
        if stage not in self.stages:
            self.stages.append(stage)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(manifest_toml(classifier_manifest()))
    return save(residual_classifier(), tmp_path / "tiny.onnx")


def provided(model: Path, source: Path | str, threads: int = 1) -> tuple[Bundle, list[str]]:
    seen = Seen()
    bundle = provide_plan(
        model=str(model), manifest=None, plan=None, source=str(source), threads=threads, progress=seen
    )
    return bundle, seen.stages


def test_a_plan_is_made_on_the_source_and_used_again_while_model_manifest_and_clip_are_the_same(
    model: Path, tmp_path: Path
) -> None:
    clip = write_test_clip(tmp_path / "one.mp4")
    first, stages = provided(model, clip)
    assert "calibrate" in stages and first.plan.calibrated and first.plan.key.footage_sha256
    assert {"local", "track"} < {point.name for point in first.points}
    again, stages = provided(model, clip)
    assert stages == ["frames", "reuse"] and again.points == first.points
    two, stages = provided(model, clip, threads=2)
    assert stages == ["frames", "reuse", "profile"] and two.plan == first.plan and two.threads == 2
    (tmp_path / "tiny.toml").write_text(manifest_toml(classifier_manifest(fit="letterbox")))
    assert "calibrate" in provided(model, clip)[1]
    other = write_test_clip(tmp_path / "two.mp4", seed=5)
    assert "calibrate" in provided(model, other)[1]


def test_a_live_source_is_calibrated_on_once_although_its_pictures_differ(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera itself is stood in for: what counts is that other pictures under the same address are no reason."""
    shown: list[int] = []

    def camera(*_: object) -> Footage:
        shown.append(len(shown))
        pictures = np.random.default_rng(len(shown)).integers(0, 255, (8, 48, 48, 3)).astype(np.uint8)
        return Footage((Clip(tuple(pictures), 100.0),))

    monkeypatch.setattr(provision, "read_footage", camera)
    resolved = ResolvedModel(model, classifier_manifest(), None, model_sha256(model), "", "")
    made = [edge_plan(resolved, "rtsp://camera/1", threads=1, progress=Seen()) for _ in range(2)]
    assert made[0].plan == made[1].plan and shown == [0]
    edge_plan(resolved, "rtsp://camera/2", threads=1, progress=Seen())
    assert shown == [0, 1]
