"""What differs between two plans, and that nothing that differs goes unsaid."""

from __future__ import annotations

import json

import plan_values
import pytest

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import FrameCounts, PlanFile, RejectedCut
from splitmesh.plan.report.diff import compare


def with_manifest(bundle: Bundle, **changes: object) -> Bundle:
    return Bundle(
        bundle.folder,
        bundle.manifest.model_copy(update=changes),
        bundle.plan,
        bundle.plan_sha256,
        bundle.profiles,
        {},
        bundle.profile,
    )


def test_a_plan_is_the_same_as_itself() -> None:
    found = compare(plan_values.bundle(), plan_values.bundle())
    assert found.same and found.same_plan and not found.facts and not found.profiles
    assert {pair.state for pair in (*found.cuts, *found.points)} == {"same"}
    assert json.loads(json.dumps(found.to_json()))["same"] is True


def test_other_times_are_another_profile_of_the_same_plan() -> None:
    plan = plan_values.plan()
    found = compare(plan_values.bundle(plan), plan_values.bundle(plan, plan_values.profile(plan, factor=1.3)))
    assert found.same_plan and not found.same and not found.facts
    assert [change.what for change in found.profiles] == ["box"]
    assert "whole model 21.40 ms" in found.profiles[0].a and "whole model 27.82 ms" in found.profiles[0].b
    local = next(pair for pair in found.points if pair.name == "local")
    assert local.state == "changed" and local.a and local.b and local.b["edge_ms"] == pytest.approx(139.1)


def test_profiles_of_one_side_only_are_named_and_a_shared_class_is_compared() -> None:
    plan = plan_values.plan()
    one = plan_values.bundle(plan, plan_values.profile(plan, "fast", factor=0.1), plan_values.profile(plan))
    other = plan_values.bundle(plan)
    found = compare(one, other)
    assert [(c.what, c.a is None, c.b is None) for c in found.profiles] == [("fast", False, True)]
    assert {pair.state for pair in found.points} == {"same"}


def test_cuts_and_points_are_added_removed_and_changed() -> None:
    plan = plan_values.plan()
    rows = tuple(row for row in plan.rows if row.cut != "n20-32x38x38")
    moved = plan.cuts[0].model_copy(update={"parity_max_rel": 9e-6})
    fewer = plan_values.plan(cuts=(moved, *plan.cuts[2:]), rows=rows)
    found = compare(plan_values.bundle(plan), plan_values.bundle(fewer))
    states = {pair.name: pair.state for pair in found.cuts}
    assert states["n20-32x38x38"] == "removed" and states["n9-24x75x75"] == "changed"
    assert states["n37-64x19x19-2t"] == "same"
    back = compare(plan_values.bundle(fewer), plan_values.bundle(plan))
    assert next(pair for pair in back.cuts if pair.name == "n20-32x38x38").state == "added"
    gone = {pair.name for pair in found.points if pair.state == "removed"}
    assert any(name.startswith("split/n20-32x38x38/") for name in gone)
    measured = next(change for change in found.facts if change.what == "rows measured")
    assert (measured.a, measured.b) == ("51 rows", "41 rows, 10 differ")


KEY = plan_values.plan().key


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"key": KEY.model_copy(update={"model_sha256": "9" * 64})}, "model_sha256"),
        ({"key": KEY.model_copy(update={"footage_sha256": ""})}, "footage_sha256"),
        ({"key": KEY.model_copy(update={"options": ""})}, "options"),
        ({"key": KEY.model_copy(update={"codecs": {"jpeg": (95,)}})}, "codecs"),
        ({"tools": {"onnx": "2"}}, "tools.onnx"),
        ({"notes": ()}, "notes"),
        ({"calibrated": False}, "calibrated"),
        ({"frames": FrameCounts(parity=3)}, "frames.evaluate"),
        ({"nodes": 1}, "nodes"),
        ({"frontiers": 1}, "frontiers"),
        ({"batchable": False}, "batchable"),
        ({"deterministic": False}, "deterministic"),
        ({"rejected": (RejectedCut(name="n1", stage="graph", reason="x"),)}, "rejected.n1"),
        ({"rows": ()}, "rows measured"),
        ({"track_kappa": 1.0}, "track_kappa"),
        ({"track_samples": 1}, "track_samples"),
        ({"strip": plan_values.strip(9)}, "strip"),
        ({"files": {"parts/full.onnx": "0" * 64}}, "file parts/full.onnx"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_whatever_differs_is_said(changes: dict[str, object], what: str) -> None:
    found = compare(plan_values.bundle(), plan_values.bundle(plan_values.plan(**changes)))
    assert not found.same and not found.same_plan
    assert what in [change.what for change in found.facts]


def test_the_table_above_leaves_out_no_field_of_a_plan() -> None:
    tried = {"key", "tools", "notes", "calibrated", "frames", "nodes", "frontiers", "batchable", "deterministic",
             "rejected", "rows", "track_kappa", "track_samples", "strip", "files", "cuts"}  # fmt: skip
    assert tried == PlanFile.model_fields.keys()


def test_a_manifest_that_reads_the_model_otherwise_is_named_by_key() -> None:
    one = plan_values.bundle()
    other = with_manifest(one, color="BGR", scale=(1.0, 1.0, 1.0))
    found = compare(one, other)
    assert [change.what for change in found.facts] == ["manifest.color", "manifest.scale"]
    assert not found.same
