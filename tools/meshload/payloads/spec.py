"""Owns the grammar of `--payload`. Pure; opens nothing.

    frames:VIDEO[@CODEC-LEVEL]     pictures of a video as an edge sends them for the whole model; else jpeg-85
    features:PLAN:POINT[@VIDEO]    cut tensors as an edge sends them at POINT, e.g. split/n37-64x19x19/u8zstd-6
    file:GLOB                      each file as one payload
    json:TEXT, json:@FILE          one JSON document: the body of an HTTP request, or a gRPC method's message
    synthetic[:SIZE[:CONTENT]]     made up; content: random (not compressible), zeros or picture

VIDEO "default" (or nothing) is the video that `splitmesh lab` plays, PLAN "default" the plan of the default model.
SIZE: "128", "10k", "64KiB", without one 128 bytes; of pictures "640x480", without one as the model's input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from meshload.payloads.prepared import PayloadError
from splitmesh.settings.units import parse_bytes

DEFAULT: Final = "default"
Content: TypeAlias = Literal["random", "zeros", "picture"]
_CODED: Final = re.compile(r"(.*)@([a-z0-9]+)-([0-9]{1,3})")
_FEATURES: Final = re.compile(r"(.*?):((?:split|frame)/[^@]+)(?:@(.*))?")
_SIDES: Final = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_DEFAULT_BYTES: Final = 128
_MOST_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frames:
    video: str
    codec: str = "jpeg"
    level: int = 85


@dataclass(frozen=True, slots=True)
class Features:
    plan: str
    point: str
    video: str


@dataclass(frozen=True, slots=True)
class Files:
    glob: str


@dataclass(frozen=True, slots=True)
class Json:
    """One of both is "". text: the document. file: where it stands."""

    text: str = ""
    file: str = ""


@dataclass(frozen=True, slots=True)
class Synthetic:
    """size_bytes: of random and zeros. width, height: of pictures, in px; 0: as the model's input."""

    content: Content = "random"
    size_bytes: int = _DEFAULT_BYTES
    width: int = 0
    height: int = 0


Spec: TypeAlias = Frames | Features | Files | Json | Synthetic


def parse_spec(text: str) -> Spec:
    """What `--payload` asks for. Raises PayloadError that says how it is written."""
    kind, _, rest = text.partition(":")
    if kind == "frames":
        coded = _CODED.fullmatch(rest)
        return Frames(coded[1] or DEFAULT, coded[2], int(coded[3])) if coded else Frames(rest or DEFAULT)
    if kind == "features":
        named = _FEATURES.fullmatch(rest)
        if named is None:
            raise _wrong(text, "write it as features:PLAN:POINT, e.g. features:default:split/n37-64x19x19/u8zstd-6")
        return Features(named[1] or DEFAULT, named[2], named[3] or DEFAULT)
    if kind == "file":
        if not rest:
            raise _wrong(text, "write it as file:GLOB, e.g. 'file:pictures/*.jpg'")
        return Files(rest)
    if kind == "json":
        if not rest.removeprefix("@"):
            raise _wrong(text, """write it as json:'{"a": 1}' or json:@FILE""")
        return Json(file=rest[1:]) if rest.startswith("@") else Json(text=rest)
    if kind == "synthetic":
        return _synthetic(text, rest)
    raise _wrong(text, "it is one of frames:VIDEO, features:PLAN:POINT, file:GLOB, json:TEXT, synthetic:SIZE")


def _synthetic(text: str, rest: str) -> Synthetic:
    size, _, content = rest.partition(":")
    if size in get_args(Content):
        size, content = "", size
    content = content or "random"
    if content == "picture":
        sides = _SIDES.fullmatch(size)
        if size and (sides is None or min(int(sides[1]), int(sides[2])) < 16):
            raise _wrong(
                text, "write the size of a picture as WIDTHxHEIGHT, each from 16, e.g. synthetic:640x480:picture"
            )
        return Synthetic("picture", width=int(sides[1]), height=int(sides[2])) if sides else Synthetic("picture")
    if content not in ("random", "zeros"):
        raise _wrong(text, f"its content is one of {', '.join(get_args(Content))}")
    try:
        size_bytes = parse_bytes(f"{size}B" if size[-1:] in ("k", "M") else size) if size else _DEFAULT_BYTES
    except ValueError as exc:
        raise _wrong(text, f"its size {exc}") from exc
    if not 0 <= size_bytes <= _MOST_BYTES:
        raise _wrong(text, f"its size is from 0 to {_MOST_BYTES} bytes")
    return Synthetic("random" if content == "random" else "zeros", size_bytes)


def _wrong(text: str, advice: str) -> PayloadError:
    return PayloadError("is not understood", spec=text, advice=advice)
