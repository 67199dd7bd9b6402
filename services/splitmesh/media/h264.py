"""Owns the H.264 frame codec: a payload per picture, no delay, each built on the last. Refuses damaged pictures.

Pictures cross as 8 bit 4:2:0, BT.601 full range, as in JPEG: BT.709 and limited range measured no better at equal
bytes. Odd sizes are padded with their last column and row and cropped again. The settings are x264's veryfast and
zerolatency with one slice, without B-frames or intra refresh; a stream runs until a key is asked for or the scene
changes. A level is a CRF. The wrapper can't change the CRF of an open encoder, so that another level begins another
stream, with a key.

What was damaged on its way fails the payload's checksum; what a sender damages on purpose is refused where the
decoder notices it, since no decoder can tell a forged picture from a true one.

In the payload's section, `mode` is 1 for a key, and the side bytes are `<II`: stream, number of the frame in it.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from splitmesh.codec.container import Buffer, Section, build
from splitmesh.codec.picture import check_picture, picture_section
from splitmesh.codec.registry import check_level
from splitmesh.errors import CodecError, NeedKeyframe
from splitmesh.media.annexb import MAX_REFERENCES, check_frame, without_extras

U8 = npt.NDArray[np.uint8]

MAX_SIDE_PX: Final = 4096
_SIDE: Final = struct.Struct("<II")
_ENDLESS: Final = 1 << 30
_MAX_BYTES_PER_PIXEL: Final = 3
_SPARE_BYTES: Final = 4096
_LOW_DELAY: Final = int(av.codec.context.Flags.low_delay)
_FORMATS: Final = ("yuv420p", "yuvj420p")
_EXACT: Final = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_TO_420: Final = Interpolation.AREA | _EXACT
_FROM_420: Final = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | _EXACT
"""Mean chroma down, bicubic up, the same on every machine: 2 to 5 dB better there and back than FFmpeg's quickest,
for 0.6 ms of 300 × 300 pixels."""


def has_h264() -> bool:
    """True if this build of FFmpeg has what both ends need: libx264 and the H.264 decoder."""
    return {"libx264", "h264"} <= av.codecs_available


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded picture. `number` counts from the stream's first; a `key` builds on nothing."""

    payload: bytes
    number: int
    key: bool
    level: int


class H264Encoder:
    """Codes pictures of one size into one stream. One thread at a time.

    `size`: (H, W). `level`: CRF 0 … 51, 0 is lossless after the colour conversion. `intra`: every picture is a key.
    `stream`: names the first stream, by default at random; later ones are random.
    Raises CodecError for sizes and levels out of range, and without libx264.
    """

    def __init__(self, size: tuple[int, int], *, level: int, intra: bool = False, stream: int | None = None) -> None:
        if not 1 <= min(size) <= max(size) <= MAX_SIDE_PX:
            raise CodecError(f"picture of {size[1]}×{size[0]} is outside 1 … {MAX_SIDE_PX} px")
        if not has_h264():
            raise CodecError("this build of FFmpeg has no libx264", advice="install PyAV's own wheel")
        check_level("h264", level)
        self._size = size
        self._level = level
        self._intra = intra
        self._reformatter = VideoReformatter()
        self._context: VideoCodecContext | None = None
        self._given = stream
        self._stream = 0
        self._number = 0

    @property
    def level(self) -> int:
        return self._level

    def encode(self, rgb: U8, *, key: bool = False, level: int | None = None) -> Coded:
        """Code `rgb` (H, W, 3) uint8 RGB; `key`: build on nothing. Another `level` begins another stream.

        Raises CodecError for another shape or dtype; a failed encoder begins another stream at the next picture.
        """
        check_picture(rgb, self._size)
        if level is not None and level != self._level:
            check_level("h264", level)
            self._level = level
            self.reset()
        try:
            stream, is_key = self._encode(rgb, key)
        except (av.error.FFmpegError, ValueError) as exc:
            self.reset()
            raise CodecError(f"picture can't be coded as H.264: {exc}") from exc
        number = self._number
        self._number += 1
        section = Section("", rgb.shape, int(is_key), _SIDE.pack(self._stream, number), stream)
        return Coded(build("h264", self._level, [section]), number, is_key, self._level)

    def reset(self) -> None:
        """Forget earlier pictures: the next one begins another stream."""
        self._context = None

    def close(self) -> None:
        """Give the encoder's memory back; it is made anew if another picture comes."""
        self.reset()

    def _encode(self, rgb: U8, key: bool) -> tuple[bytes, bool]:
        context = self._opened()
        frame = av.VideoFrame.from_ndarray(_even(rgb), format="rgb24")
        frame = self._reformatter.reformat(
            frame,
            format="yuv420p",
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.ITU601,
            interpolation=_TO_420,
            threads=1,
        )
        frame.pts = self._number
        frame.pict_type = PictureType.I if key or self._intra else PictureType.NONE
        packets = context.encode(frame)
        if len(packets) != 1:
            raise ValueError(f"encoder gave {len(packets)} packets for one picture")
        return without_extras(bytes(packets[0])), packets[0].is_keyframe

    def _opened(self) -> VideoCodecContext:
        if self._context is not None and self._number <= 0xFFFFFFFF:
            return self._context
        context = av.CodecContext.create("libx264", "w")
        height, width = self._size
        context.width, context.height, context.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.color_range, context.colorspace = int(ColorRange.JPEG), int(Colorspace.ITU601)
        context.thread_count, context.max_b_frames = 1, 0
        context.gop_size = 1 if self._intra else _ENDLESS
        context.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": str(self._level),
            "forced-idr": "1",
            "intra-refresh": "0",
        }
        context.open()
        self._stream = secrets.randbits(32) if self._given is None else self._given
        self._context, self._number, self._given = context, 0, None
        return context


