"""Owns the names, identifiers and levels of the codecs. Codes nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from splitmesh.errors import CodecError


@dataclass(frozen=True, slots=True)
class CodecFacts:
    """What a codec is, before anything is coded with it."""

    wire_id: int
    """The byte that stands for it in a payload."""
    kind: Literal["features", "picture"]
    levels: tuple[int, ...]
    """Those that calibration tries, best fidelity first; (): it searches them."""
    low: int
    high: int
    """Bounds of a level."""
    table: bool = False
    """Both ends need the cut's calibration table."""
    stateful: bool = False
    """A payload may build on earlier ones of the same stream."""


CODECS: Final[dict[str, CodecFacts]] = {
    "u8lz4": CodecFacts(1, "features", (8, 6, 5, 4, 3), 3, 8),
    "u8zstd": CodecFacts(2, "features", (8, 6, 5, 4, 3), 3, 8),
    "compact": CodecFacts(3, "features", (), 0, 255, table=True),
    "temporal": CodecFacts(4, "features", (), 0, 255, table=True, stateful=True),
    "video": CodecFacts(5, "features", (), 0, 255, table=True, stateful=True),
    "jpeg": CodecFacts(16, "picture", (95, 85, 70, 50, 30), 1, 100),
    "webp": CodecFacts(17, "picture", (95, 85, 70, 50, 30), 1, 100),
    "h264": CodecFacts(18, "picture", (), 0, 51, stateful=True),
    "roijpeg": CodecFacts(19, "picture", (85, 60), 1, 100),
    "exact": CodecFacts(20, "picture", (), 1, 1),
}

FEATURE_CODECS: Final[dict[str, tuple[int, ...]]] = {name: CODECS[name].levels for name in ("u8lz4", "u8zstd")}
"""Codecs of tensors that need neither table nor state → their levels (quantiser bits), best fidelity first."""

PICTURE_CODECS: Final[dict[str, tuple[int, ...]]] = {"jpeg": CODECS["jpeg"].levels}
"""Codecs of pictures that need no video library → their levels (JPEG quality), best fidelity first."""

_NAMES: Final[dict[int, str]] = {facts.wire_id: name for name, facts in CODECS.items()}


def wire_id(codec: str) -> int:
    """The byte that stands for `codec` in a payload. Raises CodecError for an unknown name."""
    try:
        return CODECS[codec].wire_id
    except KeyError:
        raise CodecError(f"unknown codec {codec!r}", advice=f"known: {', '.join(CODECS)}") from None


def codec_name(number: int) -> str:
    """The codec that the payload byte `number` stands for. Raises CodecError for an unknown one."""
    try:
        return _NAMES[number]
    except KeyError:
        raise CodecError(f"unknown codec id {number}", advice="is the sender newer than this process?") from None


def check_level(codec: str, level: int) -> None:
    """Raises CodecError unless `codec` is known and `level` within its bounds."""
    wire_id(codec)
    facts = CODECS[codec]
    if not facts.low <= level <= facts.high:
        raise CodecError(f"level {level} of {codec} is outside {facts.low} … {facts.high}")
