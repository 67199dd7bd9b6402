"""Owns the names, identifiers and levels of the codecs. Codes nothing itself."""

from __future__ import annotations

from typing import Final

from splitmesh.errors import CodecError

FEATURE_CODECS: Final[dict[str, tuple[int, ...]]] = {
    "u8lz4": (8, 6, 5, 4, 3),
    "u8zstd": (8, 6, 5, 4, 3),
}
"""Codecs of tensors → their levels (quantiser bits), best fidelity first."""

PICTURE_CODECS: Final[dict[str, tuple[int, ...]]] = {"jpeg": (95, 85, 70, 50, 30)}
"""Codecs of pictures → their levels (JPEG quality), best fidelity first."""

_WIRE_IDS: Final[dict[str, int]] = {"u8lz4": 1, "u8zstd": 2, "jpeg": 16}
_NAMES: Final[dict[int, str]] = {number: name for name, number in _WIRE_IDS.items()}


def wire_id(codec: str) -> int:
    """The byte that stands for `codec` in a payload. Raises CodecError for an unknown name."""
    try:
        return _WIRE_IDS[codec]
    except KeyError:
        raise CodecError(f"unknown codec {codec!r}", advice=f"known: {', '.join(_WIRE_IDS)}") from None


def codec_name(number: int) -> str:
    """The codec that the payload byte `number` stands for. Raises CodecError for an unknown one."""
    try:
        return _NAMES[number]
    except KeyError:
        raise CodecError(f"unknown codec id {number}", advice="is the sender newer than this process?") from None


def check_level(codec: str, level: int) -> None:
    """Raises CodecError unless `level` is one of the levels of `codec`; a picture codec takes any quality 1 … 100."""
    if codec in PICTURE_CODECS:
        if not 1 <= level <= 100:
            raise CodecError(f"quality {level} of {codec} is outside 1 … 100")
        return
    levels = FEATURE_CODECS.get(codec)
    if levels is None:
        raise CodecError(f"unknown feature codec {codec!r}", advice=f"known: {', '.join(FEATURE_CODECS)}")
    if level not in levels:
        raise CodecError(f"level {level} of {codec} is not one of {', '.join(map(str, levels))}")
