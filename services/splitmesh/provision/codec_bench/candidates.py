"""Owns which codecs are compared at a plan's cuts and on the picture, and why one can't be. Codes nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from splitmesh.codec.coders import FeatureCoder, PictureCoder
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer, parse
from splitmesh.codec.picture import JpegCoder
from splitmesh.codec.registry import CODECS, FEATURE_CODECS
from splitmesh.codec.roi import RoiJpegCoder
from splitmesh.codec.table_coders import feature_coder
from splitmesh.media.h264 import H264Coder, has_h264
from splitmesh.media.planes_video import VideoCoder
from splitmesh.media.webp import WebpCoder, has_webp

FEATURES = tuple(name for name, facts in CODECS.items() if facts.kind == "features")
"""Names of the codecs of tensors."""
TABLED = tuple(name for name in FEATURES if CODECS[name].table)
_QUALITIES = (5, 12, 25, 40, 55, 70, 85, 95, 99)
_ROI_QUALITIES = (25, 40, 55, 70, 85)
_CRFS = (44, 39, 34, 30, 26, 22, 17, 11, 6, 2)
_NO_X264 = "this build of FFmpeg has no libx264; install PyAV's own wheel"

C = TypeVar("C", FeatureCoder, PictureCoder)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[C]):
    """A codec that a curve is to be drawn of."""

    name: str
    make: Callable[[int], C]
    """Level → a new coder. Raises CodecError for a level that it does not have."""
    levels: tuple[int, ...] = ()
    """Those to measure; (): they are searched."""


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
    plain = partial(feature_coder, shapes=shapes, table=None)
    found = [Candidate(name, partial(plain, name), levels) for name, levels in FEATURE_CODECS.items()]
    if table is None:
        return found, [f"{', '.join(TABLED)}: the plan has no table of this cut; make it again on a video"]
    missing = []
    for name in TABLED:
        if name == "video" and not has_h264():
            missing.append(f"video: {_NO_X264}")
            continue
        tabled = partial(feature_coder, name, shapes=shapes, table=table)
        found.append(Candidate(name, partial(VideoCoder, table) if name == "video" else tabled))
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
        missing.append(f"x264: {_NO_X264}")
    if objects:
        found.append(Candidate("roijpeg", partial(RoiJpegCoder, size=size), _ROI_QUALITIES))
    return found, missing
