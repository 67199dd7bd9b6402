"""Owns what a payload is expected to weigh: calibrated size × what this scene was measured to need, key or not.

Sizes depend on the scene, above all those of codecs that code only what changed: so each (cut, codec) has a ratio of
its own, measured ÷ calibrated, and another for keys. A codec with state (`OperatingPoint.key_bytes` > 0) needs a
reference that its worker holds; levels of one cut and codec share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum

import numpy as np

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
_FADE_IN_FRAMES = 16
"""After so many that are still coarser than wanted, the scene is taken to be as large as it is."""
_OCTAVE = 8.0
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
        self._scales: dict[tuple[str, str, bool], float] = {}
        """Their values, within bounds."""
        self._references: dict[tuple[str, str], Reference] = {}
        self._sent: dict[tuple[str, str], tuple[float, float]] = {}
        self._levels: dict[tuple[str, str], int] = {}
        self._fading: dict[tuple[str, str], int] = {}
        """Frames for which a stream may yet bring what its key left out."""

    def on_sent(self, point: OperatingPoint, size_bytes: int, *, key: bool, coarser: bool = False) -> None:
        """A payload of `point` weighs `size_bytes`. key: of a codec with state, one that builds on nothing. coarser:
        `point` is what was left of another for want of room.

        What follows a coarser key brings what that one left out: it says nothing of those that come after.
        """
        stream = _stream(point)
        fading = 0 if key else self._fading.get(stream, 0)
        if not fading or not coarser:
            calibrated = point.key_bytes if key else point.payload_bytes
            ratio = self._ratios.setdefault((*stream, key), ScaleEstimator())
            ratio.observe(size_bytes, calibrated)
            self._scales[*stream, key] = min(max(ratio.value, _LEAST_RATIO), _MOST_RATIO)
        if point.key_bytes:
            left = _FADE_IN_FRAMES if key else fading - 1
            self._fading[stream] = max(0, left) if coarser else 0
            self._levels[stream] = point.level
            frames, keys = self._sent.get(stream, (_KEY_LIFE_FRAMES, 1.0))
            self._sent[stream] = _FADE * frames + 1, _FADE * keys + key

    def on_reference(self, codec: str, cut: str, reference: Reference) -> None:
        self._references[cut, codec] = reference

    def reference(self, point: OperatingPoint) -> Reference:
        """ALIVE for codecs without state: their payloads build on nothing."""
        if not point.key_bytes:
            return Reference.ALIVE
        return self._references.get((point.cut, point.codec), Reference.NONE)

    def reference_of(self, stream: tuple[str, str]) -> Reference:
        """Of the stream of that cut and codec."""
        return self._references.get(stream, Reference.NONE)

    def streams(self, reference: Reference) -> set[tuple[str, str]]:
        """Cut and codec of those whose reference is such."""
        return {stream for stream, known in self._references.items() if known is reference}

    def needs_key(self, point: OperatingPoint) -> bool:
        """The next payload of `point` will build on nothing."""
        if not point.key_bytes:
            return False
        if self.reference(point) is not Reference.ALIVE:
            return True
        return point.codec in _KEY_PER_LEVEL and self._levels.get(_stream(point), point.level) != point.level

    def by_need_of_key(self, points: Iterable[OperatingPoint]) -> tuple[list[OperatingPoint], list[OperatingPoint]]:
        """(those of which `needs_key` is false, those of which it is true)."""
        plain: list[OperatingPoint] = []
        keyed: list[OperatingPoint] = []
        known, per_level, alive = self._references, _KEY_PER_LEVEL, Reference.ALIVE
        for point in points:
            # Without a call for most: they have no state, or their stream goes on whatever its level.
            if not point.key_bytes or (known.get((point.cut, point.codec)) is alive and point.codec not in per_level):
                plain.append(point)
            else:
                (keyed if self.needs_key(point) else plain).append(point)
        return plain, keyed

    def key_life_frames(self, point: OperatingPoint) -> float:
        """Frames that a key is expected to serve: as many as keys of this stream have served of late."""
        frames, keys = self._sent.get(_stream(point), (_KEY_LIFE_FRAMES, 1.0))
        return min(max(frames / max(keys, 1 / _MOST_LIFE_FRAMES), 2.0), _MOST_LIFE_FRAMES)

    def expected(self, point: OperatingPoint, *, key: bool = False) -> float:
        """Bytes of the next payload of `point`; `key`: of one that builds on nothing."""
        return (point.key_bytes if key else point.payload_bytes) * self._scales.get(
            (point.cut, point.codec, key), 1.0
        )

    def all_keys(self, points: Iterable[OperatingPoint]) -> list[float]:
        """`expected` of each of the points, `key`."""
        return [p.key_bytes * self._scales.get((p.cut, p.codec, True), 1.0) for p in points]

    def around(self, point: OperatingPoint, *, key: bool = False) -> float:
        """Bytes that the message adds."""
        return STREAM_MESSAGE_BYTES if point.key_bytes and not key else MESSAGE_BYTES

    def message_bytes(self, point: OperatingPoint, *, key: bool) -> float:
        """What is expected of the next payload and of the message around it."""
        return self.all_message_bytes((point,), key=key)[0]

    def all_message_bytes(self, points: Iterable[OperatingPoint], *, key: bool) -> list[float]:
        """`message_bytes` of each of the points."""
        scales = self._scales
        if key:
            return [size + MESSAGE_BYTES for size in self.all_keys(points)]
        return [
            p.payload_bytes * scales.get((p.cut, p.codec, key), 1.0)
            + (STREAM_MESSAGE_BYTES if p.key_bytes else MESSAGE_BYTES)
            for p in points
        ]


def coarser_at_will(point: OperatingPoint) -> bool:
    """Its encoder makes a payload that is too large coarser, and later ones make up for it; see `at_level`."""
    return bool(point.key_bytes) and point.codec not in _KEY_PER_LEVEL


def part_of_key(key_bytes: float, room_bytes: float) -> float:
    """How much of a key of `key_bytes` comes in each payload of `room_bytes`, in (0, 1]; see `coarser_at_will`."""
    return 1.0 if room_bytes >= key_bytes else room_bytes / key_bytes


def fading_in(fidelity: float, part: float) -> float:
    """While a key comes in such parts. It goes with the root of the part, a guess on the safe side: a plan of the
    default detector keeps 0.97 with keys of 4.2 kB and 0.81 with keys of 2.3 kB."""
    return fidelity * math.sqrt(part)


def at_level(point: OperatingPoint, level: int, known: Iterable[OperatingPoint]) -> OperatingPoint:
    """`point` at another level of its stream: between those of `known` as these are, below them half of everything
    for each octave of `_OCTAVE` levels."""
    if level == point.level:
        return point
    mine = sorted((p for p in known if same_stream(p, point) and p.variant == point.variant), key=lambda p: p.level)
    mine = mine or [point]
    levels = [p.level for p in mine]
    below: float = 0.5 ** (max(0, levels[0] - level) / _OCTAVE)

    def between(values: list[float]) -> float:
        return below * math.exp(np.interp(level, levels, np.log(np.maximum(values, 1e-3))))

    return replace(
        point,
        level=level,
        fidelity=between([p.fidelity for p in mine]),
        payload_bytes=between([p.payload_bytes for p in mine]),
        key_bytes=between([p.key_bytes for p in mine]),
    )


def same_stream(one: OperatingPoint, other: OperatingPoint) -> bool:
    """Both are levels of one codec with state, at one cut, and changing between them costs nothing."""
    if one.codec != other.codec or one.cut != other.cut or not (one.key_bytes and other.key_bytes):
        return False
    return one.codec not in _KEY_PER_LEVEL or one.level == other.level


def _stream(point: OperatingPoint) -> tuple[str, str]:
    return point.cut, point.codec
