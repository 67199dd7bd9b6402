"""Owns one opened video stream: opening it, choosing its decoder, and reading pictures until it ends or breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from splitmesh.errors import SourceError
from splitmesh.media.address import Address, SourceKind
from splitmesh.media.captured import SourceInfo
from splitmesh.media.probe import Acceleration, DecoderChoice, choose_decoder, probe_decoders, v4l2m2m_name

log = logging.getLogger(__name__)

_DEFAULT_FPS = Fraction(25)
_MIN_FPS, _MAX_FPS = Fraction(1, 3600), Fraction(480)
"""Rates outside are a clock's tick rate or noise, not what a camera does."""
_SEGMENT_S = 30.0
"""A live playlist may be silent for so long."""
_SEGMENTED = ("hls", "dash")
_READ_RETRIES = 32
"""Consecutive failed reads of a damaged file before it counts as ended."""
_HARDWARE_RETRIES = 8
"""Undecodable packets at the start before a hardware decoder is given up."""
_PERMANENT = (
    av.error.FileNotFoundError,
    av.error.PermissionError,
    av.error.InvalidDataError,
    av.error.ProtocolNotFoundError,
    av.error.DemuxerNotFoundError,
    av.error.DecoderNotFoundError,
    av.error.HTTPNotFoundError,
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
    av.error.HTTPBadRequestError,
)


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """How to open a source; times in seconds, 0 threads means one per CPU."""

    hwaccel: Acceleration = Acceleration.AUTO
    rtsp_transport: str = "tcp"
    stall_timeout_s: float = 5.0
    open_timeout_s: float = 10.0
    decode_threads: int = 1
    camera_size: tuple[int, int] | None = None
    camera_fps: float | None = None


class HardwareGaveUp(Exception):
    """The hardware decoder gives no pictures for this stream: open it again with software."""


class Stalled(Exception):
    """The stream is open but brings no pictures."""


class VideoInput:
    """One opened video stream. Not thread-safe; close it from the thread that reads it."""

    def __init__(
        self,
        address: Address,
        options: OpenOptions,
        container: InputContainer,
        stream: VideoStream,
        decoder: VideoCodecContext,
        choice: DecoderChoice,
    ) -> None:
        self._stall_s = options.stall_timeout_s
        if address.kind is SourceKind.HTTP:
            self._stall_s = max(self._stall_s, _SEGMENT_S)
        self._container = container
        self._stream = stream
        self._decoder = decoder
        self._choice = choice
        self.decode_ns = 0
        """Time that decoding took for the packet of the last picture."""
        live = address.kind in (SourceKind.STREAM, SourceKind.DEVICE)
        live = live or (address.kind is SourceKind.HTTP and not container.duration)
        self.bursty = live and container.format.name in _SEGMENTED
        """Live, but many pictures arrive at a time: they must be paced."""
        rate = _plausible_rate(stream)
        self.frame_ns = max(int(1_000_000_000 / rate), 1)
        self.time_base = stream.time_base or Fraction(1, 1_000_000)
        self.info = SourceInfo(
            url=address.shown,
            width=decoder.width,
            height=decoder.height,
            fps=float(rate),
            codec=stream.codec_context.codec.canonical_name,
            decoder=choice.label,
            live=live,
            duration_s=None if live or not container.duration else container.duration / av.time_base,
        )

    def __enter__(self) -> VideoInput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def pictures(self, on_error: Callable[[str], None]) -> Iterator[av.VideoFrame]:
        """Pictures in presentation order until the stream ends; `on_error` hears of each packet that gave none.

        Raises av.error.FFmpegError when a live stream breaks, Stalled when it brings nothing, HardwareGaveUp.
        """
        failures, seen, last_s = 0, False, time.monotonic()
        for packet in self._packets(on_error):
            if packet.stream_index == self._stream.index:
                start_ns = time.monotonic_ns()
                try:
                    frames = self._decoder.decode(packet)
                except av.error.FFmpegError as exc:
                    frames = []
                    failures += 1
                    if not seen and failures >= _HARDWARE_RETRIES and self._hardware:
                        raise HardwareGaveUp(f"{self._choice.label} decoded nothing: {exc}") from exc
                    on_error(str(exc))
                self.decode_ns = time.monotonic_ns() - start_ns
                for frame in frames:
                    seen, last_s = True, time.monotonic()
                    yield frame
            if self.info.live and time.monotonic() - last_s > self._stall_s:
                raise Stalled(f"no picture for {self._stall_s:g} s, though data comes")
        if not seen and self._hardware:
            raise HardwareGaveUp(f"{self._choice.label} decoded nothing")

    @property
    def _hardware(self) -> bool:
        return self._choice.acceleration is not Acceleration.NONE

    def _packets(self, on_error: Callable[[str], None]) -> Iterator[av.Packet[av.stream.Stream]]:
        retries = 0
        while True:
            try:
                for packet in self._container.demux():
                    retries = 0
                    yield packet
                return
            except av.error.FFmpegError as exc:
                retries += 1
                if self.info.live or retries > _READ_RETRIES:
                    raise
                on_error(str(exc))


def open_video(address: Address, options: OpenOptions) -> VideoInput:
    """Open `address` and its decoder. Raises SourceError (`retryable` if trying again may help)."""
    try:
        container, choice = _open_container(address, options)
    except (av.error.FFmpegError, OSError) as exc:
        raise _translate(exc, address) from exc
    try:
        stream = _video_stream(container, address)
        return VideoInput(address, options, container, stream, _decoder(stream, choice, options), choice)
    except SourceError:
        container.close()
        raise
    except av.error.FFmpegError as exc:
        container.close()
        raise _translate(exc, address) from exc


