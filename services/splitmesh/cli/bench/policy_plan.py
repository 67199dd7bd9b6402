"""Owns the plan that `splitmesh bench policy` takes operating points from: a given one, or the default model's."""

from __future__ import annotations

from pathlib import Path

from splitmesh.errors import ModelError
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.provision.model import provide_model
from splitmesh.provision.parts import Progress
from splitmesh.provision.plan import given_plan
from splitmesh.provision.profile import profiled
from splitmesh.provision.shipped import shipped_plan

_THREADS = 1


def bench_plan(folder: Path | None, progress: Progress) -> Bundle:
    """The plan in `folder` with a profile that it holds, whatever device measured it, so that figures can be had
    again elsewhere; with times of this device if it holds none. Without a folder: what ships with the default model.

    Raises ModelError, OutputError.
    """
    if folder is not None:
        found = read_bundle(folder).select()
        if found.profile is not None and found.plan.calibrated:
            return found
        return given_plan(folder, threads=_THREADS, progress=progress)
    model = provide_model(progress=progress)
    shipped = shipped_plan(model, threads=_THREADS, progress=progress)
    if shipped is None:
        raise ModelError(f"no plan ships with {model.manifest.name}", advice="name one with --plan")
    return profiled(shipped, threads=_THREADS, progress=progress)
