"""Owns a plan as JSON, for programs: `splitmesh plan --json` and `plan show --json`. Keys are a promise."""

from __future__ import annotations

from typing import Any

from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import CutEntry
from splitmesh.plan.report.figures import CutFigures, cut_figures, kept_points, rows_by_point
from splitmesh.policy.point import OperatingPoint

_DIGITS = 4


def document(bundle: Bundle) -> dict[str, Any]:
    """Plain JSON values. Times are median milliseconds with the selected profile; the edge's are stretched by its
    slowdown; null where there is no profile. Bytes are those of a payload, 0 for what runs on the edge alone."""
    plan, key = bundle.plan, bundle.plan.key
    return {
        "model": {
            "name": bundle.manifest.name,
            "sha256": bundle.sha256,
            "kind": bundle.manifest.postprocess.kind,
            "nodes": plan.nodes,
            "frontiers": plan.frontiers,
            "batchable": plan.batchable,
            "deterministic": plan.deterministic,
        },
        "manifest": bundle.manifest.model_dump(mode="json", exclude={"labels"}),
        "calibrated": plan.calibrated,
        "frames": {**plan.frames.model_dump(), "sha256": key.footage_sha256},
        "notes": list(plan.notes),
        "cuts": [_cut(figures) for figures in cut_figures(bundle)],
        "operating_points": [_point(bundle, point) for point in kept_points(bundle)],
        "rejected": [{"id": cut.name, "stage": cut.stage, "reason": cut.reason} for cut in plan.rejected],
        "track": {"kappa": bundle.track_kappa, "samples": plan.track_samples},
        "profile": bundle.profile.model_dump(mode="json") if bundle.profile else {},
        "device_classes": sorted(bundle.profiles),
        "tools": dict(sorted(plan.tools.items())),
        "format": key.format,
        "revision": key.revision,
    }


def _cut(figures: CutFigures) -> dict[str, Any]:
    entry: CutEntry = figures.entry
    return {
        "id": entry.name,
        "tensors": [{"name": t.name, "shape": list(t.shape), "dtype": t.dtype} for t in entry.tensors],
        "elements": entry.elements,
        "node_index": entry.node_index,
        "head_share": entry.head_share if figures.share is None else round(figures.share, _DIGITS),
        "edge_ms": None if figures.edge is None else round(figures.edge.p50_ms, _DIGITS),
        "cloud_ms": None if figures.cloud is None else round(figures.cloud.p50_ms, _DIGITS),
        "parity_max_rel": entry.parity_max_rel,
        "batchable": entry.batchable,
        "deterministic": entry.deterministic,
        "table_id": entry.table_id,
    }


def _point(bundle: Bundle, point: OperatingPoint) -> dict[str, Any]:
    row = rows_by_point(bundle.plan).get(point.name)
    return {
        "id": point.name,
        "place": point.place.value,
        "cut": point.cut,
        "codec": point.codec,
        "level": point.level,
        "variant": point.variant,
        "bytes_mean": round(point.payload_bytes, 1),
        "bytes_p95": round(row.bytes_p95, 1) if row else 0.0,
        "key_bytes": round(point.key_bytes, 1),
        "fidelity": point.fidelity,
        "edge_ms": round(point.edge_ms, _DIGITS),
        "encode_ms": round(point.encode_ms, _DIGITS),
        "decode_ms": round(point.decode_ms, _DIGITS),
        "cloud_ms": round(point.cloud_ms, _DIGITS),
        "resume_ms": round(point.resume_ms, _DIGITS),
        "metrics": dict(row.metrics) if row else {},
        "bins": [each.model_dump() for each in row.bins] if row else [],
    }
