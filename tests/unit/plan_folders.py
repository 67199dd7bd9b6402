"""Plan folders for tests, without a planner: real parts of a small model, made-up figures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from onnx import ModelProto
from plan_graphs import SIZE, classifier_manifest, residual_classifier

from splitmesh.plan.bundle.draft import BundleDraft, add_profile
from splitmesh.plan.bundle.format import manifest_json
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import PartTiming, ProfileFile
from splitmesh.plan.cuts.cut import Crossing, Cut
from splitmesh.plan.cuts.extract import split_model

SHAPES = {"block0": (1, 8, SIZE // 4, SIZE // 4), "block1": (1, 12, SIZE // 8, SIZE // 8)}
DEVICE = "cpu/x86_64/test processor/2"


def cut(tensor: str) -> Cut:
    """Of `residual_classifier`, at the end of a block."""
    shape = SHAPES[tensor]
    elements = shape[1] * shape[2] * shape[3]
    name = f"{tensor}-{'x'.join(map(str, shape[1:]))}"
    return Cut(name, (Crossing(tensor, shape, "float32", shape, tensor),), elements, 5)


def facts(**changes: Any) -> dict[str, Any]:
    """Every field of a plan file but `files`, two cuts and a row of each kind."""
    cuts = [cut(tensor) for tensor in SHAPES]
    model = residual_classifier().SerializeToString(deterministic=True)
    return {
        "key": {
            "model_sha256": hashlib.sha256(model).hexdigest(),
            "manifest_sha256": hashlib.sha256(manifest_json(classifier_manifest())).hexdigest(),
            "codecs": {"u8zstd": (8, 4), "jpeg": (85,)},
            "footage_sha256": "0" * 64,
        },
        "tools": {"splitmesh": "0", "onnx": "1"},
        "notes": ("the model's input was guessed",),
        "calibrated": True,
        "frames": {"parity": 16, "fit": 8, "evaluate": 24},
        "nodes": 20,
        "frontiers": 19,
        "batchable": True,
        "deterministic": True,
        "cuts": tuple(
            {
                "name": each.name,
                "tensors": [
                    {"name": t.name, "wire": t.wire, "shape": t.shape, "dtype": t.dtype} for t in each.tensors
                ],
                "elements": each.elements,
                "node_index": each.node_index,
                "head_share": 0.1,
                "parity_max_rel": 1.5e-7,
                "deterministic": True,
                "batchable": True,
            }
            for each, (tensor, shape) in zip(cuts, SHAPES.items(), strict=True)
        ),
        "rejected": ({"name": "n1-8x24x24", "stage": "graph", "reason": "too large"},),
        "rows": (
            *(row(each.name, "u8zstd", level, 1000.0 * level) for each in cuts for level in (8, 4)),
            row("", "jpeg", 85, 9000.0),
        ),
        "track_kappa": 41.25,
        "track_samples": 120,
        "strip": {"ops": ("Conv", "Relu"), "elements": (10, 5), "shares": (0.5, 1.0), "index": (0, 1)},
        **changes,
    }


def row(cut: str, codec: str, level: int, size: float, fidelity: float = 0.97, variant: str = "") -> dict[str, Any]:
    return {
        "cut": cut,
        "codec": codec,
        "level": level,
        "variant": variant,
        "bytes_mean": size,
        "bytes_p95": size * 1.1,
        "fidelity": fidelity,
        "agreement": fidelity,
        "metrics": {"top1": fidelity},
        "bins": ({"objects": "any", "motion": "still", "frames": 24, "fidelity": fidelity},),
    }


def publish(out: Path, *, variants: dict[str, ModelProto] | None = None, **changes: Any) -> Bundle:
    """A whole plan folder at `out`, without a profile. variants: file name in `parts/` → model."""
    with BundleDraft(out) as draft:
        draft.add_manifest(classifier_manifest(), None)
        model = residual_classifier()
        draft.add_full(model)
        for tensor in SHAPES:
            draft.add_cut(cut(tensor).name, *split_model(model, cut(tensor)))
        for name, variant in (variants or {}).items():
            draft.add_variant(name, variant)
        return draft.publish(facts(**changes))


def times(**changes: float) -> dict[str, PartTiming]:
    """Of `facts`; changes by part name, "_" for a space."""
    parts = {"full": 20.0, "encode frame/jpeg-85": 0.5, "decode frame/jpeg-85": 0.4}
    for head_ms, each in zip((5.0, 12.0), map(cut, SHAPES), strict=True):
        parts |= {f"head {each.name}": head_ms, f"tail {each.name}": 20.0 - head_ms}
        for level in (8, 4):
            point = f"split/{each.name}/u8zstd-{level}"
            parts |= {f"encode {point}": 0.6, f"decode {point}": 0.3}
    parts |= changes
    return {name: PartTiming(p50_ms=ms, p95_ms=ms * 1.2, runs=15) for name, ms in parts.items()}


def profile(bundle: Bundle, name: str = "laptop", **changes: Any) -> ProfileFile:
    fields = {
        "plan_sha256": bundle.plan_sha256,
        "device_class": name,
        "device": DEVICE,
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "tools": {"onnxruntime": "1"},
        "times": times(),
        **changes,
    }
    return ProfileFile.model_validate(fields)


def put_profile(bundle: Bundle, name: str = "laptop", **changes: Any) -> Path:
    return add_profile(bundle.folder, profile(bundle, name, **changes))