def _open_container(address: Address, options: OpenOptions) -> tuple[InputContainer, DecoderChoice]:
    container = _av_open(address, options, None)
    if options.hwaccel is Acceleration.NONE:
        return container, choose_decoder(Acceleration.NONE, ())
    try:
        codec = _video_stream(container, address).codec_context.codec.canonical_name
    except SourceError:
        container.close()
        raise
    choice = choose_decoder(options.hwaccel, probe_decoders(codec))
    level = logging.INFO if options.hwaccel is Acceleration.AUTO else logging.WARNING
    if choice.acceleration is Acceleration.NONE:
        log.log(level, "%s: decoding %s in software: %s", address.shown, codec, choice.reason)
    else:
        log.info("%s: decoding %s with %s: %s", address.shown, codec, choice.label, choice.reason)
    if choice.acceleration not in (Acceleration.CUDA, Acceleration.VAAPI):
        return container, choice
    container.close()
    accelerated = HWAccel(choice.acceleration.value, allow_software_fallback=True)
    try:
        return _av_open(address, options, accelerated), choice
    except av.error.FFmpegError as exc:
        log.warning("%s: %s failed (%s); decoding in software", address.shown, choice.label, exc)
        return _av_open(address, options, None), DecoderChoice(Acceleration.NONE, f"{choice.label} failed: {exc}")


def _av_open(address: Address, options: OpenOptions, hwaccel: HWAccel | None) -> InputContainer:
    return av.open(
        address.url,
        mode="r",
        format="v4l2" if address.kind is SourceKind.DEVICE else None,
        options=_demuxer_options(address, options),
        timeout=(options.open_timeout_s, _read_timeout_s(address, options)),
        hwaccel=hwaccel,
        metadata_errors="replace",
    )


def _read_timeout_s(address: Address, options: OpenOptions) -> float:
    """Of one read. After a read that timed out the demuxer still flushes its parser's last packet, so that it takes
    two of them to notice a silent camera; and a live playlist is silent for the length of a segment.
    """
    if address.kind is SourceKind.HTTP:
        return max(options.stall_timeout_s, _SEGMENT_S)
    return options.stall_timeout_s / 2


def _demuxer_options(address: Address, options: OpenOptions) -> dict[str, str]:
    timeout_us = str(int(options.stall_timeout_s * 1e6))
    if address.kind is SourceKind.STREAM and address.url.lower().startswith("rtsp"):
        # Pictures that arrive during analysis are old by the time that it is over: analyse no longer than needed.
        quick = {"analyzeduration": "1000000", "fpsprobesize": "0"}
        return {"rtsp_transport": options.rtsp_transport, "timeout": timeout_us, **quick}
    if address.kind is SourceKind.HTTP:
        return {"rw_timeout": timeout_us, "reconnect": "1", "reconnect_delay_max": "5"}
    chosen: dict[str, str] = {}
    if address.kind is SourceKind.DEVICE and options.camera_size:
        chosen["video_size"] = "{}x{}".format(*options.camera_size)
    if address.kind is SourceKind.DEVICE and options.camera_fps:
        chosen["framerate"] = f"{options.camera_fps:g}"
    return chosen


def _video_stream(container: InputContainer, address: Address) -> VideoStream:
    if container.format.name == "tty":  # FFmpeg renders any text file as ANSI art
        raise SourceError(f"{address.shown} is not a video", url=address.shown, advice="it looks like a text file")
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
    raise SourceError(
        f"{address.shown} has no video stream that can be decoded", url=address.shown, advice=f"it has: {kinds}"
    )


def _plausible_rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and _MIN_FPS <= rate <= _MAX_FPS:
            return rate
    return _DEFAULT_FPS


def _decoder(stream: VideoStream, choice: DecoderChoice, options: OpenOptions) -> VideoCodecContext:
    decoder = stream.codec_context
    if choice.acceleration is Acceleration.V4L2M2M:
        created = av.CodecContext.create(v4l2m2m_name(decoder.codec.canonical_name), "r")
        created.extradata = decoder.extradata
        created.width, created.height = decoder.width, decoder.height  # type: ignore[attr-defined]
        return created  # type: ignore[return-value]
    decoder.thread_count = options.decode_threads
    decoder.thread_type = "SLICE" if options.decode_threads == 1 else "AUTO"
    return decoder


def _translate(exc: Exception, address: Address) -> SourceError:
    shown = address.shown
    if isinstance(exc, av.error.InvalidDataError):
        return SourceError(f"{shown} is not a video, or is cut off before its index", url=shown, advice="play it")
    if isinstance(exc, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError, av.error.PermissionError)):
        return SourceError(f"{shown}: access denied", url=shown, advice="check user, password and permissions")
    if isinstance(exc, (av.error.FileNotFoundError, av.error.HTTPNotFoundError)):
        return SourceError(f"{shown}: nothing there", url=shown, advice="check the path of the stream or device")
    if isinstance(exc, av.error.ExitError):
        return SourceError(f"{shown}: no reply in time", url=shown, retryable=True, advice="is the server alive?")
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return SourceError(f"{shown}: {reason}", url=shown, retryable=not isinstance(exc, _PERMANENT))
