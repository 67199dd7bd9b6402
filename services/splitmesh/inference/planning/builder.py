"""Owns making a plan folder (cuts, parts, parity, times, codecs, tracking decay). Reuses one that still holds."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from splitmesh.codec.registry import FEATURE_CODECS, PICTURE_CODECS
from splitmesh.errors import FrameShapeError, ModelError
from splitmesh.frames.answer import Answer
from splitmesh.inference.planning.measure import Bench, Part, Rgb, made_up_pictures
from splitmesh.inference.profile import Timing
from splitmesh.inference.providers import describe_device, select
from splitmesh.inference.session import open_session
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.bundle.old_draft import BundleDraft, anchors_bytes, locked
from splitmesh.plan.bundle.old_read import (
    Bundle,
    CutEntry,
    DroppedCut,
    PlanKey,
    file_sha256,
    manifest_json,
    read_bundle,
)
from splitmesh.plan.calibrate import (
    KAPPA_PRIOR,
    CodecRow,
    ModelTimes,
    TrackSample,
    fit_track_kappa,
    operating_points,
    tracking_samples,
)
from splitmesh.plan.cuts.choose import CHOSEN, shortlist
from splitmesh.plan.cuts.cut import Cut
from splitmesh.plan.cuts.extract import split_model
from splitmesh.plan.cuts.frontiers import survey
from splitmesh.plan.graph.view import GraphView, load_graph, pin_input
from splitmesh.plan.manifest import Manifest, check_signature
from splitmesh.plan.thumbnail import luma_thumbnail

_log = logging.getLogger(__name__)

T = TypeVar("T")

Progress = Callable[[str, float], None]
"""Told the stage ("cuts", "reference", "parity", "profile", "calibrate", "track", "write") and the share of all work
that is done, [0, 1]; a plan that is used again reports ("reuse", 1.0) only."""

PARITY_FRAMES = 16
CALIBRATION_FRAMES = 24
TRACK_FRAMES = 64
CALIBRATION_BUDGET_MS = 25_000.0


def ensure_plan(
    model_path: str | Path,
    manifest: Manifest,
    frames: Sequence[Rgb],
    out: Path,
    *,
    threads: int = 1,
    progress: Progress,
    anchors: npt.NDArray[np.float32] | None = None,
    providers: Sequence[str] = ("auto",),
    frame_interval_ms: float = 1000.0 / 30.0,
) -> Bundle:
    """Build the plan of a model at `out`, or open the one that is there if it still holds.

    frames: consecutive pictures at model input size, (H, W, 3) uint8 RGB, `frame_interval_ms` apart. At least 16
    are needed for full trust, 24 … 64 are used. With no frames the bundle holds the cuts and their parts only
    (checked on made-up pictures): what a worker needs. Such a caller takes any bundle of the same model, whatever
    device and threads measured it; a caller with frames needs device, threads and codecs to match too.
    Which cuts are chosen, and their names, follow from the model file alone.

    Raises ModelError (model, manifest, or no usable cut), FrameShapeError (a frame), OutputError (`out`).
    Two processes that want the same folder wait for each other.
    """
    model_file, target = Path(model_path), Path(out)
    for rgb in frames:
        if rgb.shape != (manifest.height, manifest.width, 3) or rgb.dtype != np.uint8:
            raise FrameShapeError(
                f"calibration frame is {rgb.shape} {rgb.dtype}, {manifest.name} takes "
                f"({manifest.height}, {manifest.width}, 3) uint8"
            )
    key = PlanKey(
        model_sha256=file_sha256(model_file),
        manifest_sha256=hashlib.sha256(manifest_json(manifest)).hexdigest(),
        anchors_sha256="" if anchors is None else hashlib.sha256(anchors_bytes(anchors)).hexdigest(),
        codecs={**FEATURE_CODECS, **PICTURE_CODECS},
        device=describe_device(select(providers)[0]),
        threads=threads,
    )
    known = _reusable(target, key, parts_only=not frames)
    if known is not None:
        progress("reuse", 1.0)
        return known
    with locked(target):
        known = _reusable(target, key, parts_only=not frames)
        if known is not None:
            progress("reuse", 1.0)
            return known
        builder = _Builder(model_file, manifest, anchors, key, tuple(providers), progress)
        return builder.build(list(frames), target, int(frame_interval_ms * 1e6))


def _reusable(out: Path, key: PlanKey, *, parts_only: bool) -> Bundle | None:
    if not (out / "plan.json").exists():
        return None
    try:
        bundle = read_bundle(out)
    except ModelError as exc:
        _log.warning("plan %s is built again: %s", out, exc)
        return None
    if parts_only and bundle.plan.key.parts_match(key):
        return bundle
    if bundle.plan.key == key and bundle.plan.calibrated:
        return bundle
    mine, found = key.model_dump(), bundle.plan.key.model_dump()
    changed = [name for name in mine if mine[name] != found[name]] or ["no calibration"]
    _log.info("plan %s is built again: %s changed", out, ", ".join(changed))
    return None


@dataclass(frozen=True)
class _Builder:
    model_file: Path
    manifest: Manifest
    anchors: npt.NDArray[np.float32] | None
    key: PlanKey
    providers: tuple[str, ...]
    progress: Progress

    def build(self, frames: list[Rgb], out: Path, interval_ns: int) -> Bundle:
        self.progress("cuts", 0.0)
        model = load_graph(str(self.model_file))
        pin_input(model, self.manifest.input, (1, 3, self.manifest.height, self.manifest.width))
        candidates = shortlist(survey(GraphView(model)).candidates, CHOSEN)
        with BundleDraft(out) as draft:
            full_path = draft.add_model(self.model_file.read_bytes(), self.manifest, self.anchors)
            full = open_session(full_path, threads=self.key.threads, providers=self.providers)
            check_signature(
                self.manifest,
                {name: shape for name, (shape, _) in full.inputs.items()},
                {name: shape for name, (shape, _) in full.outputs.items()},
            )
            bench = Bench(self.manifest, full, build_postprocess(self.manifest, self.anchors))
            kept, dropped = self._parts(draft, bench, model, candidates, frames)
            if not kept:
                reasons = "; ".join(f"{d.name}: {d.reason}" for d in dropped) or "its graph has no legal cut"
                _log.warning("model %s is never split: %s", self.model_file, reasons)
            facts = (
                self._calibrated(bench, [part for part, _ in kept], frames, interval_ns)
                if frames
                else _uncalibrated()
            )
            self.progress("write", 0.98)
            bundle = draft.publish(
                {
                    "key": self.key,
                    "provider": full.provider,
                    "cuts": tuple(_entry(part.cut, error) for part, error in kept),
                    "dropped": tuple(dropped),
                    **facts,
                }
            )
        self.progress("write", 1.0)
        return bundle

    def _parts(
        self, draft: BundleDraft, bench: Bench, model: ModelProto, cuts: Sequence[Cut], frames: Sequence[Rgb]
    ) -> tuple[list[tuple[Part, float]], list[DroppedCut]]:
        """Extract each cut, load both halves, hold them against the whole model."""
        kept: list[tuple[Part, float]] = []
        dropped: list[DroppedCut] = []
        cases = bench.cases(_evenly(frames, PARITY_FRAMES) if frames else made_up_pictures(self.manifest))
        for index, cut in enumerate(cuts):
            self.progress("parity", 0.02 + 0.18 * index / len(cuts))
            try:
                head, tail = draft.add_cut(cut.name, *split_model(model, cut))
                part = Part(
                    cut,
                    open_session(head, threads=self.key.threads, providers=self.providers),
                    open_session(tail, threads=self.key.threads, providers=self.providers),
                )
                error, reason = bench.parity(part, cases)
            except ModelError as exc:
                error, reason = float("inf"), str(exc)
            if reason:
                _log.warning("cut %s of %s is dropped: %s", cut.name, self.manifest.name, reason)
                draft.drop_cut(cut.name)
                dropped.append(DroppedCut(name=cut.name, reason=reason))
            else:
                kept.append((part, error))
        return kept, dropped

    def _calibrated(
        self, bench: Bench, parts: Sequence[Part], frames: Sequence[Rgb], interval_ns: int
    ) -> dict[str, object]:
        """Everything that is measured with real frames."""
        if len(frames) < PARITY_FRAMES:
            _log.warning(
                "only %d calibration frames: fidelities are rough, give at least %d", len(frames), PARITY_FRAMES
            )
        self.progress("profile", 0.2)
        times = bench.times(parts, frames[len(frames) // 2])
        row_of_frames = list(frames[:TRACK_FRAMES])
        answers = bench.reference(row_of_frames, lambda done: self.progress("reference", 0.3 + 0.1 * done))
        count = _affordable(times, parts)
        chosen = _evenly(range(len(row_of_frames)), count)
        some = [row_of_frames[i] for i in chosen]
        wanted = [answers[i] for i in chosen]
        rows: list[CodecRow] = []
        stages = len(parts) + 1
        for stage, part in enumerate([*parts, None]):
            start = 0.4 + 0.5 * stage / stages

            def step(done: float, start: float = start) -> None:
                self.progress("calibrate", start + 0.5 * done / stages)

            measured = bench.cut_rows(part, some, wanted, step) if part else bench.picture_rows(some, wanted, step)
            rows.extend(measured.rows)
            times.update(measured.timings)
        self.progress("track", 0.92)
        samples = self._track(answers, row_of_frames, interval_ns)
        return {
            "calibrated": True,
            "frames": len(some),
            "points": operating_points(rows, _model_times(times, parts)),
            "track_kappa": fit_track_kappa(samples),
            "track_samples": len(samples),
            "profile": {name: value.to_json() for name, value in times.items()},
            "calibration": tuple(asdict(row) for row in rows),
        }

    def _track(self, answers: Sequence[Answer], frames: Sequence[Rgb], interval_ns: int) -> list[TrackSample]:
        lumas = [luma_thumbnail(rgb) for rgb in frames]
        kind = self.manifest.postprocess.kind
        return tracking_samples(answers, lumas, interval_ns=interval_ns, kind=kind)


def _uncalibrated() -> dict[str, object]:
    return {
        "calibrated": False,
        "frames": 0,
        "points": (),
        "track_kappa": KAPPA_PRIOR,
        "track_samples": 0,
        "profile": {},
        "calibration": (),
    }


def _entry(cut: Cut, error: float) -> CutEntry:
    return CutEntry(
        name=cut.name,
        tensors=tuple(cut.shapes),
        shapes=tuple(cut.shapes.values()),
        elements=cut.elements,
        node_index=cut.node_index,
        head_share=round(cut.head_share, 6),
        parity_error=error,
    )


def _model_times(times: dict[str, Timing], parts: Sequence[Part]) -> ModelTimes:
    names = [part.cut.name for part in parts]
    return ModelTimes(
        full_ms=times["full"].p50_ms,
        head_ms={name: times[f"head {name}"].p50_ms for name in names},
        tail_ms={name: times[f"tail {name}"].p50_ms for name in names},
    )


def _affordable(times: dict[str, Timing], parts: Sequence[Part]) -> int:
    """How many frames the calibration of all codecs may take, 8 … 24: slow models get fewer."""
    levels = max(len(levels) for levels in FEATURE_CODECS.values())
    per_frame = sum(len(levels) for levels in PICTURE_CODECS.values()) * times["full"].p50_ms
    for part in parts:
        per_frame += times[f"head {part.cut.name}"].p50_ms + levels * times[f"tail {part.cut.name}"].p50_ms
    return max(8, min(CALIBRATION_FRAMES, int(CALIBRATION_BUDGET_MS / max(per_frame, 1.0))))


def _evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` items, spread evenly, in order."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
