"""Owns which codecs are compared at a plan's cuts and on the picture, and why one can't be. Codes nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from splitmesh.codec.coders import FeatureCoder, PictureCoder, StatelessFeatures
from splitmesh.codec.container import Buffer, parse
from splitmesh.codec.picture import JpegCoder
from splitmesh.codec.registry import CODECS, FEATURE_CODECS
from splitmesh.media.h264 import H264Coder, has_h264
from splitmesh.media.webp import WebpCoder, has_webp

FEATURES = tuple(name for name, facts in CODECS.items() if facts.kind == "features")
"""Names of the codecs of tensors."""
_QUALITIES = (5, 10, 20, 35, 50, 65, 80, 90, 95)
_CRFS = (45, 41, 37, 33, 29, 25, 21, 17, 12, 7)

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


def feature_candidates(shapes: Mapping[str, tuple[int, ...]]) -> list[Candidate[FeatureCoder]]:
    """The codecs of a cut with `shapes` (wire name → wire shape)."""
    found: list[Candidate[FeatureCoder]] = []
    for name, levels in FEATURE_CODECS.items():
        found.append(Candidate(name, partial(StatelessFeatures, name, shapes=shapes), levels))
    return found


def picture_candidates(size: tuple[int, int]) -> tuple[list[Candidate[PictureCoder]], list[str]]:
    """The four that others are held against, for pictures of `size` (H, W); and why one is missing."""

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
    return found, missing
