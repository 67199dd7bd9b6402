"""Owns what a plan is asked for, and the key under which it is found again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitmesh.codec.coders import JPEG, PictureKind
from splitmesh.codec.registry import CODECS, FEATURE_CODECS
from splitmesh.plan.bundle.format import anchors_bytes, manifest_json
from splitmesh.plan.bundle.schema import PlanKey
from splitmesh.plan.footage import Footage
from splitmesh.plan.graph.load import model_sha256
from splitmesh.plan.manifest import Manifest

TABLE_CODECS = ("compact", "temporal")
"""Codecs whose tables calibration fits, and whose levels it searches."""
_PATIENCE = "patience="


@dataclass(frozen=True, slots=True)
class SmallModel:
    """A second model that stands in for the first on a busy edge; it must find the same kind of thing."""

    path: Path
    manifest: Manifest
    anchors: npt.NDArray[np.float32] | None = None
    """(A, 4) for kind "ssd"."""

    @property
    def sha256(self) -> str:
        """Of the model with the way to read it. Raises ModelError if it can't be read."""
        anchors = b"" if self.anchors is None else anchors_bytes(self.anchors)
        facts = (model_sha256(self.path).encode(), manifest_json(self.manifest), anchors)
        return hashlib.sha256(b"\0".join(facts)).hexdigest()


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A model, how to read it, and the device that is measured."""

    model_path: Path
    """The user's file; external data beside it."""
    manifest: Manifest
    anchors: npt.NDArray[np.float32] | None = None
    """(A, 4) for kind "ssd"."""
    threads: int = 1
    """Of the runtime, while times are measured."""
    providers: tuple[str, ...] = ("auto",)
    device_class: str = ""
    """Name of the profile; "": made from device and threads."""
    edge_slowdown: float = 1.0
    """The edge is taken to be so many times slower than this device."""
    notes: tuple[str, ...] = ()
    """What was guessed for the user; kept in the plan."""
    int8: bool = False
    """Try the model and the heads of kept cuts in 8-bit integers too."""
    small: SmallModel | None = None
    pictures: tuple[PictureKind, ...] = (JPEG,)
    """Ways to code the picture that are measured; those of a video library come from outside."""

    patience: float = 1.0
    """Fidelity is measured on so many times as many frames, in so many times the time."""
    fit_runs: int = 384
    """Of each cut's tail at most, to find out which noise its answer feels; more make better calibration tables."""

    @property
    def options(self) -> str:
        """As `PlanKey.options` has them. Raises ModelError if the smaller model can't be read."""
        small = () if self.small is None else (f"small={self.small.sha256}",)
        patience = () if self.patience == 1.0 else (f"{_PATIENCE}{self.patience:g}",)
        return ",".join((*(("int8",) if self.int8 else ()), *small, *patience))


def patience_of(options: str) -> float:
    """With which patience a plan of these `PlanKey.options` was made; 1.0 if they do not say."""
    said = [each.removeprefix(_PATIENCE) for each in options.split(",") if each.startswith(_PATIENCE)]
    return float(said[0]) if said else 1.0


def plan_key(request: PlanRequest, footage: Footage) -> PlanKey:
    """What the plan of `request` on `footage` follows from. Raises ModelError if the model can't be read."""
    return PlanKey(
        model_sha256=model_sha256(request.model_path),
        manifest_sha256=hashlib.sha256(manifest_json(request.manifest)).hexdigest(),
        anchors_sha256="" if request.anchors is None else hashlib.sha256(anchors_bytes(request.anchors)).hexdigest(),
        codecs={name: CODECS[name].levels for name in (*FEATURE_CODECS, *TABLE_CODECS)}
        | {kind.codec: kind.levels for kind in request.pictures},
        footage_sha256=footage.sha256,
        options=request.options,
    )
