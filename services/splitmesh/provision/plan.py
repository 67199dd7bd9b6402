"""Owns getting a plan ready from what the settings name: model, source, plan folder. Built once, then cached."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.errors import SourceError
from splitmesh.inference.planner import TRACK_FRAMES, ensure_plan
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.fetch import default_cache
from splitmesh.models.registry import ResolvedModel, resolve_model
from splitmesh.plan.bundle import Bundle, file_sha256, read_bundle
from splitmesh.plan.manifest import Manifest

Progress = Callable[[str, float], None]

_OPEN_S = 20.0
_FRAME_S = 20.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Consecutive pictures of a source at model size, (H, W, 3) uint8 RGB."""

    pictures: list[npt.NDArray[np.uint8]]
    interval_ms: float
    live: bool


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
    """The plan in folder `plan` as it is; without one, that of `model` calibrated on `source`, from the cache.

    Raises ModelError, SourceError, OutputError.
    """
    if plan is not None:
        return read_bundle(plan)
    resolved = resolve_model(model, manifest, progress=progress)
    return calibrated_plan(resolved, source, threads=threads, providers=providers, progress=progress)


def calibrated_plan(
    model: ResolvedModel,
    source: str,
    *,
    threads: int,
    providers: Sequence[str] = ("auto",),
    progress: Progress,
) -> Bundle:
    """Build or reuse the cached plan of `model`, calibrated on the first pictures of `source`."""
    found = calibration(source, model.manifest)
    return ensure_plan(
        model.path,
        model.manifest,
        found.pictures,
        plan_folder(model, source, threads=threads),
        threads=threads,
        providers=providers,
        progress=progress,
        anchors=model.anchors,
        frame_interval_ms=found.interval_ms,
    )


def plan_folder(model: ResolvedModel, source: str, *, threads: int) -> Path:
    """Where the plan of this model, calibrated on this source, is kept between runs."""
    path = Path(source)
    scene = file_sha256(path) if path.is_file() else hashlib.sha256(source.encode()).hexdigest()
    return default_cache() / "plans" / f"{model.manifest.name}-{model.sha256[:10]}-{scene[:10]}-t{threads}.plan"


def calibration(source: str, manifest: Manifest) -> Calibration:
    """The first pictures of `source`. Raises SourceError if it can't be opened or brings nothing."""
    video = open_source(source, pace=False, give_up_after_s=_OPEN_S)
    preparer = Preparer.from_manifest(manifest)
    pictures: list[npt.NDArray[np.uint8]] = []
    try:
        info = video.wait_opened(_OPEN_S)
        while len(pictures) < TRACK_FRAMES:
            captured = video.next(_FRAME_S)
            if captured is None:
                break
            if captured.picture is not None:
                prepared = preparer.prepare(captured.picture)
                pictures.append(prepared.rgb.copy())
                prepared.release()
    except TimeoutError as exc:
        raise SourceError("the source brings no frames", url=source, retryable=True) from exc
    finally:
        video.close()
    if not pictures:
        raise SourceError("the source has no picture", url=info.url)
    return Calibration(pictures, 1000.0 / info.fps, info.live)
