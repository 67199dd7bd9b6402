"""Owns the "video" codec: a cut's components as the luma of a video without delay. Fits nothing.

The components of a table (`codec.compact`) are tiled, unpadded, in a grid four times as wide as high, and coded by a
video encoder at a constant quantiser that has the level's step. A pixel is as many units as make the widest component
fit into 8 bits. The head's flags are the kind of video times 64, plus the quantiser; its state hash runs over all
payloads since the last key, so that a decoder that missed one knows.

On a detector's [1, 64, 19, 19] cut, x264 needs a quarter to half fewer bytes than x265 for the same answers of a
static camera and as many of a moving one; SVT-AV1 needs the most. Slower presets, ten bits and tiles padded to whole
blocks gain nothing.

A level or a key begins another stream. Only H.264 is taken apart before a decoder sees it; of the other kinds, meant
for comparisons, the decoder bounds pictures alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext

from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.container import Buffer
from splitmesh.codec.head import Head, State, build_payload, parse_head
from splitmesh.errors import CodecError, NeedKeyframe, NeedTable
from splitmesh.media.annexb import MAX_REFERENCES, check_frame, without_extras
from splitmesh.media.planes_tiling import GREY, MAX_QP, Tiling

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

CODEC: Final = "video"
_ENDLESS: Final = 1 << 30
_BYTES_PER_PIXEL, _SPARE_BYTES = 3, 4096
_DECODED: Final = ("gray", "yuv420p", "yuvj420p")
"""Of 8 bits with a plane of luma: some decoders add grey chroma."""
_LOW_DELAY: Final = int(av.codec.context.Flags.low_delay)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of video: how it is numbered on the wire, what decodes it, how it is encoded."""

    number: int
    decoder: str
    pixels: str
    options: Callable[[int], dict[str, str]]
    """Of the encoder, by quantiser."""


def _x264(qp: int) -> dict[str, str]:
    return {"preset": "veryfast", "tune": "zerolatency", "qp": str(qp), "x264-params": "scenecut=0:intra-refresh=0"}


def _x265(qp: int) -> dict[str, str]:
    still = "log-level=none:info=0:pools=none:frame-threads=1:bframes=0:rc-lookahead=0:keyint=-1:scenecut=0"
    return {"preset": "fast", "tune": "zerolatency", "x265-params": f"qp={qp}:{still}"}


def _svt(qp: int) -> dict[str, str]:
    """Its quantiser goes to 63, on another curve: on vtest.avi 0.8 of it is nearest to the others' bytes."""
    delay = "pred-struct=1:lookahead=0:lp=1:keyint=-1:scd=0"
    return {"preset": "8", "svtav1-params": f"rc=0:qp={min(63, round(0.8 * qp))}:{delay}"}


KINDS: Final[dict[str, _Kind]] = {
    "libx264": _Kind(0, "h264", "gray", _x264),
    "libx265": _Kind(1, "hevc", "gray", _x265),
    "libsvtav1": _Kind(2, "libdav1d", "yuv420p", _svt),
}
"""FFmpeg's name of the encoder → the kind of video that it makes."""


def kind_of(encoder: str) -> _Kind:
    """Raises CodecError for an unknown encoder and for one that this build of FFmpeg lacks."""
    if encoder not in KINDS:
        raise CodecError(f"unknown video encoder {encoder!r}", advice=f"known: {', '.join(KINDS)}")
    if not {encoder, KINDS[encoder].decoder} <= av.codecs_available:
        raise CodecError(f"this build of FFmpeg has no {encoder}", advice="install PyAV's own wheel")
    return KINDS[encoder]


