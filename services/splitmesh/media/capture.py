"""Owns the capture of one video source: decoding thread, looping, reconnecting, pacing. Looks into no picture."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType

import av

from splitmesh.errors import MeshError, SourceError
from splitmesh.frames.timeline import Stamp, Timeline
from splitmesh.media.address import Address, SourceKind
from splitmesh.media.backoff import Backoff
from splitmesh.media.captured import Captured, SourceInfo, SourceStats
from splitmesh.media.handover import Handover
from splitmesh.media.pacing import Pacer, Thinner
from splitmesh.media.probe import Acceleration
from splitmesh.media.stream import HardwareGaveUp, OpenOptions, Stalled, VideoInput, open_video

log = logging.getLogger(__name__)


class VideoSource:
    """Frames of one source, decoded on a thread of its own.

    One consumer takes them, with `await get()` or `next()`. Live and paced sources drop the oldest waiting frame
    when the consumer is late (`take_dropped`); an unpaced file waits for the consumer instead, and its
    `captured_ns` is the moment of handing over, so that waiting costs no deadline.
    """

    def __init__(
        self,
        address: Address,
        *,
        pace: bool,
        loop: bool,
        duration_s: float | None,
        max_fps: float | None,
        ring_capacity: int,
        give_up_after_s: float | None,
        options: OpenOptions,
    ) -> None:
        self._address = address
        self._pace = pace
        self._loop = loop
        self._duration_ns = None if duration_s is None else round(duration_s * 1e9)
        self._give_up_after_s = give_up_after_s
        self._options = options
        self._handover = Handover(ring_capacity)
        self._closing = threading.Event()
        self._info: Future[SourceInfo] = Future()
        self._stats = SourceStats()
        self._timeline: Timeline | None = None
        self._live = address.kind in (SourceKind.STREAM, SourceKind.DEVICE)
        self._bursty = False
        self._was_open = False
        self._pacer = Pacer()
        self._max_fps = max_fps
        self._thinner = Thinner(max_fps)
        self._first_ns = 0
        self._last_ns = 0
        self._seq = 0
        self._backoff = Backoff()
        self._thread = threading.Thread(target=self._run, name=f"capture {address.shown}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"VideoSource({self._address.shown!r}, {self.stats})"

    @property
    def stats(self) -> SourceStats:
        """A copy of the counts."""
        captured, delivered, dropped, waiting = self._handover.counts()
        return replace(
            self._stats,
            captured=captured,
            delivered=delivered,
            dropped=dropped,
            waiting=waiting,
            resyncs=self._pacer.resyncs,
        )

    async def opened(self) -> SourceInfo:
        """Waits for the first picture. Raises SourceError if there is none."""
        return await asyncio.shield(asyncio.wrap_future(self._info))

    def wait_opened(self, timeout_s: float | None = None) -> SourceInfo:
        """As `opened`, for a thread; raises TimeoutError after `timeout_s` seconds."""
        return self._info.result(timeout_s)

    async def get(self) -> Captured | None:
        """The next frame; None at the end of the stream or once closed. Safe to cancel: no frame is lost.

        Raises SourceError, after the frames captured before it, if the source failed for good.
        """
        return self._stamped(await self._handover.get())

    def next(self, timeout_s: float | None = None) -> Captured | None:
        """As `get`, for a thread; raises TimeoutError after `timeout_s` seconds without a frame."""
        return self._stamped(self._handover.next(timeout_s))

    def take_dropped(self) -> list[Captured]:
        """Frames dropped since the last call (without picture), in order, each older than what `get` gives next.

        Call it after each `get`, and once more after `close`: together they yield every captured frame once.
        """
        return self._handover.take_dropped()

    def close(self) -> None:
        """Stop capturing and join the thread. Frames still waiting become dropped ones. Idempotent.

        Takes one frame's time; as long as the stall timeout if a server hangs in the middle of a read.
        """
        self._closing.set()
        self._handover.close()
        self._thread.join()

    async def aclose(self) -> None:
        """As `close`, without blocking the loop."""
        self._closing.set()
        self._handover.close()
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> VideoSource:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stamped(self, captured: Captured | None) -> Captured | None:
        if captured is None or self._drops:
            return captured
        return replace(captured, captured_ns=time.monotonic_ns())

    @property
    def _drops(self) -> bool:
        return self._pace or self._live

    def _run(self) -> None:
        error: MeshError | None = None
        try:
            self._capture()
        except MeshError as exc:
            error = exc
        except Exception as exc:
            log.exception("%s: capture failed", self._address.shown)
            error = SourceError(f"{self._address.shown}: capture failed: {exc!r}", url=self._address.shown)
        if not self._info.done():
            closed = SourceError(f"{self._address.shown} was closed before it opened", url=self._address.shown)
            self._info.set_exception(error or closed)
        self._handover.end(error)

    def _capture(self) -> None:
        waiting_since_s = time.monotonic()
        while not self._closing.is_set():
            pictures = 0
            try:
                with open_video(self._address, self._options) as video:
                    self._opened(video)
                    before = self._seq
                    try:
                        more = self._play(video)
                    finally:
                        pictures = self._seq - before
            except HardwareGaveUp as exc:
                log.warning("%s: %s; decoding in software", self._address.shown, exc)
                self._options = replace(self._options, hwaccel=Acceleration.NONE)
                continue
            except SourceError as exc:
                self._stats.connect_failures += 1
                if not self._live or not (exc.retryable or self._was_open):
                    raise
                reason, more = str(exc), True
            except (av.error.FFmpegError, Stalled) as exc:
                reason, more = str(exc), True
                if not self._live and pictures:
                    log.warning("%s: broken off: %s", self._address.shown, exc)
            else:
                reason = "the stream ended"
            if not more:
                return
            if not self._live:
                if pictures == 0:
                    raise self._nothing_decodable()
                if not self._loop:
                    return
                self._stats.loops += 1
                continue
            if pictures:
                waiting_since_s = time.monotonic()
            self._await_retry(reason, waiting_since_s)

    def _nothing_decodable(self) -> SourceError:
        return SourceError(
            f"{self._address.shown}: no picture can be decoded ({self._stats.decode_errors} damaged packets)",
            url=self._address.shown,
            advice="the file is damaged; copy or record it again",
        )

    def _opened(self, video: VideoInput) -> None:
        self._live, self._bursty = video.info.live, video.bursty
        if self._timeline is None:
            self._timeline = Timeline(video.time_base, video.frame_ns)
        else:
            elapsed_ns = time.monotonic_ns() - self._last_ns if self._live else None
            self._timeline.restart(time_base=video.time_base, frame_ns=video.frame_ns, elapsed_ns=elapsed_ns)
        if self._was_open and self._live:
            self._stats.reconnects += 1
            log.info("%s: connected again", self._address.shown)
        self._was_open = True

    def _await_retry(self, reason: str, waiting_since_s: float) -> None:
        waited_s = time.monotonic() - waiting_since_s
        if self._give_up_after_s is not None and waited_s > self._give_up_after_s:
            raise SourceError(
                f"{self._address.shown}: no picture for {waited_s:.0f} s: {reason}",
                url=self._address.shown,
                retryable=True,
                advice="check camera and network",
            )
        delay_s = self._backoff.next_s()
        log.warning("%s: %s; next try in %.1f s", self._address.shown, reason, delay_s)
        self._closing.wait(delay_s)

    def _play(self, video: VideoInput) -> bool:
        """Hand over the pictures of one opening. False: stop for good; True: the stream ended by itself."""
        for index, picture in enumerate(video.pictures(self._count_error)):
            if self._closing.is_set():
                return False
            self._backoff.succeeded()
            if not self._info.done():
                self._info.set_result(self._thinned(video.info))
            if not self._hand_over(index, picture, video.decode_ns):
                return False
        return not self._closing.is_set()

    def _thinned(self, info: SourceInfo) -> SourceInfo:
        return info if self._max_fps is None else replace(info, fps=min(info.fps, self._max_fps))

    def _count_error(self, detail: str) -> None:
        self._stats.decode_errors += 1
        if self._stats.decode_errors & (self._stats.decode_errors - 1) == 0:  # at 1, 2, 4, 8, …
            log.warning("%s: damaged data (%d so far): %s", self._address.shown, self._stats.decode_errors, detail)

    def _hand_over(self, index: int, picture: av.VideoFrame, decode_ns: int) -> bool:
        timeline = self._timeline
        if timeline is None:
            raise RuntimeError("pictures before the stream was opened")
        stamp = timeline.stamp(picture.pts)
        if self._duration_ns is not None and self._elapsed_ns(stamp) >= self._duration_ns:
            return False
        if not self._thinner.takes(stamp.pts_ns):
            return True
        captured_ns = self._capture_time_ns(stamp)
        if self._closing.is_set():
            return False
        self._stats.damaged += bool(picture.is_corrupt)
        self._stats.gaps += stamp.gap
        self._stats.resets += stamp.reset
        self._last_ns = captured_ns
        captured = Captured(
            seq=self._seq,
            source_index=index,
            pts_ns=stamp.pts_ns,
            captured_ns=captured_ns,
            picture=picture,
            gap=stamp.gap,
            reset=stamp.reset,
            width=picture.width,
            height=picture.height,
            decode_ns=decode_ns,
        )
        self._seq += 1
        return self._handover.put(captured, wait=not self._drops)

    def _elapsed_ns(self, stamp: Stamp) -> int:
        """A camera's clock may stand still or race; a live run lasts as long as the caller's own clock says."""
        if not self._live:
            return stamp.pts_ns
        return time.monotonic_ns() - self._first_ns if self._seq else 0

    def _capture_time_ns(self, stamp: Stamp) -> int:
        now_ns = time.monotonic_ns()
        captured_ns = now_ns
        if self._bursty if self._live else self._pace:
            captured_ns = self._pacer.capture_ns(stamp.pts_ns, now_ns)
            if captured_ns > now_ns:
                self._closing.wait((captured_ns - now_ns) / 1e9)
        if self._seq == 0:
            self._first_ns = captured_ns
        return captured_ns