class H264Decoder:
    """Decodes the pictures of one stream at a time. One thread at a time; memory follows from the picture's size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._context: VideoCodecContext | None = None
        self._size = (0, 0)
        self._next = (0, 0)

    @property
    def state_bytes(self) -> int:
        """At most so much memory is kept between pictures: the stream's references and the decoder's own frames."""
        return 0 if self._context is None else (MAX_REFERENCES + 4) * 3 * _coded_pixels(*self._size) // 2

    def decode(self, payload: Buffer, *, expect: tuple[int, int]) -> U8:
        """The picture of `payload`, (H, W, 3) uint8 RGB; `expect` is (H, W).

        Raises NeedKeyframe when the picture builds on one that this decoder did not decode last: what it holds stays
        as it was. Raises CodecError when payload or stream are malformed, of another size, damaged, or give anything
        but exactly this picture undamaged; then all state is dropped, and only a key helps.
        """
        section = picture_section(payload, codecs=("h264",), expect=expect)
        if section.mode not in (0, 1) or len(section.side) != _SIDE.size:
            raise CodecError("payload's section is not of an H.264 frame")
        if len(section.data) > _MAX_BYTES_PER_PIXEL * _coded_pixels(*expect) + _SPARE_BYTES:
            raise CodecError(f"{len(section.data)} bytes are too many for a picture of {expect[1]}×{expect[0]}")
        stream, number = _SIDE.unpack(section.side)
        key, height, width = section.mode == 1, expect[0] + expect[0] % 2, expect[1] + expect[1] % 2
        if not key and (self._context is None or self._next != (stream, number) or self._size != expect):
            raise NeedKeyframe(f"frame {number} of H.264 stream {stream:08x} builds on one that is not here")
        data = bytes(section.data)
        context, self._context = self._context, None
        check_frame(data, key=key, width=width, height=height)
        if context is None or key:
            context = _decoder(_coded_pixels(*expect))
        try:
            rgb = self._decode(context, data, number, key, (height, width))
        except (av.error.FFmpegError, ValueError) as exc:
            raise CodecError(f"H.264 frame {number} can't be decoded: {exc}") from exc
        self._context, self._size, self._next = context, expect, (stream, number + 1)
        return np.ascontiguousarray(rgb[: expect[0], : expect[1]])

    def reset(self) -> None:
        """Forget earlier pictures: only a key can follow."""
        self._context = None

    def close(self) -> None:
        """Give the decoder's memory back."""
        self.reset()

    def _decode(self, context: VideoCodecContext, data: bytes, number: int, key: bool, size: tuple[int, int]) -> U8:
        packet = av.Packet(data)
        packet.pts = number
        frames = context.decode(packet)
        if len(frames) != 1:
            raise CodecError(f"H.264 frame {number} gave {len(frames)} pictures")
        frame = frames[0]
        whole = not frame.is_corrupt and not frame.interlaced_frame and frame.pts == number
        if not whole or frame.key_frame != key:
            raise CodecError(f"H.264 frame {number} is damaged")
        if (frame.height, frame.width) != size or frame.format.name not in _FORMATS:
            raise CodecError(f"H.264 frame is {frame.width}×{frame.height} {frame.format.name}")
        rgb = self._reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=Colorspace.ITU601,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_FROM_420,
            threads=1,
        )
        return cast(U8, rgb.to_ndarray())


class H264Coder:
    """Both ends of one stream, as the bench and the planner measure them."""

    def __init__(self, level: int, size: tuple[int, int], *, intra: bool = False) -> None:
        self._size = size
        self._encoder = H264Encoder(size, level=level, intra=intra)
        self._decoder = H264Decoder()

    @property
    def codec(self) -> str:
        return "h264"

    @property
    def level(self) -> int:
        return self._encoder.level

    def encode(self, rgb: U8) -> bytes:
        return self._encoder.encode(rgb).payload

    def decode(self, payload: Buffer) -> U8:
        """Raises CodecError, NeedKeyframe among them."""
        return self._decoder.decode(payload, expect=self._size)

    def reset(self) -> None:
        """Forget earlier pictures: the next one begins another stream."""
        self._encoder.reset()
        self._decoder.reset()


def _decoder(coded_pixels: int) -> VideoCodecContext:
    context = av.CodecContext.create("h264", "r")
    context.thread_count = 1
    context.flags |= _LOW_DELAY
    context.options = {
        "max_pixels": str(coded_pixels),
        "err_detect": "crccheck+bitstream+buffer+explode",
        "enable_er": "1",
    }
    return context


def _even(rgb: U8) -> U8:
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        return np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    return np.ascontiguousarray(rgb)


def _coded_pixels(height: int, width: int) -> int:
    """Pixels of a decoder's frame: whole macroblocks, in rows that its fastest instructions like."""
    return -(-height // 32) * 32 * -(-width // 128) * 128
