"""Owns the manifest: what a model expects of a picture and what its outputs mean. Knows no weights."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from splitmesh.errors import ModelError

Shape = tuple[int | None, ...]
"""A tensor's shape; None where the model leaves the size open."""

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Detector(_Strict):
    score_threshold: Share = 0.3
    """Boxes that score less are not reported."""
    iou_threshold: Share = 0.5
    """Of two boxes of one class that overlap more, only the better is kept."""
    max_detections: Count = 100
    max_candidates: Count = 300
    """At most so many boxes, the best, enter non-maximum suppression."""


class SsdPostprocess(_Detector):
    """Anchor-coded boxes and per-class logits (TensorFlow object detection's faster-rcnn box coder)."""

    kind: Literal["ssd"]
    boxes: Text = "boxes"
    """Output (1, A, 4): ty tx th tw relative to the anchors."""
    scores: Text = "class_logits"
    """Output (1, A, C): one column per label."""
    anchors: Text
    """File (A, 4) float32 .npy beside the manifest: y_min x_min y_max x_max in [0, 1]."""
    activation: Literal["sigmoid", "softmax"] = "sigmoid"
    background: bool = True
    """Column 0 means "nothing here" and is never reported."""
    coder_scales: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)


class YoloxPostprocess(_Detector):
    """One output (1, N, 5 + C): x y w h objectness, then one score per label; scores already in [0, 1]."""

    kind: Literal["yolox"]
    output: Text = "output"
    strides: tuple[Count, ...] = (8, 16, 32)
    decoded: bool = False
    """The graph already turns grid offsets into input pixels."""


class YunetPostprocess(_Detector):
    """Face boxes with five landmarks: per stride s the outputs cls_s, obj_s, bbox_s, kps_s."""

    kind: Literal["yunet"]
    strides: tuple[Count, ...] = (8, 16, 32)
    cls_prefix: Text = "cls_"
    obj_prefix: Text = "obj_"
    bbox_prefix: Text = "bbox_"
    kps_prefix: Text = "kps_"


class ClassifierPostprocess(_Strict):
    """One output (1, C): the `top_k` best labels, each with the whole picture as its box."""

    kind: Literal["classifier"]
    output: Text = "logits"
    activation: Literal["softmax", "none"] = "softmax"
    top_k: Count = 5


Postprocess = Annotated[
    SsdPostprocess | YoloxPostprocess | YunetPostprocess | ClassifierPostprocess, Field(discriminator="kind")
]


class Manifest(_Strict):
    """How to feed a model and read it. tensor = pixel [0..255] * scale + offset, per channel, NCHW float32."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=48)]
    """Also a token of bus subjects."""
    input: Text
    """Name of the input tensor, (1, 3, height, width) float32."""
    width: Annotated[int, Field(ge=8, le=4096)]
    height: Annotated[int, Field(ge=8, le=4096)]
    color: Literal["RGB", "BGR"] = "RGB"
    """Channel order of the tensor."""
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    fit: Literal["stretch", "letterbox"] = "stretch"
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    """Grey level of a letterbox's padding, before scale and offset."""
    postprocess: Postprocess
    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=65536)]
    licence: Text
    source: Text

    @model_validator(mode="after")
    def _scale_keeps_the_picture(self) -> Manifest:
        if 0 in self.scale:
            raise ValueError("scale must not be 0 in any channel")
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that post-processing reads."""
        post = self.postprocess
        match post:
            case SsdPostprocess():
                return (post.boxes, post.scores)
            case YunetPostprocess():
                prefixes = (post.cls_prefix, post.obj_prefix, post.bbox_prefix, post.kps_prefix)
                return tuple(f"{prefix}{stride}" for prefix in prefixes for stride in post.strides)
            case _:
                return (post.output,)

    def label(self, index: int) -> str:
        """The label of a class, or "#index" where the manifest has none."""
        return self.labels[index] if 0 <= index < len(self.labels) else f"#{index}"


def parse_manifest(data: Mapping[str, Any], *, where: str) -> Manifest:
    """Check `data` and return the manifest. Raises ModelError that names `where`, every key and its rule."""
    try:
        return Manifest.model_validate(data)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        faults = "; ".join(f"{_key(error['loc'])}: {error['msg']}" for error in errors)
        raise ModelError(f"manifest {where}: {faults}") from exc


def load_manifest(path: Path) -> Manifest:
    """Read a manifest TOML. Raises ModelError that names the file, the key and the rule that it broke."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ModelError(f"manifest {path} can't be read: {exc.strerror or exc}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ModelError(f"manifest {path} is not TOML: {exc}") from exc
    return parse_manifest(data, where=str(path))


def check_signature(manifest: Manifest, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
    """Raises ModelError, naming both sides, unless a model with these tensors fits the manifest."""
    want = (1, 3, manifest.height, manifest.width)
    have = ", ".join(f"{name} {_shape(shape)}" for name, shape in inputs.items()) or "none"
    says = f"manifest {manifest.name!r} says input {manifest.input} {_shape(want)}, the model has {have}"
    if manifest.input not in inputs or len(inputs) != 1:
        raise ModelError(says, advice="the manifest's `input` must name the model's only input")
    shape = inputs[manifest.input]
    if len(shape) != 4 or any(have_n not in (None, want_n) for have_n, want_n in zip(shape, want, strict=True)):
        raise ModelError(says, advice="set `width` and `height` to the model's NCHW input")
    missing = [name for name in manifest.output_names if name not in outputs]
    if missing:
        raise ModelError(
            f"manifest {manifest.name!r} reads output {', '.join(missing)}, the model has {', '.join(outputs)}",
            advice=f"set the output names under [postprocess] (kind {manifest.postprocess.kind!r})",
        )


def _key(loc: tuple[int | str, ...]) -> str:
    kinds = {"ssd", "yolox", "yunet", "classifier"}
    parts = [p for i, p in enumerate(loc) if not (i == 1 and loc[0] == "postprocess" and p in kinds)]
    return ".".join(str(p) for p in parts) or "manifest"


def _shape(shape: Shape) -> str:
    return "[" + ",".join("?" if n is None else str(n) for n in shape) + "]"
