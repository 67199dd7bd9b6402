"""Owns the smaller model of a plan: whether it can answer in the model's place, and how well it does.

Whether it is worth running is for others to say; see `plan.bundle.points`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitmesh.errors import ModelError
from splitmesh.frames.fidelity import counts_objects
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.planning.rates import local_rates
from splitmesh.inference.planning.request import PlanRequest, SmallModel
from splitmesh.inference.planning.stages import Step
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.answers.outputs import PostprocessFn
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.answers.relabel import relabelled
from splitmesh.plan.bundle.draft import BundleDraft
from splitmesh.plan.bundle.format import SMALL_ANCHORS, SMALL_MANIFEST, anchors_bytes, local_file, manifest_json
from splitmesh.plan.bundle.points import LEAST_FIDELITY
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.footage import Sample, made_up
from splitmesh.plan.graph.canonical import canonical_model
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.graph.refeed import refed
from splitmesh.plan.manifest import Manifest

SMALL = "small"


@dataclass(frozen=True, slots=True)
class Small:
    """The smaller model as it lies in the draft, loaded. It takes the model's own input."""

    session: Session
    read: PostprocessFn

    def rates(self, whole: Whole, samples: Sequence[Sample], step: Step) -> RateRow:
        """What its answers keep of the whole's. Raises InferenceError."""
        return local_rates(whole, self.session, samples, step, variant=SMALL, read=self.read)


def why_not_offered(row: RateRow) -> tuple[str, ...]:
    """A note about a smaller model whose answers are too far from the model's; () otherwise."""
    if row.fidelity >= LEAST_FIDELITY:
        return ()
    return (
        f"the smaller model is not offered: it keeps a fidelity of {row.fidelity:.2f}, and "
        f"{LEAST_FIDELITY:g} is the least that is worth its time",
    )


def add_small(request: PlanRequest, small: SmallModel, draft: BundleDraft) -> Small:
    """Put `small` into the draft, fed with the model's tensor, and run it once.

    Raises ModelError if it does not find the same kind of thing, or can't be used at all; InferenceError if it fails.
    """
    read = stand_in(small, request.manifest)
    model = canonical_model(load_model(small.path), small.manifest)
    file_name = local_file(SMALL).rpartition("/")[2]
    path = draft.add_variant(file_name, refed(model, small.manifest, request.manifest))
    draft.add(SMALL_MANIFEST, manifest_json(small.manifest))
    if small.anchors is not None:
        draft.add(SMALL_ANCHORS, anchors_bytes(small.anchors))
    session = open_session(path, threads=request.threads, providers=request.providers, lean=True)
    large = request.manifest
    sample = made_up(height=large.height, width=large.width, count=1)[0]
    read(session.run({large.input: Normalizer.from_manifest(large).normalize(sample.picture)}))
    return Small(session, read)


def stand_in(small: SmallModel, large: Manifest) -> PostprocessFn:
    """Reads the smaller model's outputs as answers in the classes of the larger one. Raises ModelError."""
    mine, theirs = small.manifest.postprocess.kind, large.postprocess.kind
    comparable = (counts_objects(mine) and counts_objects(theirs)) or mine == theirs
    reason = ""
    if not comparable:
        reason = f"it is of kind {mine}, {large.name} of kind {theirs}"
    elif theirs == "tensor":
        reason = "nobody knows what the outputs of either mean"
    elif theirs == "segmentation" and small.manifest.labels != large.labels:
        reason = f"its masks have other labels than those of {large.name}"
    if reason:
        raise ModelError(
            f"the smaller model {small.manifest.name} can't answer in the place of {large.name}: {reason}",
            advice="name a model that finds the same things, or leave --small out",
        )
    return relabelled(build_postprocess(small.manifest, small.anchors), small.manifest.labels, large.labels)
