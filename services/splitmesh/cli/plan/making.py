"""Owns what `splitmesh plan MODEL` does: a plan that holds is kept, else one is made; times are those asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest, SmallModel, plan_key
from splitmesh.inference.planning.verify import measure_profile
from splitmesh.inference.profile import device_class
from splitmesh.inference.providers import describe_device, select
from splitmesh.models.registry import ResolvedModel
from splitmesh.plan.bundle.draft import add_profile
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage
from splitmesh.provision.parts import plan_request, used_again_or_made
from splitmesh.provision.pictures import picture_kinds

Progress = Callable[[str, float], None]


def asked_for(
    model: ResolvedModel,
    *,
    threads: int,
    edge_slowdown: float,
    name: str,
    int8: bool = False,
    small: ResolvedModel | None = None,
    patience: float = 1.0,
) -> PlanRequest:
    """What the command line asks for. name: of the profile, "" for one made of device and threads.

    patience: tables get runs for more than the frames ask: 8 times as many for 4 times the frames.
    """
    request = plan_request(model, threads=threads, providers=("auto",), pictures=picture_kinds())
    smaller = SmallModel(small.path, small.manifest, small.anchors) if small else None
    return replace(
        request,
        device_class=name,
        edge_slowdown=edge_slowdown,
        int8=int8,
        small=smaller,
        patience=patience,
        fit_runs=round(request.fit_runs * patience**1.5),
    )


def kept_or_made(request: PlanRequest, footage: Footage, out: Path, *, force: bool, progress: Progress) -> Bundle:
    """The plan of `request` at `out`, with a profile of this device as `request` asks.

    force: make it even if the one that is there follows from the same model, manifest and frames.
    Raises ModelError, InferenceError, FrameShapeError, OutputError (also for a folder that is no plan).
    """
    key = plan_key(request, footage)
    bundle = used_again_or_made(
        out,
        lambda there: not force and there.plan.calibrated and there.plan.key == key,
        lambda: make_plan(request, footage, out, progress),
        progress,
    )
    return _with_times(bundle, request, progress)


def _with_times(bundle: Bundle, request: PlanRequest, progress: Progress) -> Bundle:
    """Measured only where this device has no such profile yet; the slowdown is no part of what is measured."""
    device = describe_device(select(request.providers)[0])
    profile = bundle.profiles.get(request.device_class or device_class(device, request.threads))
    if profile is None or (profile.device, profile.threads) != (device, request.threads):
        return measure_profile(
            bundle,
            Footage(),
            device_class=request.device_class,
            threads=request.threads,
            providers=request.providers,
            edge_slowdown=request.edge_slowdown,
            pictures=request.pictures,
            progress=progress,
        )
    if profile.edge_slowdown != request.edge_slowdown:
        profile = profile.model_copy(update={"edge_slowdown": request.edge_slowdown})
        add_profile(bundle.folder, profile)
    return bundle.with_profile(profile)
