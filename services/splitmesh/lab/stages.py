"""Owns what a lab run needs before it starts: model, source and plan, fetched and built once, then cached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from splitmesh.errors import ModelError
from splitmesh.lab.display import Display
from splitmesh.models.registry import ResolvedModel, default_clip
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.provision.model import provide_model
from splitmesh.provision.plan import edge_plan, given_plan
from splitmesh.settings.model import LabSettings


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Everything that must be there before the first process starts."""

    model: ResolvedModel
    source: str
    """A file's path, or a URL."""
    bundle: Bundle

    @property
    def shown_source(self) -> str:
        return Path(self.source).name if Path(self.source).is_file() else self.source


def gather(settings: LabSettings, display: Display) -> Ingredients:
    """Model, source, plan. Raises ModelError, SourceError, OutputError."""
    with display.stage(f"model {settings.model}") as stage:
        model = provide_model(settings.model, settings.manifest, stage.report)
    if settings.source is None:
        with display.stage("street clip") as stage:
            source = str(default_clip(stage.report))
    else:
        source = settings.source
    with display.stage("plan: cuts, rates, times of this machine") as stage:
        if settings.plan is None:
            bundle = edge_plan(model, source, threads=settings.threads, progress=stage.report)
        elif read_bundle(settings.plan).sha256 == model.sha256:
            bundle = given_plan(settings.plan, threads=settings.threads, progress=stage.report)
        else:
            reason = f"plan {settings.plan} is of another model than {settings.model}"
            raise ModelError(reason, advice="name its model with --model")
    return Ingredients(model, source, bundle)
