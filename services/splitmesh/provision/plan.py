"""Owns an edge's plan: one that is given, one that ships with the model, or one made on the video to come."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from splitmesh.errors import ModelError
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import plan_key
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.bundle.format import file_sha256
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.footage import Footage
from splitmesh.provision.footage import read_footage
from splitmesh.provision.model import provide_model
from splitmesh.provision.parts import Progress, cached_folder, plan_request, used_again_or_made
from splitmesh.provision.pictures import picture_kinds
from splitmesh.provision.profile import profiled
from splitmesh.provision.shipped import shipped_plan


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
    """The plan in folder `plan`; without one, that of `model`. Its points have the times of this very device.

    Raises ModelError, SourceError, OutputError.
    """
    if plan is not None:
        return given_plan(plan, threads=threads, providers=providers, progress=progress)
    resolved = provide_model(model, manifest, progress)
    return edge_plan(resolved, source, threads=threads, providers=providers, progress=progress)


def given_plan(plan: Path, *, threads: int, providers: Sequence[str] = ("auto",), progress: Progress) -> Bundle:
    """The plan in that folder, with the times of this device. Raises ModelError, OutputError."""
    return profiled(_calibrated(read_bundle(plan)), threads=threads, providers=providers, progress=progress)


def edge_plan(
    model: ResolvedModel, source: str, *, threads: int, providers: Sequence[str] = ("auto",), progress: Progress
) -> Bundle:
    """The plan that ships with `model`, else one made on the beginning of `source`; from the cache if it holds.

    Raises ModelError, SourceError, OutputError.
    """
    bundle = shipped_plan(model, threads=threads, providers=providers, progress=progress)
    if bundle is None:
        bundle = _calibrated_on(source, model, threads=threads, providers=providers, progress=progress)
    return profiled(bundle, threads=threads, providers=providers, progress=progress)


def _calibrated_on(
    source: str, model: ResolvedModel, *, threads: int, providers: Sequence[str], progress: Progress
) -> Bundle:
    """A live source never shows the same pictures twice: there, a plan made on earlier ones is used again."""
    request = plan_request(model, threads=threads, providers=providers, pictures=picture_kinds())
    target = cached_folder(model, _scene(source)[:10])
    live = not Path(source).is_file()
    footage = Footage() if live else read_footage([source], [], model.manifest, progress)
    wanted = plan_key(request, footage)

    def holds(bundle: Bundle) -> bool:
        found = bundle.plan.key
        if live:
            found = found.model_copy(update={"footage_sha256": ""})
        return bundle.plan.calibrated and found == wanted

    def make() -> Bundle:
        seen = footage or read_footage([source], [], model.manifest, progress)
        return make_plan(request, seen, target, progress)

    return used_again_or_made(target, holds, make, progress)


def _calibrated(bundle: Bundle) -> Bundle:
    """`bundle`, unless it is a worker's: it has nothing to choose from."""
    if not bundle.plan.calibrated:
        raise ModelError(f"plan {bundle.folder} holds parts only", advice="make one with `splitmesh plan`")
    return bundle


def _scene(source: str) -> str:
    path = Path(source)
    return file_sha256(path) if path.is_file() else hashlib.sha256(source.encode()).hexdigest()