class VideoEncoder:
    """Codes a cut's tensors, frame after frame, into one stream until a key or another level begins another.

    Raises CodecError without `encoder` (FFmpeg's name).
    """

    def __init__(self, table: CompactTable, *, level: int, encoder: str = "libx264") -> None:
        self._kind, self._encoder = kind_of(encoder), encoder
        self._tiling = Tiling(table, level)
        self._context: VideoCodecContext | None = None
        self._number = 0
        self._hash = 0

    @property
    def level(self) -> int:
        return self._tiling.level

    def encode(self, tensors: Mapping[str, F32], *, key: bool = False, level: int | None = None) -> bytes:
        """One payload of `tensors` (wire name → float32 of the table's shapes); `key`: it builds on nothing.

        Raises CodecError for other tensors, for NaN and Inf; a failed encoder begins another stream.
        """
        if level is not None and level != self.level:
            self._tiling = Tiling(self._tiling.table, level)
            self.reset()
        qp = self._tiling.quantiser()
        picture = self._tiling.picture(tensors, self._tiling.pixel(qp))
        if key:
            self.reset()
        begins = self._context is None
        context, self._context = self._context, None
        try:
            context = context or self._opened(qp)
            body = self._coded(context, picture)
        except (av.error.FFmpegError, ValueError) as exc:
            raise CodecError(f"components can't be coded by {self._encoder}: {exc}") from exc
        before, self._hash = (0, zlib.crc32(body)) if begins else (self._hash, zlib.crc32(body, self._hash))
        self._context, self._number = context, (self._number + 1) % 65536
        reference = self._number if begins else (self._number - 1) % 65536
        head = Head(CODEC, self.level, self._kind.number << 6 | qp, self._tiling.table.short_id,
                    State(self._number, reference, before))  # fmt: skip
        return build_payload(head, body)

    def reset(self) -> None:
        """The next payload begins another stream."""
        self._context = None

    def _coded(self, context: VideoCodecContext, picture: U8) -> bytes:
        if self._kind.pixels != "gray":
            picture = np.concatenate((picture, np.full((len(picture) // 2, picture.shape[1]), GREY, np.uint8)))
        frame = av.VideoFrame.from_ndarray(picture, format=self._kind.pixels)
        frame.pts = self._number
        packets = context.encode(frame)
        if len(packets) != 1:
            raise ValueError(f"encoder gave {len(packets)} packets for one picture")
        body = bytes(packets[0])
        return without_extras(body) if self._kind.decoder == "h264" else body

    def _opened(self, qp: int) -> VideoCodecContext:
        context = cast(VideoCodecContext, av.CodecContext.create(self._encoder, "w"))
        context.width, context.height, context.pix_fmt = self._tiling.width, self._tiling.height, self._kind.pixels
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.thread_count, context.max_b_frames, context.gop_size = 1, 0, _ENDLESS
        context.options = self._kind.options(qp)
        context.open()
        return context


class VideoDecoder:
    """Decodes the payloads of one table, one stream at a time. Memory follows from the table's shapes."""

    def __init__(self, table: CompactTable, *, encoder: str = "libx264") -> None:
        self._kind = kind_of(encoder)
        self._table = table
        self._stream: tuple[VideoCodecContext, Tiling] | None = None
        self._held = (0, 0)

    @property
    def state_bytes(self) -> int:
        """At most so much memory is kept between payloads: the stream's references and the decoder's own frames."""
        return 0 if self._stream is None else (MAX_REFERENCES + 4) * 3 * _coded_pixels(self._stream[1]) // 2

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """The tensors of `payload` (wire name → float32 of the table's shapes).

        Raises NeedKeyframe when it builds on a payload that was not decoded last, and NeedTable for another table:
        what is held stays as it was. Raises CodecError when it is malformed, of another codec or kind of video, or
        gives anything but exactly one undamaged picture; then all state is dropped, and only a key helps.
        """
        head, body = parse_head(payload)
        if head.codec != CODEC or head.state is None or head.flags >> 6 != self._kind.number:
            raise CodecError(f"payload is coded with {head.codec!r} of kind {head.flags >> 6}, not with {CODEC!r}")
        if head.table != self._table.short_id:
            raise NeedTable(f"payload needs table {head.table.hex()}", table_id=head.table)
        state, qp, key = head.state, head.flags & 63, head.state.reference == head.state.number
        if key:
            stream = None
        elif self._stream and self._held == (state.reference, state.hash) and self._stream[1].level == head.level:
            stream = self._stream
        else:
            raise NeedKeyframe(f"payload {state.number} builds on payload {state.reference}, which is not here")
        self._stream = None
        tiling = stream[1] if stream else Tiling(self._table, head.level)
        most = _BYTES_PER_PIXEL * tiling.height * tiling.width + _SPARE_BYTES
        if len(body) > most or qp > MAX_QP or (key and state.hash):
            raise CodecError(f"payload of {len(body)} bytes does not hold components of {self._table.id[:8]}")
        context = stream[0] if stream else _decoder(self._kind.decoder, tiling)
        try:
            picture = self._decoded(context, bytes(body), state.number, key, tiling)
        except (av.error.FFmpegError, ValueError) as exc:
            raise CodecError(f"components can't be decoded as {self._kind.decoder}: {exc}") from exc
        self._stream = context, tiling
        self._held = (state.number, zlib.crc32(body, state.hash))
        return tiling.tensors(picture, tiling.pixel(qp))

    def reset(self) -> None:
        """Forget earlier payloads: only a key can follow."""
        self._stream = None

    def _decoded(self, context: VideoCodecContext, body: bytes, number: int, key: bool, tiling: Tiling) -> U8:
        if self._kind.decoder == "h264":
            check_frame(body, key=key, width=tiling.width, height=tiling.height, chroma=False)
        packet = av.Packet(body)
        packet.pts = number
        frames = context.decode(packet)
        if len(frames) != 1:
            raise CodecError(f"payload {number} gave {len(frames)} pictures")
        frame = frames[0]
        if frame.is_corrupt or frame.key_frame != key or frame.interlaced_frame:
            raise CodecError(f"payload {number} is damaged")
        if (frame.height, frame.width) != (tiling.height, tiling.width) or frame.format.name not in _DECODED:
            raise CodecError(f"payload {number} holds {frame.width}×{frame.height} {frame.format.name}")
        plane = frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        picture: U8 = rows[: tiling.height, : tiling.width].copy()
        return picture


class VideoCoder:
    """Both ends of one stream, as the bench and the planner measure them."""

    codec = CODEC

    def __init__(self, table: CompactTable, level: int, encoder: str = "libx264") -> None:
        self._encoder = VideoEncoder(table, level=level, encoder=encoder)
        self._decoder = VideoDecoder(table, encoder=encoder)

    @property
    def level(self) -> int:
        return self._encoder.level

    def encode(self, tensors: Mapping[str, F32]) -> bytes:
        """Raises CodecError."""
        return self._encoder.encode(tensors)

    def decode(self, payload: Buffer) -> dict[str, F32]:
        """Raises CodecError, NeedKeyframe among them."""
        return self._decoder.decode(payload)

    def reset(self) -> None:
        """Forget earlier payloads: the next one begins another stream."""
        self._encoder.reset()
        self._decoder.reset()


def _decoder(name: str, tiling: Tiling) -> VideoCodecContext:
    """A decoder that refuses pictures larger than the tiling's in whole superblocks and rows of 128 pixels."""
    context = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    context.thread_count = 1
    context.flags |= _LOW_DELAY
    context.options = {"max_pixels": str(_coded_pixels(tiling))}
    if name == "h264":
        context.options |= {"err_detect": "crccheck+bitstream+buffer+explode", "enable_er": "1"}
    return context


def _coded_pixels(tiling: Tiling) -> int:
    return -(-tiling.height // 64) * 64 * (-(-tiling.width // 128) * 128)
