"""Owns the manifest: what a model expects of a picture and what its outputs mean. Knows no weights."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from splitmesh.codec.container import MAX_ELEMENTS
from splitmesh.errors import ModelError
from splitmesh.plan.manifest_kinds import KINDS, Count, Postprocess, Strict, Text, output_names

Shape = tuple[int | None, ...]
"""A tensor's shape; None where the model leaves the size open."""

Side = Annotated[int, Field(ge=8, le=4096)]
MAX_PIXELS = MAX_ELEMENTS // 3
"""Of a picture: what a payload can carry."""


class ExtraInput(Strict):
    """An input besides the picture. It always gets the same value, cast to the element type that it has."""

    name: Text
    value: float | tuple[float, ...] = 0.0
    """For every element, or for each in order."""
    shape: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Needed where the model leaves the input's shape open; such an axis is 1 otherwise."""

    @model_validator(mode="after")
    def _one_value_per_element(self) -> ExtraInput:
        if isinstance(self.value, tuple) and self.shape is not None and len(self.value) != math.prod(self.shape):
            raise ValueError(f"value must have {math.prod(self.shape)} numbers for shape {list(self.shape)}")
        return self


class Manifest(Strict):
    """How to feed a model and read it. tensor = pixel [0..255] * scale + offset, per channel, float32."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=48)]
    """Also a token of bus subjects."""
    input: Text
    """Name of the input tensor that takes the picture, of any numeric element type."""
    width: Side
    height: Side
    layout: Literal["NCHW", "NHWC", "flat"] = "NCHW"
    """ "NCHW": (1, C, height, width), "NHWC": (1, height, width, C), C being 3, or 1 for grey. "flat": no picture;
    the input is filled with the first elements of the tensor (3, height, width), row by row."""
    shape: tuple[Count, ...] | None = None
    """With layout "flat", and only then: the input's own shape."""
    extra: tuple[ExtraInput, ...] = ()
    """All other inputs, but for those that get the picture too: see `picture_layout`."""
    color: Literal["RGB", "BGR"] = "RGB"
    """Channel order of the tensor."""
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    fit: Literal["stretch", "letterbox"] = "stretch"
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    """Grey level of a letterbox's padding, before scale and offset."""
    postprocess: Postprocess
    labels: Annotated[tuple[str, ...], Field(max_length=65536)] = ()
    licence: Text
    source: Text

    @model_validator(mode="after")
    def _is_consistent(self) -> Manifest:
        if self.width * self.height > MAX_PIXELS:
            raise ValueError(f"width × height must be at most {MAX_PIXELS}: no payload carries a larger picture")
        if 0 in self.scale:
            raise ValueError("scale must not be 0 in any channel")
        if not self.labels and self.postprocess.kind != "tensor":
            raise ValueError("labels must name at least 1 class")
        if (self.layout == "flat") != (self.shape is not None):
            raise ValueError('shape must be given with layout "flat" and only then')
        if self.shape is not None and math.prod(self.shape) > 3 * self.height * self.width:
            raise ValueError(f"shape {list(self.shape)} has more than 3 x height x width elements")
        names = [self.input, *(extra.name for extra in self.extra)]
        if len(set(names)) != len(names):
            raise ValueError("extra must not name one input twice")
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that post-processing reads; none for "all of them"."""
        return output_names(self.postprocess)

    def label(self, index: int) -> str:
        """The label of a class, or "#index" where the manifest has none."""
        return self.labels[index] if 0 <= index < len(self.labels) else f"#{index}"


def picture_layout(shape: Shape) -> Literal["NCHW", "NHWC", ""]:
    """How a picture fits `shape`, "" if it does not: one picture of one or three channels, each side 8 … 4096.

    A further input of such a shape that the manifest does not name gets the same picture, in its own size.
    """
    if len(shape) != 4 or shape[0] not in (1, None):
        return ""
    if shape[1] in (1, 3) and all(n is None or 8 <= n <= 4096 for n in shape[2:]):
        return "NCHW"
    return "NHWC" if shape[3] in (1, 3) and all(n is None or 8 <= n <= 4096 for n in shape[1:3]) else ""


def parse_manifest(data: Mapping[str, Any], *, where: str) -> Manifest:
    """Check `data` and return the manifest. Raises ModelError that names `where`, every key and its rule."""
    try:
        return Manifest.model_validate(data)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        faults = "; ".join(f"{_key(error['loc'])}: {error['msg'].removeprefix('Value error, ')}" for error in errors)
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
    _check_inputs(manifest, inputs)
    missing = [name for name in manifest.output_names if name not in outputs]
    if missing:
        raise ModelError(
            f"manifest {manifest.name!r} reads output {', '.join(missing)}, the model has {', '.join(outputs)}",
            advice=f"set the output names under [postprocess] (kind {manifest.postprocess.kind!r})",
        )


def _check_inputs(manifest: Manifest, inputs: Mapping[str, Shape]) -> None:
    want = _wanted(manifest)
    have = ", ".join(f"{name} {_shape(shape)}" for name, shape in inputs.items()) or "none"
    says = f"manifest {manifest.name!r} says input {manifest.input} {_shape(want)}, the model has {have}"
    if manifest.input not in inputs:
        raise ModelError(says, advice="the manifest's `input` must name the model's input for the picture")
    if not is_fed(inputs[manifest.input], want, manifest.layout):
        raise ModelError(says, advice="set `layout`, `width` and `height` (`shape` if flat) to those of the model")
    extra = {each.name: each for each in manifest.extra}
    lost = [name for name in inputs if name not in (manifest.input, *extra) and not picture_layout(inputs[name])]
    if lost:
        raise ModelError(
            f"{says}, and gives no value for {', '.join(lost)}",
            advice=f"add [[extra]] with name = {lost[0]!r} and its value",
        )
    for name, each in extra.items():
        if name not in inputs or (each.shape is not None and not _agree(inputs[name], each.shape)):
            shape = "" if each.shape is None else f" {_shape(each.shape)}"
            raise ModelError(
                f"manifest {manifest.name!r} says extra input {name}{shape}, the model has {have}",
                advice="name and shape under [[extra]] must be those of an input of the model",
            )


def _wanted(manifest: Manifest) -> tuple[int, ...]:
    match manifest.layout:
        case "NCHW":
            return (1, 3, manifest.height, manifest.width)
        case "NHWC":
            return (1, manifest.height, manifest.width, 3)
        case "flat":
            return manifest.shape or ()


def is_fed(have: Shape, want: tuple[int, ...], layout: str) -> bool:
    """Whether an input `have` takes what is of shape `want`.

    want: of one picture (1, …) unless the layout is "flat". An input for pictures may have any batch, or no axis for
    it; one channel is as good as three.
    """
    if layout == "flat":
        return _agree(have, want)
    return len(have) in (3, 4) and _agree(have[-3:], want[1:], grey=True)


def _agree(have: Shape, want: tuple[int, ...], *, grey: bool = False) -> bool:
    return len(have) == len(want) and all(
        given in (None, size) or (grey and (given, size) == (1, 3)) for given, size in zip(have, want, strict=True)
    )


def _key(loc: tuple[int | str, ...]) -> str:
    parts = [p for i, p in enumerate(loc) if not (i == 1 and loc[0] == "postprocess" and p in KINDS)]
    return ".".join(str(p) for p in parts) or "manifest"


def _shape(shape: Shape) -> str:
    return "[" + ",".join("?" if n is None else str(n) for n in shape) + "]"
