"""Owns what every coder looks like to those who measure codecs against each other, and the plain ones as such.

Codes nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from splitmesh.codec.container import Buffer
from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import JpegCoder
from splitmesh.codec.registry import PICTURE_CODECS

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


class FeatureCoder(Protocol):
    """Codes one cut's tensors, frame after frame, at one level. A stateful codec builds on the frames before."""

    @property
    def codec(self) -> str:
        """Name in `codec.registry.CODECS`."""

    @property
    def level(self) -> int: ...

    def encode(self, tensors: Mapping[str, F32]) -> bytes:
        """One payload of `tensors` (wire name → float32 (1, C, …)). Raises CodecError for NaN, Inf, other shapes."""

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """Raises CodecError."""

    def reset(self) -> None:
        """Forget earlier frames: the next one follows nothing."""


class PictureCoder(Protocol):
    """Codes pictures (H, W, 3) uint8 RGB of one size, frame after frame, at one level."""

    @property
    def codec(self) -> str:
        """Name in `codec.registry.CODECS`."""

    @property
    def level(self) -> int: ...

    def encode(self, rgb: U8) -> bytes: ...

    def decode(self, payload: Buffer) -> U8:
        """Raises CodecError."""

    def reset(self) -> None:
        """Forget earlier frames: the next one follows nothing."""


@dataclass(frozen=True, slots=True)
class StatelessFeatures:
    """A codec of `FEATURE_CODECS` at one level, for a cut with `shapes` (wire name → wire shape)."""

    codec: str
    level: int
    shapes: Mapping[str, tuple[int, ...]]

    def encode(self, tensors: Mapping[str, F32]) -> bytes:
        """Raises CodecError; see `encode_features`."""
        return encode_features(tensors, codec=self.codec, level=self.level)

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """Raises CodecError; see `decode_features`."""
        return decode_features(payload, expect=self.shapes)

    def reset(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class PictureKind:
    """A way to code pictures, at the levels that calibration measures."""

    codec: str
    levels: tuple[int, ...]
    make: Callable[[int, tuple[int, int]], PictureCoder]
    """Level and size (H, W) → a new coder."""


JPEG = PictureKind("jpeg", PICTURE_CODECS["jpeg"], JpegCoder)
