"""Plans made by hand, every field set: what reports are drawn from where no model need run."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from plan_graphs import classifier_manifest

from splitmesh.plan.bundle.draft import BundleDraft, add_profile
from splitmesh.plan.bundle.format import FULL, local_file, part_file, plan_bytes, table_file
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.bundle.schema import (
    CutEntry,
    FidelityBin,
    FrameCounts,
    PartTiming,
    PlanFile,
    PlanKey,
    ProfileFile,
    RateRow,
    RejectedCut,
    Strip,
    TensorEntry,
)
from splitmesh.plan.manifest import Manifest

LEVELS = {"u8lz4": (8, 6, 5, 4, 3), "u8zstd": (8, 6, 5, 4, 3), "jpeg": (95, 85, 70, 50, 30)}
CUTS = (("n9-24x75x75", 9, 135_000, 0.12), ("n20-32x38x38", 20, 46_208, 0.27), ("n37-64x19x19-2t", 37, 23_104, 0.52),
        ("m48-96x19x19-0a1b2c3d", 50, 34_656, 0.74))  # fmt: skip
WITH_TABLE = "n37-64x19x19-2t"
FULL_MS = 21.4


def manifest() -> Manifest:
    return classifier_manifest(name="made-up", width=300, height=300)


def strip(nodes: int = 104) -> Strip:
    """A funnel with humps, like a detector's; sizes of the last few nodes are not known."""
    elements = [int(300_000 * math.exp(-3.5 * i / nodes) * (1.6 if i % 3 == 1 else 1.0)) for i in range(nodes)]
    shares = [round(1 - (1 - (i + 1) / nodes) ** 1.6, 6) for i in range(nodes)]
    known = nodes - 4
    return Strip(
        ops=tuple(("Conv", "Clip", "Add")[i % 3] for i in range(nodes)),
        elements=(*elements[:known], *([0] * (nodes - known))),
        shares=tuple(shares),
        index=tuple(range(nodes)),
    )


