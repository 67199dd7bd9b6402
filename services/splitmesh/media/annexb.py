"""Owns what a frame of an H.264 stream may look like before a decoder sees it. Decodes no picture.

A frame is an Annex B byte stream (ITU-T H.264, annex B): parameter sets and one IDR slice if it is a key, one other
slice if not. Whatever else H.264 knows (several slices, fields, many references, other chroma) is refused here, so
that a decoder's memory and time follow from the picture's size alone.
"""

from __future__ import annotations

from typing import Final

from splitmesh.errors import CodecError

MAX_REFERENCES: Final = 4
"""Earlier frames that a stream may hold on to."""

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_KEY: Final = (_SPS, _PPS, _IDR)
_START: Final = b"\0\0\1"
_MAX_PARAMETER_BYTES: Final = 256
_PROFILES: Final = {66, 77, 88, 100, 244}
_WITH_CHROMA_FORMAT: Final = {100, 244}


def without_extras(stream: bytes) -> bytes:
    """The same frame with three-byte start codes, and without delimiters and messages that decode to nothing."""
    return b"".join(_START + unit for unit in split(stream) if _kind(unit) in (_SLICE, _IDR, _SPS, _PPS))


def split(stream: bytes) -> list[bytes]:
    """The NAL units of `stream`. Raises CodecError unless it begins with a start code and none is empty."""
    parts = stream.split(_START)
    lead = parts.pop(0)
    units = [part.rstrip(b"\0") for part in parts]
    if lead.strip(b"\0") or not units or not all(units):
        raise CodecError("frame is no H.264 byte stream")
    return units


def check_frame(stream: bytes, *, key: bool, width: int, height: int, chroma: bool = True) -> None:
    """Raises CodecError unless `stream` is one frame of one slice, with parameter sets for `width` × `height` if key.

    The size is the one in the parameter sets, in pixels after cropping; `chroma`: 4:2:0, else luma alone.
    """
    if stream.count(_START) != (len(_KEY) if key else 1):
        raise CodecError("frame of H.264 is not one slice, after its parameter sets if it is a key")
    units = split(stream)
    kinds = tuple(_kind(unit) for unit in units)
    if kinds != (_KEY if key else (_SLICE,)):
        raise CodecError(f"{'key ' if key else ''}frame of H.264 has NAL units {kinds}")
    if key:
        if max(len(units[0]), len(units[1])) > _MAX_PARAMETER_BYTES:
            raise CodecError(f"parameter sets of H.264 exceed {_MAX_PARAMETER_BYTES} bytes")
        _check_sequence(units[0][1:], width, height, chroma)


def _kind(unit: bytes) -> int:
    return unit[0] & 0x1F


class _Bits:
    """Reads the bits of a NAL unit, most significant first, without its emulation prevention bytes."""

    def __init__(self, payload: bytes) -> None:
        clean = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(clean)
        self._left = 8 * len(clean)

    def take(self, count: int) -> int:
        if count > self._left:
            raise CodecError("parameter set of H.264 ends early")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        """ue(v), clause 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise CodecError("parameter set of H.264 holds a number of more than 32 bits")
        return (1 << zeros) - 1 + self.take(zeros)


def _check_sequence(payload: bytes, width: int, height: int, with_chroma: bool) -> None:
    """Clause 7.3.2.1.1, as far as it bounds memory."""
    bits = _Bits(payload)
    profile = bits.take(8)
    bits.take(16)  # constraint flags, level
    bits.exp_golomb()
    if profile not in (_PROFILES if with_chroma else _WITH_CHROMA_FORMAT):
        raise CodecError(f"H.264 stream has profile {profile}")
    if profile in _WITH_CHROMA_FORMAT:
        chroma, luma_depth, chroma_depth = bits.exp_golomb(), bits.exp_golomb(), bits.exp_golomb()
        bits.take(1)
        if (chroma, luma_depth, chroma_depth, bits.take(1)) != (int(with_chroma), 0, 0, 0):
            raise CodecError(f"H.264 stream is not 8 bits of {'4:2:0' if with_chroma else 'luma'} with flat scaling")
    bits.exp_golomb()
    order = bits.exp_golomb()
    if order == 0:
        bits.exp_golomb()
    elif order != 2:
        raise CodecError(f"H.264 stream has picture order {order}")
    references, gaps = bits.exp_golomb(), bits.take(1)
    if references > MAX_REFERENCES or gaps:
        raise CodecError(f"H.264 stream keeps {references} references (gaps allowed: {gaps})")
    columns, rows, whole_frames = bits.exp_golomb() + 1, bits.exp_golomb() + 1, bits.take(1)
    bits.take(1)
    left, right, top, bottom = (bits.exp_golomb() for _ in range(4)) if bits.take(1) else (0, 0, 0, 0)
    unit = 2 if with_chroma else 1
    size = (16 * columns - unit * (left + right), 16 * rows - unit * (top + bottom))
    tight = max(left, top) == 0 and max(right, bottom) < 16 // unit
    if not whole_frames or not tight or size != (width, height):
        raise CodecError(f"H.264 stream is {size[0]}×{size[1]}, expected {width}×{height} in whole frames")
