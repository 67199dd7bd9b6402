"""The plan that ships with the default model: fresh, whole, and quick to become a plan folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from splitmesh.errors import ModelError
from splitmesh.inference.planning.request import plan_key
from splitmesh.inference.session import open_session
from splitmesh.models.catalogue import read_catalogue, shipped_bytes
from splitmesh.models.registry import ResolvedModel, resolve_model
from splitmesh.plan.bundle.format import plan_json
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import PlanFile
from splitmesh.plan.footage import Footage
from splitmesh.provision import shipped
from splitmesh.provision.parts import plan_request, provide_parts
from splitmesh.provision.pictures import picture_kinds
from splitmesh.provision.shipped import read_shipped, shipped_plan

AGAIN = "the shipped plan is stale: run `make ship-plan`"


class Seen:
    def __init__(self) -> None:
        self.stages: list[str] = []

    def __call__(self, stage: str, _share: float) -> None:
        self.stages.append(stage)


@pytest.fixture(scope="module")
def model() -> ResolvedModel:
    return resolve_model(read_catalogue().default_model)


@pytest.fixture(scope="module")
def built(model: ResolvedModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        seen = Seen()
        bundle = shipped_plan(model, threads=1, providers=("cpu",), progress=seen)
    assert bundle is not None, AGAIN
    return bundle, seen.stages


def known() -> list[PlanFile]:
    found = [read_shipped(row.sha256) for row in read_catalogue().model if row.plan]
    return [plan for plan in found if plan is not None]


def test_the_default_model_ships_one() -> None:
    default = read_catalogue().find_model(read_catalogue().default_model)
    assert default.plan and read_shipped(default.sha256) is not None
    assert read_shipped("0" * 64) is None


@pytest.mark.parametrize("row", [row for row in read_catalogue().model if row.plan], ids=lambda row: row.name)
def test_it_is_of_this_model_manifest_codecs_and_revision(row: object) -> None:
    resolved = resolve_model(row.name)  # type: ignore[attr-defined]
    plan = read_shipped(resolved.sha256)
    assert plan is not None and plan.files == {} and plan.calibrated, AGAIN
    wanted = plan_key(plan_request(resolved, threads=1, providers=("cpu",), pictures=picture_kinds()), Footage())
    assert plan.key.model_copy(update={"footage_sha256": ""}) == wanted, AGAIN
    assert plan.key.footage_sha256 and plan.frames.parity >= 16 and plan.frames.evaluate >= 16
    assert 1 <= len(plan.cuts) <= 4 and all(cut.parity_max_rel <= 1e-4 for cut in plan.cuts)
    assert {row.cut for row in plan.rows} == {cut.name for cut in plan.cuts} | {""}
    assert max(row.fidelity for row in plan.rows) > 0.97 and plan.track_samples > 50


def test_the_file_is_what_the_tool_would_write() -> None:
    for row in (row for row in read_catalogue().model if row.plan):
        data = shipped_bytes(row.plan)
        plan = read_shipped(row.sha256)
        assert plan is not None and data == plan_json(plan) + b"\n"
        assert b"/" + b"tmp" not in data


def test_its_tables_are_those_of_its_best_cuts_and_small(built: tuple[Bundle, list[str]]) -> None:
    bundle = built[0]
    with_table = {cut.name for cut in bundle.cuts if cut.table_id}
    assert with_table == {row.cut for row in bundle.plan.rows if row.codec in ("compact", "temporal")}, AGAIN
    tables = [table for name in with_table if (table := bundle.table(name)) is not None]
    assert len(tables) == len(with_table) >= 1
    assert sum(len(table.to_bytes()) for table in tables) <= 200_000
    assert all(table.temporal_model is not None for table in tables)


def test_its_cuts_come_out_of_the_graph_again_and_run(built: tuple[Bundle, list[str]]) -> None:
    bundle, stages = built
    assert "calibrate" not in stages and "profile" not in stages
    assert bundle.profile is None and bundle.plan.rows
    size = (1, 3, bundle.manifest.height, bundle.manifest.width)
    given = {bundle.manifest.input: np.random.default_rng(0).uniform(-1, 1, size).astype(np.float32)}
    whole = open_session(bundle.full_path).run(given)
    for cut in bundle.cuts:
        between = open_session(bundle.head_path(cut.name)).run(given)
        assert {name: value.shape for name, value in between.items()} == cut.shapes
        for name, value in open_session(bundle.tail_path(cut.name)).run(between).items():
            np.testing.assert_allclose(value, whole[name], rtol=1e-3, atol=1e-3)


def test_a_second_start_uses_the_folder_again(
    built: tuple[Bundle, list[str]], model: ResolvedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = built[0]
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(bundle.folder.parent.parent))
    seen = Seen()
    again = shipped_plan(model, threads=3, providers=("cpu",), progress=seen)
    assert again == bundle and seen.stages == ["reuse"]


def test_a_worker_without_a_plan_holds_every_shipped_cut(
    built: tuple[Bundle, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path))
    name = read_catalogue().default_model
    parts = provide_parts(model=name, manifest=None, plan=None, threads=1, providers=("cpu",), progress=Seen())
    held = {cut.name: cut.shapes for cut in parts.cuts}
    assert all(held.get(cut.name) == cut.shapes for cut in built[0].cuts)
    assert parts.sha256 == built[0].sha256 and not parts.plan.calibrated


def test_another_manifest_or_a_plan_that_no_longer_fits_ships_nothing(
    model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITMESH_CACHE_DIR", str(tmp_path))
    other = ResolvedModel(
        model.path,
        model.manifest.model_copy(update={"fit": "letterbox"}),
        model.anchors,
        model.sha256,
        model.licence,
        model.source,
    )
    assert shipped_plan(other, threads=1, progress=Seen()) is None
    plan = read_shipped(model.sha256)
    assert plan is not None
    moved = plan.cuts[0].model_copy(update={"name": "n1-moved"})
    rows = tuple(row for row in plan.rows if row.cut != plan.cuts[0].name)
    stale = plan.model_copy(update={"cuts": (moved, *plan.cuts[1:]), "rows": rows})
    monkeypatch.setattr(shipped, "shipped_bytes", lambda _name: plan_json(stale))
    assert shipped_plan(model, threads=1, progress=Seen()) is None
    assert not list((tmp_path / "plans").glob("*.plan"))
    fields = json.loads(plan_json(plan))
    fields["key"]["revision"] = 1
    monkeypatch.setattr(shipped, "shipped_bytes", lambda _name: json.dumps(fields).encode())
    with pytest.raises(ModelError, match="revision 1"):
        read_shipped(model.sha256)
