"""Owns a worker's plan: every cut of a model that an edge may choose. Needs no video and imports no decoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from splitmesh.codec.coders import JPEG, PictureKind
from splitmesh.errors import ModelError
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest, plan_key
from splitmesh.models.fetch import default_cache
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.bundle.draft import locked
from splitmesh.plan.bundle.read import Bundle, is_plan, read_bundle
from splitmesh.plan.footage import Footage
from splitmesh.provision.model import provide_model

_log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Told what is being done and how much of it is done, [0, 1]; several things may be under way by turns."""


def provide_parts(
    *,
    model: str,
    manifest: Path | None,
    plan: Path | None,
    threads: int,
    providers: Sequence[str] = ("auto",),
    progress: Progress,
) -> Bundle:
    """The plan in folder `plan` as it is; without one, the parts of all cuts of `model` that any plan may keep.

    Raises ModelError, OutputError.
    """
    if plan is not None:
        return read_bundle(plan)
    resolved = provide_model(model, manifest, progress)
    request = plan_request(resolved, threads=threads, providers=providers)
    target, key = cached_folder(resolved, "parts"), plan_key(request, Footage())
    return used_again_or_made(
        target,
        lambda bundle: bundle.plan.key.parts_match(key),
        lambda: make_plan(request, Footage(), target, progress),
        progress,
    )


def plan_request(
    model: ResolvedModel, *, threads: int, providers: Sequence[str], pictures: Sequence[PictureKind] = (JPEG,)
) -> PlanRequest:
    """pictures: ways to code the picture that are measured, where there is footage to measure on."""
    return PlanRequest(
        model_path=model.path,
        manifest=model.manifest,
        anchors=model.anchors,
        threads=threads,
        providers=tuple(providers),
        notes=model.notes,
        pictures=tuple(pictures),
    )


def cached_folder(model: ResolvedModel, what: str) -> Path:
    """Where a plan is kept between runs."""
    return default_cache() / "plans" / f"{model.manifest.name}-{model.sha256[:10]}-{what}.plan"


def used_again_or_made(
    target: Path, holds: Callable[[Bundle], bool], make: Callable[[], Bundle], progress: Progress
) -> Bundle:
    """The plan at `target` if it is whole and `holds`, else what `make` puts there.

    Two processes that want the same folder wait for each other. Raises what `make` raises, and OutputError.
    """
    known = _reusable(target, holds)
    if known is None:
        with locked(target):
            known = _reusable(target, holds)
            if known is None:
                return make()
    progress("reuse", 1.0)
    return known


def _reusable(folder: Path, holds: Callable[[Bundle], bool]) -> Bundle | None:
    if not is_plan(folder):
        return None
    try:
        bundle = read_bundle(folder)
    except ModelError as exc:
        _log.warning("plan %s is made again: %s", folder, exc)
        return None
    if holds(bundle):
        return bundle
    _log.info("plan %s is made again: it is of another model, manifest, footage or version", folder)
    return None


def log_stages() -> Progress:
    """Log each stage once, so that a first start does not look stuck."""
    seen: set[str] = set()

    def report(stage: str, _share: float) -> None:
        if stage not in seen:
            seen.add(stage)
            _log.info("getting ready: %s", stage)

    return report
