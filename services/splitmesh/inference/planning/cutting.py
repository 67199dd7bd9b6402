"""Owns the way from a user's model to a shortlist of cuts. Runs the model only for shapes that nothing else tells.

Everything here follows from model and manifest alone, so that a worker without footage comes to the same cuts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from onnx import ModelProto, TensorProto

from splitmesh.errors import InferenceError, ModelError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.planning.observe import observe
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.inference.planning.stages import Progress
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.bundle.schema import Strip
from splitmesh.plan.cuts.choose import passed_over, shortlist
from splitmesh.plan.cuts.cut import Cut, Rejected
from splitmesh.plan.cuts.extract import PARITY_LIMIT
from splitmesh.plan.cuts.frontiers import survey
from splitmesh.plan.footage import made_up
from splitmesh.plan.graph.canonical import runnable_model
from splitmesh.plan.graph.fold import fold_constants
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.graph.view import GraphView

_log = logging.getLogger(__name__)

HALF_LIMIT = 2e-2
"""Parity limit of a graph that computes in half precision: 20 units of its 11 bits. The runtime keeps neighbouring
steps in float32 and a cut makes it round between them; real detectors and classifiers were off by at most 8e-4."""
QUANTISED_LIMIT = 5e-2
"""Parity limit of a graph that rounds to 8 bits inside: a value on the border of two steps may take either one. Where
the 8-bit tensor itself crosses, as `survey` prefers, both halves keep their integer kernels and are exact."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How closely the parts of a graph must give what the whole gives."""

    name: str
    """"fp32", "fp16" or "int8": the coarsest that it computes in."""
    limit: float
    """Relative, see `plan.cuts.extract.relative_error`."""

    @property
    def notes(self) -> tuple[str, ...]:
        if self.name == "fp32":
            return ()
        return (f"the model computes in {self.name}: parts may differ from the whole by {self.limit:g} (relative)",)


@dataclass(frozen=True, slots=True)
class Cutting:
    """A model that is ready to be cut."""

    model: ModelProto
    """Canonical and folded; large weights lie in the draft's weights file."""
    full: ModelProto
    """The whole, canonical, not folded: what every part is held against."""
    full_path: Path
    shapes: Mapping[str, tuple[int, ...]]
    """Of inner tensors, where only a run could tell."""
    shortlist: tuple[Cut, ...]
    rejected: tuple[Rejected, ...]
    strip: Strip
    frontiers: int
    nodes: int
    """Of the user's file."""
    work: float
    """Static cost of the whole; see `GraphView.cost`."""
    precision: Precision


def cut_up(request: PlanRequest, draft: BundleDraft, progress: Progress) -> Cutting:
    """Read, make canonical, fold, look at every frontier. Adds the whole model to `draft`.

    Raises ModelError for a model that can't be used or does not fit its manifest.
    """
    progress("load", 0.0)
    model = load_model(request.model_path)
    nodes = len(model.graph.node)
    progress("load", 0.5)
    full = runnable_model(model, request.manifest)
    del model
    full_path = draft.add_full(full)
    full = _copy(full)  # protobuf frees what left for the weights file only with the whole message
    progress("load", 1.0)
    progress("cuts", 0.0)
    model = fold_constants(_copy(full))
    view = GraphView(model)
    shapes: dict[str, tuple[int, ...]] = {}
    unknown = _without_shape(view)
    if unknown:
        progress("cuts", 0.2)
        seen = _observed(full_path, request, unknown)
        shapes = {name: shape for name, (_, shape) in seen.items()}
        model = fold_constants(model, shapes)
        view = GraphView(model, shapes, {name: dtype for name, (dtype, _) in seen.items()})
    progress("cuts", 0.5)
    found = survey(view)
    chosen = shortlist(found.candidates)
    progress("cuts", 1.0)
    return Cutting(
        model=model,
        full=full,
        full_path=full_path,
        shapes=shapes,
        shortlist=tuple(chosen),
        rejected=(*found.rejected, *passed_over(found.candidates, chosen)),
        strip=found.strip,
        frontiers=found.frontiers,
        nodes=nodes,
        work=sum(view.cost(index) for index in range(len(view.nodes))),
        precision=precision_of(view),
    )


def precision_of(view: GraphView) -> Precision:
    """By the coarsest type that a value depending on the input takes, and by the operators that round to 8 bits."""
    if any(alive and _rounds(node.op_type) for node, alive in zip(view.nodes, view.live, strict=True)):
        return Precision("int8", QUANTISED_LIMIT)
    types = {view.tensors[name].dtype for alive in view.live for name in alive if name in view.tensors}
    if types & {TensorProto.FLOAT16, TensorProto.BFLOAT16}:
        return Precision("fp16", HALF_LIMIT)
    return Precision("fp32", PARITY_LIMIT)


def _rounds(op_type: str) -> bool:
    return "Quantize" in op_type or op_type.startswith("QLinear") or op_type.endswith("Integer")


def _copy(model: ModelProto) -> ModelProto:
    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def _without_shape(view: GraphView) -> list[str]:
    live = [name for alive in view.live for name in alive]
    return [name for name in live if name not in view.tensors or view.tensors[name].shape is None]


def _observed(path: Path, request: PlanRequest, names: Sequence[str]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Nothing of a graph that does not run as it is written: optimised it may, and then has fewer cuts, no more."""
    try:
        return observe(path, _inputs(request), names)
    except (InferenceError, ModelError) as exc:
        _log.info("%s is cut by what can be inferred: %s", request.model_path, exc.message)
        return {}


def _inputs(request: PlanRequest) -> Sequence[dict[str, npt.NDArray[Any]]]:
    """Two different pictures, the same on every machine."""
    manifest = request.manifest
    normalizer = Normalizer.from_manifest(manifest)
    samples = made_up(height=manifest.height, width=manifest.width, count=2)
    return [{manifest.input: normalizer.normalize(sample.picture)} for sample in samples]
