"""Owns a worker's plan: the cuts of a model, without calibration. Needs no video and imports no decoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from splitmesh.inference.planning.builder import ensure_plan
from splitmesh.models.fetch import default_cache
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.bundle.old_read import Bundle, read_bundle
from splitmesh.provision.model import provide_model

_log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Told what is being done and how much of it is done, [0, 1]."""


def provide_parts(
    *,
    model: str,
    manifest: Path | None,
    plan: Path | None,
    threads: int,
    providers: Sequence[str] = ("auto",),
    progress: Progress,
) -> Bundle:
    """The plan in folder `plan` as it is; without one, the cuts of `model`, not calibrated.

    Raises ModelError, OutputError.
    """
    if plan is not None:
        return read_bundle(plan)
    resolved = provide_model(model, manifest, progress)
    return ensure_plan(
        resolved.path,
        resolved.manifest,
        [],
        cached_folder(resolved, "parts"),
        threads=threads,
        providers=providers,
        progress=progress,
        anchors=resolved.anchors,
    )


def cached_folder(model: ResolvedModel, what: str) -> Path:
    """Where a plan is kept between runs."""
    return default_cache() / "plans" / f"{model.manifest.name}-{model.sha256[:10]}-{what}.plan"


def log_stages() -> Progress:
    """Log each stage once, so that a first start does not look stuck."""
    seen: set[str] = set()

    def report(stage: str, share: float) -> None:
        if stage not in seen:
            seen.add(stage)
            _log.info("getting ready: %s (%.0f %%)", stage, 100 * share)

    return report
