"""Owns what a lab run needs before it starts: model, source and plan, fetched and built once, then cached."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.errors import SourceError
from splitmesh.inference.planner import TRACK_FRAMES, ensure_plan
from splitmesh.lab.display import Display
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.fetch import default_cache
from splitmesh.models.registry import ResolvedModel, default_clip, resolve_model
from splitmesh.plan.bundle import Bundle, file_sha256
from splitmesh.plan.manifest import Manifest
from splitmesh.settings.model import LabSettings

_OPEN_S = 20.0
_FRAME_S = 20.0


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Everything that must be there before the first process starts."""

    model: ResolvedModel
    source: str
    """A file's path, or a URL."""
    bundle: Bundle
    live: bool

    @property
    def shown_source(self) -> str:
        return Path(self.source).name if Path(self.source).is_file() else self.source


def gather(settings: LabSettings, display: Display) -> Ingredients:
    """Model, source, plan. Raises ModelError, SourceError, OutputError."""
    with display.stage(f"model {settings.model}") as stage:
        model = resolve_model(settings.model, settings.manifest, progress=stage.report)
    if settings.source is None:
        with display.stage("street clip") as stage:
            source = str(default_clip(stage.report))
    else:
        source = settings.source
    with display.stage("plan: cuts, profile, codec calibration") as stage:
        pictures, interval_ms, live = calibration_pictures(source, model.manifest)
        bundle = ensure_plan(
            model.path,
            model.manifest,
            pictures,
            plan_folder(model, source, threads=settings.threads),
            threads=settings.threads,
            progress=stage.report,
            anchors=model.anchors,
            frame_interval_ms=interval_ms,
        )
    return Ingredients(model, source, bundle, live)


def plan_folder(model: ResolvedModel, source: str, *, threads: int) -> Path:
    """Where the plan of this model, calibrated on this source, is kept between runs."""
    path = Path(source)
    scene = file_sha256(path) if path.is_file() else hashlib.sha256(source.encode()).hexdigest()
    return default_cache() / "plans" / f"{model.manifest.name}-{model.sha256[:10]}-{scene[:10]}-t{threads}.plan"


def calibration_pictures(source: str, manifest: Manifest) -> tuple[list[npt.NDArray[np.uint8]], float, bool]:
    """The source's first pictures at model size, (H, W, 3) uint8 RGB; their spacing in ms; whether it is live.

    Raises SourceError if it can't be opened or brings nothing.
    """
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
    return pictures, 1000.0 / info.fps, info.live
