"""A plan as JSON: the keys that programs may rely on, and figures that agree with the plan."""

from __future__ import annotations

import json
import re
from pathlib import Path

import plan_values
import pytest

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.report.document import document

CUT_KEYS = {"id", "tensors", "elements", "edge_ms", "cloud_ms", "parity_max_rel", "batchable"}
POINT_KEYS = {
    "id", "place", "cut", "codec", "level", "bytes_mean", "bytes_p95", "fidelity",
    "edge_ms", "encode_ms", "decode_ms", "cloud_ms",
}  # fmt: skip


def test_the_promised_keys_are_there_and_are_json() -> None:
    row = json.loads(json.dumps(document(plan_values.bundle()), allow_nan=False))
    assert row["model"]["sha256"] == "ab" * 32
    assert {"name", "nodes", "frontiers", "batchable", "deterministic"} <= row["model"].keys()
    assert len(row["cuts"]) == 4 and all(cut.keys() >= CUT_KEYS for cut in row["cuts"])
    assert all(t.keys() == {"name", "shape", "dtype"} for cut in row["cuts"] for t in cut["tensors"])
    assert row["operating_points"] and all(point.keys() >= POINT_KEYS for point in row["operating_points"])
    assert row["frames"] == {"parity": 16, "fit": 21, "evaluate": 24, "sha256": "12" * 32}
    assert row["notes"] and row["tools"]["onnx"] == "1.20.0"
    assert {(r["id"], r["stage"]) for r in row["rejected"]} >= {("n44-96x19x19", "parity"), ("n60…n64", "graph")}
    assert row["profile"]["device_class"] == "box" and row["profile"]["times"]["full"]["energy_mj"] > 0


def test_cuts_are_in_the_order_of_the_graph_with_the_edge_stretched_and_the_cloud_not() -> None:
    cuts = document(plan_values.bundle())["cuts"]
    assert [cut["id"] for cut in cuts] == [name for name, *_ in plan_values.CUTS]
    third = cuts[2]
    assert third["edge_ms"] == pytest.approx(5 * plan_values.FULL_MS * 0.52)
    assert third["cloud_ms"] == pytest.approx(plan_values.FULL_MS * 0.5)
    assert third["head_share"] == pytest.approx(0.52 / 1.02, abs=1e-4)
    assert third["tensors"][1] == {"name": "skip & more", "shape": [1, 8], "dtype": "float16"}


def test_points_carry_what_their_row_measured() -> None:
    bundle = plan_values.bundle()
    points = {point["id"]: point for point in document(bundle)["operating_points"]}
    assert points.keys() == {point.name for point in bundle.points} - {"track"}
    for row in bundle.plan.rows:
        if point := points.get(row.point):
            assert point["fidelity"] == row.fidelity and point["metrics"] == row.metrics
            assert point["bytes_mean"] == pytest.approx(row.bytes_mean, abs=0.05)
            assert point["bytes_p95"] == pytest.approx(row.bytes_p95, abs=0.05)
            assert [each["frames"] for each in point["bins"]] == [5, 8, 6, 5]
    assert (points["local/int8"]["variant"], points["local/int8"]["place"]) == ("int8", "local")
    local = points["local"]
    assert (local["edge_ms"], local["bytes_mean"], local["fidelity"]) == (pytest.approx(107.0), 0.0, 1.0)
    assert points["frame/jpeg-95"]["cloud_ms"] == pytest.approx(plan_values.FULL_MS)


def test_a_plan_without_times_has_no_points_and_null_times() -> None:
    plan = plan_values.plan()
    row = document(Bundle(plan_values.bundle().folder, plan_values.manifest(), plan, "0" * 64))
    assert row["operating_points"] == [] and row["profile"] == {} and row["device_classes"] == []
    assert row["cuts"][0]["edge_ms"] is None and row["cuts"][0]["cloud_ms"] is None
    assert row["cuts"][0]["head_share"] == 0.12


def test_the_documents_name_keys_that_are_there() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text(encoding="utf-8")
    table = text[text.index("**For programs**") : text.index("Times on the edge, encoding included")]
    row = document(plan_values.bundle())
    entries = {"cuts": row["cuts"][0], "operating_points": row["operating_points"][0], "rejected": row["rejected"][0],
               "model": row["model"]}  # fmt: skip
    named = {}
    for keys, holds in re.findall(r"^\| (`.+`) \| (.+) \|$", table, re.MULTILINE):
        for key in re.findall(r"`(\w+)(?:\[\])?`", keys):
            assert key in row, key
            named[key] = set(re.findall(r"`(\w+)(?:\[\])?`", holds))
    for key, entry in entries.items():
        assert named[key] and named[key] - {"name", "shape", "dtype"} <= entry.keys(), key
