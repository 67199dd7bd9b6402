"""Owns an edge's plan: that of a model, calibrated on the video to come. Built once, then cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.errors import ModelError, SourceError
from splitmesh.inference.planning.builder import TRACK_FRAMES, ensure_plan
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.bundle.old_read import Bundle, file_sha256, read_bundle
from splitmesh.plan.manifest import Manifest
from splitmesh.provision.model import provide_model
from splitmesh.provision.parts import Progress, cached_folder

_OPEN_S = 20.0
_FRAME_S = 20.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Consecutive pictures of a source at model size, (H, W, 3) uint8 RGB."""

    pictures: list[npt.NDArray[np.uint8]]
    interval_ms: float


def provide_plan(
    *,
    model: str,
    manifest: Path | None,
    plan: Path | None,
    source: str,
    threads: int,
    providers: Sequence[str] = ("auto",),
    progress: Progress,
) -> Bundle:
    """The plan in folder `plan` as it is; without one, that of `model`, calibrated on `source`.

    Raises ModelError, SourceError, OutputError.
    """
    if plan is not None:
        return _calibrated(read_bundle(plan))
    resolved = provide_model(model, manifest, progress)
    return calibrated_plan(resolved, source, threads=threads, providers=providers, progress=progress)


def calibrated_plan(
    model: ResolvedModel,
    source: str,
    *,
    threads: int,
    providers: Sequence[str] = ("auto",),
    out: Path | None = None,
    progress: Progress,
) -> Bundle:
    """Build or reuse the plan of `model` at `out` (default: in the cache), calibrated on the beginning of `source`.

    Raises ModelError, SourceError, OutputError.
    """
    progress("reading frames", 0.0)
    found = calibration(source, model.manifest)
    return ensure_plan(
        model.path,
        model.manifest,
        found.pictures,
        out or cached_folder(model, f"{_scene(source)[:10]}-t{threads}"),
        threads=threads,
        providers=providers,
        progress=progress,
        anchors=model.anchors,
        frame_interval_ms=found.interval_ms,
    )


def calibration(source: str, manifest: Manifest) -> Calibration:
    """The first pictures of `source`. Raises SourceError if it can't be opened or brings nothing."""
    preparer = Preparer.from_manifest(manifest)
    pictures: list[npt.NDArray[np.uint8]] = []
    with open_source(source, pace=False, give_up_after_s=_OPEN_S) as video:
        try:
            info = video.wait_opened(_OPEN_S)
            while len(pictures) < TRACK_FRAMES and (captured := video.next(_FRAME_S)) is not None:
                if captured.picture is not None:
                    prepared = preparer.prepare(captured.picture)
                    pictures.append(prepared.rgb.copy())
                    prepared.release()
        except TimeoutError as exc:
            raise SourceError("the source brings no frames", url=source, retryable=True) from exc
    if not pictures:
        raise SourceError("the source has no picture", url=info.url)
    return Calibration(pictures, 1000.0 / info.fps)


def _calibrated(bundle: Bundle) -> Bundle:
    """`bundle`, unless it is a worker's: it has nothing to choose from."""
    if not bundle.plan.calibrated:
        raise ModelError(f"plan {bundle.folder} holds parts only", advice="make one with `splitmesh plan build`")
    return bundle


def _scene(source: str) -> str:
    path = Path(source)
    return file_sha256(path) if path.is_file() else hashlib.sha256(source.encode()).hexdigest()
