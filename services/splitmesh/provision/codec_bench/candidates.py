"""Owns which codecs are compared at a plan's cuts and on the picture, and why one can't be. Codes nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from splitmesh.codec.coders import FeatureCoder, PictureCoder
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer, parse
from splitmesh.codec.picture import JpegCoder
from splitmesh.codec.registry import CODECS
from splitmesh.codec.roi import RoiJpegCoder
from splitmesh.codec.table_coders import feature_coder
from splitmesh.media.h264 import H264Coder, has_h264
from splitmesh.media.webp import WebpCoder, has_webp

FEATURES = tuple(name for name, facts in CODECS.items() if facts.kind == "features")
"""Names of the codecs of tensors."""
_QUALITIES = (5, 12, 25, 40, 55, 70, 85, 95)
_ROI_QUALITIES = (25, 40, 55, 70, 85)
_CRFS = (44, 39, 34, 30, 26, 22, 17, 11)

C = TypeVar("C", FeatureCoder, PictureCoder)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[C]):
    """A codec that a curve is to be drawn of."""

    name: str
    make: Callable[[int], C]
    """Level → a new coder. Raises CodecError for a level that it does not have."""
    levels: tuple[int, ...] = ()
    """Those to measure; (): they are searched between `low` and `high`."""
    low: int = 0
    high: int = 0


class BarePicture:
    """A picture coder whose bytes are counted without the envelope of splitmesh: what others would send, no more.

    `decode` takes what `encode` gave last, and nothing else.
    """

    def __init__(self, coder: PictureCoder) -> None:
        self._coder = coder
        self._payload = b""

    @property
    def codec(self) -> str:
        return self._coder.codec

    @property
    def level(self) -> int:
        return self._coder.level

    def encode(self, rgb: npt.NDArray[np.uint8]) -> bytes:
        """The JPEG, WebP or H.264 frame in the payload."""
        self._payload = self._coder.encode(rgb)
        return bytes(parse(self._payload).sections[0].data)

    def decode(self, payload: Buffer) -> npt.NDArray[np.uint8]:
        """Raises CodecError."""
        return self._coder.decode(self._payload)

    def reset(self) -> None:
        self._coder.reset()


def feature_candidates(
    shapes: Mapping[str, tuple[int, ...]], table: CompactTable | None
) -> tuple[list[Candidate[FeatureCoder]], list[str]]:
    """The codecs of a cut with `shapes` (wire name → wire shape) and the plan's table; and why one is missing."""
    found: list[Candidate[FeatureCoder]] = []
    missing = []
    for name in FEATURES:
        facts = CODECS[name]
        if name in ("temporal", "video") and find_spec(f"splitmesh.codec.{name}") is None:  # TEMPORARY
            continue
        if facts.table and table is None:
            missing.append(f"{name}: the plan has no table for this cut; make it again on a video")
            continue
        make = partial(feature_coder, name, shapes=shapes, table=table)
        found.append(Candidate(name, make, facts.levels, facts.low, facts.high))
    return found, missing


def picture_candidates(size: tuple[int, int], *, objects: bool) -> tuple[list[Candidate[PictureCoder]], list[str]]:
    """The four that others are held against, for pictures of `size` (H, W), and JPEG that is sharp where the last
    answer had `objects`; and why one is missing."""

    def bare(make: Callable[[int], PictureCoder]) -> Callable[[int], PictureCoder]:
        return lambda level: BarePicture(make(level))

    found: list[Candidate[PictureCoder]] = [Candidate("jpeg", bare(partial(JpegCoder, size=size)), _QUALITIES)]
    missing = []
    if has_webp():
        found.append(Candidate("webp", bare(partial(WebpCoder, size=size)), _QUALITIES))
    else:
        missing.append("webp: this build of Pillow has no libwebp")
    if has_h264():
        for name, intra in (("x264_intra", True), ("x264_inter", False)):
            found.append(Candidate(name, bare(partial(H264Coder, size=size, intra=intra)), _CRFS))
    else:
        missing.append("x264: this build of FFmpeg has no libx264; install PyAV's own wheel")
    if objects:
        found.append(Candidate("roijpeg", partial(RoiJpegCoder, size=size), _ROI_QUALITIES))
    return found, missing
