"""Owns the choice of encoder for an operating point. Holds no stream and sends nothing.

What it makes is called on the codec thread.
"""

from __future__ import annotations

from typing import Any, Protocol

from splitmesh.codec.compact.intra import encode_compact
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.features import encode_features
from splitmesh.codec.picture import encode_picture
from splitmesh.codec.registry import FEATURE_CODECS
from splitmesh.codec.temporal.encoder import TemporalEncoder
from splitmesh.errors import CodecError
from splitmesh.media.h264 import H264Encoder
from splitmesh.media.webp import encode_webp
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.point import OperatingPoint


class Coded(Protocol):
    """One payload of a stream."""

    @property
    def payload(self) -> bytes: ...

    @property
    def number(self) -> int:
        """Of the frame in its stream, as acknowledgements name it."""

    @property
    def key(self) -> bool:
        """It builds on nothing."""

    @property
    def level(self) -> int:
        """As asked, or coarser."""


class StreamEncoder(Protocol):
    """Codes a stream's frames, each by what the worker is known to hold. One thread at a time."""

    def encode(self, content: Any, *, level: int, limit_bytes: float) -> Coded:
        """`content`: tensors by wire name, or a picture (H, W, 3) uint8 RGB. limit_bytes: coarser rather than larger,
        if the codec can. Raises CodecError."""

    def acknowledged(self, number: int) -> None:
        """The worker has decoded that frame."""

    def lost(self, number: int) -> None:
        """That frame will not be acknowledged."""

    def reset(self) -> None:
        """Forget all: the next frame is a key."""


class Coding:
    """`bundle`: whose cuts, tables and input size these are."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._size = (bundle.manifest.height, bundle.manifest.width)

    def alone(self, point: OperatingPoint, content: Any) -> bytes:
        """One payload that builds on nothing, of a codec without state. Raises CodecError."""
        if point.codec in FEATURE_CODECS:
            return encode_features(content, codec=point.codec, level=point.level)
        if point.codec == "compact":
            return encode_compact(content, table=self.table(point.cut), level=point.level)
        if point.codec == "webp":
            return encode_webp(content, quality=point.level)
        return encode_picture(content, quality=point.level)

    def stream(self, codec: str, cut: str) -> StreamEncoder:
        """Raises CodecError for a codec that no stream is made of."""
        if codec == "temporal":
            return TemporalEncoder(self.table(cut))
        if codec == "h264":
            return _Pictures(self._size)
        raise CodecError(f"no stream is made of {codec!r}")

    def table(self, cut: str) -> CompactTable:
        """Raises CodecError if the plan has none for `cut`."""
        table = self._bundle.table(cut)
        if table is None:
            raise CodecError(f"the plan has no table for cut {cut!r}", advice="plan again, with footage")
        return table


class _Pictures:
    """H.264 pictures: each builds on the one before, so that whatever is lost breaks the chain."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._encoder: H264Encoder | None = None

    def encode(self, content: Any, *, level: int, limit_bytes: float) -> Coded:
        """Whatever its size: the encoder can't take a picture back."""
        if self._encoder is None:
            self._encoder = H264Encoder(self._size, level=level)
        return self._encoder.encode(content, level=level)

    def acknowledged(self, number: int) -> None:
        """Nothing follows from it: the next builds on the last in any case."""

    def lost(self, number: int) -> None:
        self.reset()

    def reset(self) -> None:
        if self._encoder is not None:
            self._encoder.reset()
