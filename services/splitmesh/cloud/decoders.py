"""Owns the choice of decoder for a payload. Refuses a codec that does not fit the cut, before any of it is decoded.

A payload says its codec in its fourth byte, whatever its layout. Knows no sessions, streams or messages. A worker may
lack the video libraries; what needs them is then refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from splitmesh.codec.compact.intra import Tables, check_expected, decode_compact, find_table
from splitmesh.codec.container import MAGIC
from splitmesh.codec.exact import decode_exact
from splitmesh.codec.features import decode_features
from splitmesh.codec.head import parse_head
from splitmesh.codec.picture import decode_picture
from splitmesh.codec.registry import CODECS, codec_name
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.errors import CodecError

Content = dict[str, npt.NDArray[np.float32]] | npt.NDArray[np.uint8]
"""Tensors by wire name, or a picture (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a payload for one cut must hold: tensors of these `shapes`, or without any a picture of `size` (H, W)."""

    shapes: Mapping[str, tuple[int, ...]]
    size: tuple[int, int]

    @property
    def kind(self) -> str:
        return "features" if self.shapes else "picture"


class StreamDecoder(Protocol):
    """Decodes the payloads of one stream, one after another, on one thread at a time."""

    @property
    def state_bytes(self) -> int:
        """About so much memory is kept between payloads."""

    def decode(self, payload: bytes) -> Any:
        """Raises NeedKeyframe, CodecError."""


def codec_of(payload: bytes, expected: Expected) -> str:
    """Raises CodecError for what is no payload, and for a codec of another kind than `expected`."""
    if len(payload) < len(MAGIC) + 2 or payload[: len(MAGIC)] != MAGIC:
        raise CodecError(f"payload of {len(payload)} bytes does not start with {MAGIC!r}")
    codec = codec_name(payload[len(MAGIC) + 1])
    if CODECS[codec].kind != expected.kind:
        raise CodecError(f"payload is coded with {codec!r}, which is not a {expected.kind.rstrip('s')} codec")
    return codec


def decode_alone(payload: bytes, expected: Expected, tables: Tables) -> Content:
    """What a payload that belongs to no stream holds. Raises CodecError, NeedTable among them."""
    codec = codec_of(payload, expected)
    if CODECS[codec].stateful:
        raise CodecError(f"payload is coded with {codec!r}, but its request names no stream")
    if codec == "compact":
        return decode_compact(payload, tables=tables, expect=expected.shapes)
    if expected.shapes:
        return decode_features(payload, expect=expected.shapes)
    if codec == "webp":
        try:
            from splitmesh.media.webp import decode_webp
        except ModuleNotFoundError as exc:
            raise _without(codec, exc) from exc
        return decode_webp(payload, expect=expected.size)
    if codec == "exact":
        return decode_exact(payload, expect=expected.size)
    return decode_picture(payload, expect=expected.size)


def open_decoder(payload: bytes, expected: Expected, tables: Tables) -> StreamDecoder:
    """The decoder of a stream, by its first payload. Raises CodecError, NeedTable among them."""
    codec = codec_of(payload, expected)
    if codec == "h264":
        return _PictureStream(expected.size)
    if codec == "temporal":
        return _TensorStream(payload, expected, tables)
    raise CodecError(f"payload is coded with {codec!r}, which no stream is made of")


def _without(codec: str, missing: ModuleNotFoundError) -> CodecError:
    return CodecError(
        f"{codec!r} can't be decoded here: {missing.name} is not installed", advice="pip install 'splitmesh[edge]'"
    )


class _PictureStream:
    def __init__(self, size: tuple[int, int]) -> None:
        try:
            from splitmesh.media.h264 import H264Decoder
        except ModuleNotFoundError as exc:
            raise _without("h264", exc) from exc
        self._size = size
        self._decoder = H264Decoder()

    @property
    def state_bytes(self) -> int:
        return self._decoder.state_bytes

    def decode(self, payload: bytes) -> Content:
        return self._decoder.decode(payload, expect=self._size)


KEPT_FRAMES = 16
"""References that a stream keeps: as many frames may be under way between two acknowledgements."""


_STATE_BYTES_PER_ELEMENT = 8
"""Generously: an integer of four bytes, and what is remembered of each component and place."""


class _TensorStream:
    def __init__(self, payload: bytes, expected: Expected, tables: Tables) -> None:
        table = find_table(parse_head(payload)[0], tables)
        check_expected(table, expected.shapes)
        self._shapes = expected.shapes
        self._decoder = TemporalDecoder(table, kept=KEPT_FRAMES)

    @property
    def state_bytes(self) -> int:
        elements = sum(math.prod(shape) for shape in self._shapes.values())
        return KEPT_FRAMES * elements * _STATE_BYTES_PER_ELEMENT

    def decode(self, payload: bytes) -> Content:
        tensors = self._decoder.decode(payload)
        return {name: tensors[name] for name in self._shapes}
