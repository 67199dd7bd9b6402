"""Plans with quantised and smaller models of real networks, and edges that run them."""

from __future__ import annotations

from pathlib import Path

import pytest
from mesh_run import NOWHERE, node, until

from splitmesh.bus.server import EmbeddedServer
from splitmesh.frames.outcome import Outcome
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest, SmallModel
from splitmesh.plan.bundle.draft import add_profile
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Clip, Footage
from splitmesh.policy.point import OperatingPoint
from splitmesh.provision.footage import read_footage
from splitmesh.provision.model import provide_model

SHARED = Path(__file__).parents[3] / "shared"
DETECTOR = SHARED / "models" / "yolox_nano.onnx"
STREET = SHARED / "media" / "vtest.avi"
PICTURES = 24
FASTER = 0.5

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the shared models and clips in {SHARED}"),
]


def made_faster(bundle: Bundle, variant: str) -> Bundle:
    """The plan as it would be on a device on which each part of `variant` takes half the time of what it replaces."""
    assert bundle.profile is not None
    times = dict(bundle.profile.times)
    for name in [name for name in times if name.endswith(f" {variant}")]:
        plain = times[name.removesuffix(f" {variant}")]
        times[name] = times[name].model_copy(update={"p50_ms": FASTER * plain.p50_ms})
    profile = bundle.profile.model_copy(update={"times": times})
    add_profile(bundle.folder, profile)
    return bundle.with_profile(profile)


def named(bundle: Bundle, variant: str) -> dict[str, OperatingPoint]:
    return {point.name: point for point in bundle.points if point.variant == variant}


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The built-in detector with its int8 forms, and another detector beside it, whose manifest is guessed."""
    model, small = provide_model("coco-ssdlite"), provide_model(DETECTOR)
    video = read_footage([str(STREET)], [], model.manifest, lambda *_: None).clips[0]
    few = Footage((Clip(video.pictures[:PICTURES], video.interval_ms),))
    beside = SmallModel(small.path, small.manifest, small.anchors)
    request = PlanRequest(model.path, model.manifest, model.anchors, int8=True, small=beside)
    return make_plan(request, few, tmp_path_factory.mktemp("varied") / "varied.plan", lambda *_: None)


def test_a_quantised_model_is_offered_where_it_is_faster(varied: Bundle) -> None:
    row = next(row for row in varied.plan.rows if row.point == "local/int8")
    assert 0.85 <= row.fidelity < 1.0 and row.metrics["f1"] >= 0.85
    assert varied.profile is not None
    times = {name: timing.p50_ms for name, timing in varied.profile.times.items()}
    assert ("local/int8" in named(varied, "int8")) == (1.1 * times["full int8"] <= times["full"])
    point = named(made_faster(varied, "int8"), "int8")["local/int8"]
    assert point.fidelity == row.fidelity and point.edge_ms == FASTER * times["full"]


async def test_an_edge_runs_the_quantised_model(varied: Bundle, tmp_path: Path) -> None:
    bundle = made_faster(varied, "int8")
    settings = {"source": str(STREET), "plan": bundle.folder, "loop": True, "deadline_ms": 1000, "nats_url": NOWHERE}
    async with node("edge", tmp_path / "edge", **settings, policy="static:local/int8") as edge:
        await until(lambda: edge.outcomes().count(Outcome.LOCAL) >= 10)
        assert await edge.stop() == 0, edge.log
    records = edge.frame_records()
    assert {record.point for record in records} <= {"local/int8", "track", ""}
    answered = [record for record in records if record.outcome is Outcome.LOCAL]
    assert all(record.point == "local/int8" and len(record.answer) for record in answered)


async def test_a_quantised_head_and_the_worker_s_tail_answer_together(
    varied: Bundle, broker: EmbeddedServer, tmp_path: Path
) -> None:
    bundle = made_faster(varied, "int8")
    name = next(name for name in named(bundle, "int8") if name.startswith("split/"))
    settings = {"source": str(STREET), "plan": bundle.folder, "loop": True, "deadline_ms": 1000}
    async with (
        node("cloud", tmp_path / "cloud", plan=bundle.folder, name="w-1", nats_url=broker.url),
        node("edge", tmp_path / "edge", **settings, nats_url=broker.url, policy=f"static:{name}") as edge,
    ):
        await edge.offloads(5)
        assert await edge.stop() == 0, edge.log
    split = [record for record in edge.frame_records() if record.outcome is Outcome.SPLIT]
    assert split and all(record.point == name and len(record.answer) for record in split)


def test_a_smaller_detector_is_measured_against_the_larger_one(varied: Bundle) -> None:
    row = next(row for row in varied.plan.rows if row.point == "local/small")
    assert 0.5 < row.agreement < 1.0 and row.metrics.keys() == {"map50", "f1"}
    assert any(part.objects != "0" for part in row.bins)
    assert varied.profile is not None and "full small" in varied.profile.times


async def test_an_edge_runs_the_smaller_model_and_answers_in_the_larger_one_s_classes(
    varied: Bundle, tmp_path: Path
) -> None:
    bundle = made_faster(varied, "small")
    assert "local/small" in named(bundle, "small")
    settings = {"source": str(STREET), "plan": bundle.folder, "loop": True, "deadline_ms": 1000, "nats_url": NOWHERE}
    async with node("edge", tmp_path / "edge", **settings, policy="static:local/small") as edge:
        await until(lambda: edge.outcomes().count(Outcome.LOCAL) >= 10)
        assert await edge.stop() == 0, edge.log
    answers = [record.answer for record in edge.frame_records() if record.outcome is Outcome.LOCAL]
    found = {varied.manifest.label(int(index)) for answer in answers for index in answer.classes}
    assert "person" in found and "background" not in found, "each model counts its classes in its own way"
