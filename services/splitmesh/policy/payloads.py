"""Owns what a payload is expected to weigh: calibrated size × what this scene was measured to need, key or not.

Sizes depend on the scene, above all those of codecs that code only what changed: so each (cut, codec) has a ratio of
its own, measured ÷ calibrated, and another for keys. A codec with state (`OperatingPoint.key_bytes` > 0) needs a
reference that its worker holds; levels of one cut and codec share it.
"""

from __future__ import annotations

from enum import Enum

from splitmesh.policy.estimators import ScaleEstimator
from splitmesh.policy.point import OperatingPoint

MESSAGE_BYTES = 210.0
"""What a request adds to its payload on the wire; see docs/protocol.md."""
STREAM_MESSAGE_BYTES = 110.0
"""The same on a stream that its worker has opened."""
_LEAST_RATIO, _MOST_RATIO = 0.1, 10.0
_KEY_LIFE_FRAMES = 30.0
"""Taken to follow a key before anything is known; and the weight of that assumption, in frames."""
_MOST_LIFE_FRAMES = 150.0
_FADE = 0.99
_KEY_PER_LEVEL = frozenset({"h264", "video"})
"""Codecs whose encoder begins anew when its level changes."""


class Reference(Enum):
    """Whether a stream's next payload can build on an earlier one."""

    NONE = "none"
    COMING = "coming"
    """A key is under way."""
    ALIVE = "alive"


class Payloads:
    """Events in, expectations out."""

    def __init__(self) -> None:
        self._ratios: dict[tuple[str, str, bool], ScaleEstimator] = {}
        self._references: dict[tuple[str, str], Reference] = {}
        self._sent: dict[tuple[str, str], tuple[float, float]] = {}
        self._levels: dict[tuple[str, str], int] = {}

    def on_sent(self, point: OperatingPoint, size_bytes: int, *, key: bool) -> None:
        """A payload of `point` weighs `size_bytes`. key: of a codec with state, one that builds on nothing."""
        calibrated = point.key_bytes if key else point.payload_bytes
        self._ratios.setdefault((point.cut, point.codec, key), ScaleEstimator()).observe(size_bytes, calibrated)
        if point.key_bytes:
            self._levels[_stream(point)] = point.level
            frames, keys = self._sent.get(_stream(point), (_KEY_LIFE_FRAMES, 1.0))
            self._sent[_stream(point)] = _FADE * frames + 1, _FADE * keys + key

    def on_reference(self, codec: str, cut: str, reference: Reference) -> None:
        self._references[cut, codec] = reference

    def reference(self, point: OperatingPoint) -> Reference:
        """ALIVE for codecs without state: their payloads build on nothing."""
        if not point.key_bytes:
            return Reference.ALIVE
        return self._references.get(_stream(point), Reference.NONE)

    def needs_key(self, point: OperatingPoint) -> bool:
        """The next payload of `point` will build on nothing."""
        if self.reference(point) is not Reference.ALIVE:
            return True
        return point.codec in _KEY_PER_LEVEL and self._levels.get(_stream(point), point.level) != point.level

    def key_life_frames(self, point: OperatingPoint) -> float:
        """Frames that a key is expected to serve: as many as keys of this stream have served of late."""
        frames, keys = self._sent.get(_stream(point), (_KEY_LIFE_FRAMES, 1.0))
        return min(max(frames / max(keys, 1 / _MOST_LIFE_FRAMES), 2.0), _MOST_LIFE_FRAMES)

    def expected(self, point: OperatingPoint, *, key: bool = False) -> float:
        """Bytes of the next payload of `point`; `key`: of one that builds on nothing."""
        ratio = self._ratios.get((point.cut, point.codec, key))
        scale = 1.0 if ratio is None else min(max(ratio.value, _LEAST_RATIO), _MOST_RATIO)
        return (point.key_bytes if key else point.payload_bytes) * scale

    def around(self, point: OperatingPoint, *, key: bool = False) -> float:
        """Bytes that the message adds."""
        return STREAM_MESSAGE_BYTES if point.key_bytes and not key else MESSAGE_BYTES


def same_stream(one: OperatingPoint, other: OperatingPoint) -> bool:
    """Both are levels of one codec with state, at one cut, and changing between them costs nothing."""
    free = one.codec not in _KEY_PER_LEVEL or one.level == other.level
    return bool(one.key_bytes and other.key_bytes) and _stream(one) == _stream(other) and free


def _stream(point: OperatingPoint) -> tuple[str, str]:
    return point.cut, point.codec
