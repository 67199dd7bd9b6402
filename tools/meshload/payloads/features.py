"""Owns payloads that are cut tensors: a plan's head run over a video, coded as an edge codes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshload.payloads.pictures import check_alone, prepared_frames, the_video
from meshload.payloads.prepared import PayloadError, Prepared, Terms, gathered
from meshload.payloads.spec import DEFAULT, Features
from meshload.target import Payload
from splitmesh.codec.registry import CODECS
from splitmesh.codec.table_coders import feature_coder
from splitmesh.errors import CodecError, ModelError
from splitmesh.inference.session import open_session
from splitmesh.media.prepare import Preparer
from splitmesh.plan.bundle.read import Bundle, read_bundle
from splitmesh.plan.bundle.schema import PointName, parse_point
from splitmesh.provision.model import provide_model
from splitmesh.provision.parts import log_stages
from splitmesh.provision.shipped import shipped_plan

_PROVIDERS: Final = ("cpu",)


def features(spec: Features, text: str, terms: Terms) -> Prepared:
    """Tensors of the point's cut for frames of a video from its beginning.

    Raises PayloadError for a point that can't be made frame by frame, ModelError, SourceError, InferenceError.
    """
    point = _point(spec, text)
    bundle = _bundle(spec.plan, text, terms)
    video = the_video(spec.video)
    name = Path(video).name
    made = _coded(bundle, point, video, text, terms.limit_frames)
    what = f"features of {name}, {bundle.manifest.name} at {spec.point}"
    return gathered(made, spec=text, what=what, limit_bytes=terms.limit_bytes)


def _point(spec: Features, text: str) -> PointName:
    point = parse_point(spec.point)
    if point is None:
        raise PayloadError(
            f"{spec.point} is no operating point", spec=text, advice="a point is split/CUT/CODEC-LEVEL"
        )
    if not point.cut:
        video = "" if spec.video == DEFAULT else spec.video
        raise PayloadError(
            f"{spec.point} sends pictures", spec=text, advice=f"write frames:{video}@{point.codec}-{point.level}"
        )
    check_alone(point.codec, point.level, text)
    if CODECS[point.codec].kind != "features":
        raise PayloadError(f"{point.codec} codes pictures, not the tensors of a cut", spec=text)
    return point


def _bundle(plan: str, text: str, terms: Terms) -> Bundle:
    if plan != DEFAULT:
        return read_bundle(plan)
    bundle = shipped_plan(provide_model(terms.model or None), threads=1, providers=_PROVIDERS, progress=log_stages())
    if bundle is None:
        raise PayloadError(
            f"no plan ships with {terms.model or 'the model'}",
            spec=text,
            advice="name a folder made by `splitmesh plan`",
        )
    return bundle


def _coded(bundle: Bundle, point: PointName, video: str, text: str, limit: int) -> Iterator[Payload]:
    try:
        cut = bundle.cut(point.cut)
        head = open_session(bundle.head_path(cut.name, point.variant), threads=1, providers=_PROVIDERS)
        coder = feature_coder(point.codec, point.level, shapes=cut.shapes, table=bundle.table(cut.name))
    except (ModelError, CodecError) as exc:
        raise PayloadError(exc.message, spec=text, advice=exc.advice) from exc
    manifest = bundle.manifest
    for number, picture in enumerate(prepared_frames(video, Preparer.from_manifest(manifest), limit)):
        yield Payload(
            coder.encode(head.run({manifest.input: picture.tensor})),
            name=f"{Path(video).name} frame {number} at {cut.name}",
            model=manifest.name,
            model_sha256=bundle.sha256,
            cut=cut.name,
        )