def cut_entry(name: str, node_index: int, elements: int, share: float) -> CutEntry:
    shape = (1, elements // 361, 19, 19)
    tensors = (TensorEntry(name=f"Relu<{node_index}>", wire=f"Relu<{node_index}>", shape=shape, dtype="float32"),)
    if name.endswith("-2t"):
        tensors += (TensorEntry(name="skip & more", wire="skip & more.wire", shape=(1, 8), dtype="float16"),)
    return CutEntry(name=name, tensors=tensors, elements=elements, node_index=node_index, head_share=share,
                    parity_max_rel=2.4e-6, deterministic=True, batchable=node_index != 50,
                    table_id="34" * 32 if name == WITH_TABLE else "")  # fmt: skip


def row(cut: str, codec: str, level: int, mean: float, fidelity: float, variant: str = "") -> RateRow:
    content = (
        ("0", "still", 5, 0.0),
        ("1-3", "still", 8, 0.01),
        ("1-3", "moving", 6, 0.03),
        ("4+", "moving", 5, 0.08),
    )
    bins = tuple(
        FidelityBin(objects=objects, motion=motion, frames=frames, fidelity=max(0.0, fidelity - loss))
        for objects, motion, frames, loss in content
    )
    metrics = {"map50": round(fidelity * 0.99, 4), "f1": round(fidelity, 4)}
    return RateRow(cut=cut, codec=codec, level=level, variant=variant, bytes_mean=mean, bytes_p95=mean * 1.2,
                   fidelity=fidelity, agreement=round(fidelity - 0.004, 4), metrics=metrics, bins=bins)  # fmt: skip


def rows() -> tuple[RateRow, ...]:
    found = []
    for index, (cut, _, elements, _) in enumerate(CUTS):
        for codec, denser in (("u8lz4", 1.0), ("u8zstd", 0.8)):
            for rank, level in enumerate(LEVELS[codec]):
                fidelity = round(0.997 - 0.006 * rank**2 - 0.004 * index, 4)
                found.append(row(cut, codec, level, 0.62 * denser * elements * level / 8, fidelity))
    found += [row("", "jpeg", level, 21_000 * level / 100, round(0.985 - 0.06 * rank, 4))
              for rank, level in enumerate(LEVELS["jpeg"])]  # fmt: skip
    found += [row("n9-24x75x75", "u8zstd", level, 17_000.0 * level, 0.95, "int8") for level in (8, 5)]
    found += [row(WITH_TABLE, "temporal", level, 11.0 * level, 0.96).model_copy(update={"key_bytes": 60.0 * level})
              for level in (80, 96)]  # fmt: skip
    found += [row("", "", 0, 0.0, 0.93, "int8"), row("", "", 0, 0.0, 0.81, "small")]
    return tuple(found)


def rejected() -> tuple[RejectedCut, ...]:
    graph = [RejectedCut(name=f"n{i}…n{i + 4}", stage="graph", reason=f"{i % 5 + 2} live tensors; 4 <can't> cross")
             for i in range(60, 100, 6)]  # fmt: skip
    return (
        *graph,
        RejectedCut(name="n2-32x150x150", stage="graph", reason="167 % larger than the picture"),
        RejectedCut(name="n44-96x19x19", stage="parity", reason="tail after head differs by 3.1e-02 on frame 4"),
        RejectedCut(name="n29-64x19x19", stage="screen", reason="keeps only 0.31 of the answers"),
        RejectedCut(name="n33-64x19x19", stage="pareto", reason="n37-64x19x19-2t, as early, sends no more"),
    )


def plan(**changes: object) -> PlanFile:
    """Every field set to something that is not its default."""
    key = PlanKey(model_sha256="ab" * 32, manifest_sha256="cd" * 32, anchors_sha256="ef" * 32, codecs=LEVELS,
                  footage_sha256="12" * 32, options="int8")  # fmt: skip
    names = [FULL, "parts/weights.bin", "manifest.json", "anchors.npy", "small.json"]
    names += [local_file("int8"), local_file("small")]
    names += [part_file(cut, part) for cut, *_ in CUTS for part in ("head", "tail")]
    names += [part_file("n9-24x75x75", "head", "int8"), table_file(WITH_TABLE)]
    facts: dict[str, object] = {
        "key": key,
        "tools": {"splitmesh": "0.1.0", "onnx": "1.20.0", "onnxruntime": "1.23.2", "numpy": "2.3.5"},
        "notes": ("guessed: pixels are scaled to <0, 1>", 'guessed: output "boxes" holds x y w h'),
        "calibrated": True,
        "frames": FrameCounts(parity=16, fit=21, evaluate=24),
        "nodes": 131,
        "frontiers": 104,
        "batchable": True,
        "deterministic": True,
        "cuts": tuple(cut_entry(*facts) for facts in CUTS),
        "rejected": rejected(),
        "rows": rows(),
        "track_kappa": 52.7,
        "track_samples": 233,
        "strip": strip(),
        "files": {name: hashlib.sha256(name.encode()).hexdigest() for name in sorted(names)},
        **changes,
    }
    return PlanFile.model_validate(facts)


def profile(of: PlanFile, device_class: str = "box", *, factor: float = 1.0, **changes: object) -> ProfileFile:
    times = {"full": FULL_MS, "full int8": 9.1, "full small": 4.2, "head n9-24x75x75 int8": 1.1}
    for cut, _, _, share in CUTS:
        times |= {f"head {cut}": FULL_MS * share, f"tail {cut}": FULL_MS * (1.02 - share), f"tail {cut} b4": 60.0}
    for each in of.rows:
        if each.codec:
            times |= {f"encode {each.point}": 0.4 + each.bytes_mean / 2e5, f"decode {each.point}": 0.3}
    facts: dict[str, object] = {
        "plan_sha256": hashlib.sha256(plan_bytes(of)).hexdigest(),
        "device_class": device_class,
        "device": "Some & Any CPU, 4 cores",
        "provider": "CPUExecutionProvider",
        "threads": 2,
        "tools": {"onnxruntime": "1.23.2"},
        "edge_slowdown": 5.0,
        "times": {
            name: PartTiming(p50_ms=ms * factor, p95_ms=ms * factor * 1.15, runs=20, energy_mj=12.5 * ms)
            for name, ms in times.items()
        },
        **changes,
    }
    return ProfileFile.model_validate(facts)


def bundle(of: PlanFile | None = None, *profiles: ProfileFile) -> Bundle:
    """A plan as a value, its first profile selected. Its folder does not exist."""
    of = of or plan()
    given = profiles or (profile(of),)
    sha256 = hashlib.sha256(plan_bytes(of)).hexdigest()
    return Bundle(Path("made-up.plan"), manifest(), of, sha256, {p.device_class: p for p in given}, {}, given[0])


def write_bundle(folder: Path, of: PlanFile | None = None, device_classes: tuple[str, ...] = ("box",)) -> Bundle:
    """A plan folder that reads back; what it calls models are none, and have no weights."""
    of = of or plan()
    with BundleDraft(folder) as draft:
        draft.add_manifest(manifest(), None)
        for name in of.files:
            if name not in ("manifest.json", "parts/weights.bin"):
                draft.add(name, name.encode())
        facts = {name: getattr(of, name) for name in PlanFile.model_fields if name != "files"}
        written = draft.publish(facts)
    for device_class in device_classes:
        add_profile(folder, profile(written.plan, device_class))
    return read_bundle(folder).select()
