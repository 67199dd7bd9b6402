"""Real files, real decoder, real threads."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from splitmesh.errors import SourceError
from splitmesh.media import stream
from splitmesh.media.captured import Captured
from splitmesh.media.clip import read_index, write_test_clip
from splitmesh.media.probe import Acceleration, DecoderProbe, probe_decoders
from splitmesh.media.source import VideoSource, open_source


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_test_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", width=192, height=128, fps=20, frames=30)


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("capture ")]


def drain(source: VideoSource, limit: int = 10_000) -> list[Captured]:
    frames = []
    while len(frames) < limit and (captured := source.next(10)) is not None:
        frames.append(captured)
    return frames


def index_of(captured: Captured) -> int:
    assert captured.picture is not None
    return read_index(captured.picture.to_ndarray(format="rgb24"))


def test_unpaced_gives_every_picture_once_in_order(clip: Path) -> None:
    with open_source(clip, pace=False, ring_capacity=2) as source:
        info = source.wait_opened(5)
        assert (info.width, info.height, info.fps, info.codec, info.live) == (192, 128, 20, "h264", False)
        assert info.duration_s == pytest.approx(1.5)
        seen = 0
        while (captured := source.next(5)) is not None:
            assert abs(time.monotonic_ns() - captured.captured_ns) < 50_000_000  # handed over now, whenever decoded
            assert captured.seq == captured.source_index == index_of(captured) == seen
            assert captured.pts_ns == seen * 50_000_000
            assert not captured.gap and not captured.reset
            seen += 1
        assert seen == 30
        assert source.next(0) is None  # the end stays the end
        stats = source.stats
        assert (stats.captured, stats.delivered, stats.dropped, stats.waiting) == (30, 30, 0, 0)


def test_looping_is_continuous_in_time_and_counts_pictures_anew(clip: Path) -> None:
    with open_source(clip, pace=False, loop=True, duration_s=4.0) as source:
        frames = drain(source)
        assert [f.seq for f in frames] == list(range(80))
        assert [f.source_index for f in frames] == [n % 30 for n in range(80)]
        assert [f.pts_ns for f in frames] == [n * 50_000_000 for n in range(80)]
        assert [f.seq for f in frames if f.reset] == [30, 60]
        assert (source.stats.loops, source.stats.resets) == (2, 2)


def test_a_lower_rate_takes_every_other_picture_and_says_so(clip: Path) -> None:
    with open_source(clip, pace=False, max_fps=10) as source:
        assert source.wait_opened(10).fps == 10
        frames = drain(source)
    assert [f.source_index for f in frames] == list(range(0, 30, 2))
    assert [f.seq for f in frames] == list(range(15))
    assert source.stats.captured == 15


def test_paced_frames_come_at_their_time(clip: Path) -> None:
    with open_source(clip, pace=True, duration_s=0.5) as source:
        frames, late_ns = [], []
        while (captured := source.next(5)) is not None:
            late_ns.append(time.monotonic_ns() - captured.captured_ns)
            frames.append(captured)
    assert len(frames) == 10
    start_ns = frames[0].captured_ns
    assert [f.captured_ns - start_ns for f in frames] == [f.pts_ns for f in frames]
    assert min(late_ns) >= 0  # never before its time
    assert sorted(late_ns)[5] < 40_000_000


def test_a_late_consumer_of_a_paced_source_settles_every_frame(clip: Path) -> None:
    with open_source(clip, pace=True, ring_capacity=2) as source:
        settled, dropped = [], []
        while (captured := source.next(5)) is not None:
            gone = source.take_dropped()
            assert all(f.picture is None and f.seq < captured.seq for f in gone)
            dropped += [f.seq for f in gone]
            settled += [f.seq for f in gone] + [captured.seq]
            wanted = len(dropped) + 3  # busy until three more frames were dropped, or all were captured
            wait_until(functools.partial(dropped_or_done, source, wanted))
        settled += [f.seq for f in source.take_dropped()]
        assert settled == list(range(30))
        assert len(dropped) >= 10
        assert source.stats.dropped == len(dropped)


def dropped_or_done(source: VideoSource, wanted: int) -> bool:
    return source.stats.dropped >= wanted or source.stats.captured == 30


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    pause = threading.Event()
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "the condition never came true"
        pause.wait(0.005)


async def test_async_get_until_the_end(clip: Path) -> None:
    async with open_source(clip, pace=False, ring_capacity=1) as source:
        assert (await source.opened()).width == 192
        count = 0
        while (captured := await asyncio.wait_for(source.get(), 5)) is not None:
            assert captured.seq == count
            count += 1
        assert count == 30


async def test_close_in_the_middle_accounts_for_every_captured_frame(clip: Path) -> None:
    source = open_source(clip, pace=False, loop=True, ring_capacity=3)
    taken = [await source.get() for _ in range(5)]
    assert all(taken)
    await source.aclose()
    assert await source.get() is None
    stats = source.stats
    dropped = [f.seq for f in source.take_dropped()]
    assert dropped == list(range(5, stats.captured))
    assert stats.captured == stats.delivered + stats.dropped
    await source.aclose()


async def test_get_can_be_cancelled_at_any_time(clip: Path) -> None:
    async with open_source(clip, pace=True, ring_capacity=8) as source:
        seen = []
        while True:
            try:
                captured = await asyncio.wait_for(source.get(), 0.013)
            except TimeoutError:
                continue
            if captured is None:
                break
            seen.append(captured.seq)
        assert seen == list(range(30))


def test_truncated_stream_gives_what_decodes(clip: Path, tmp_path: Path) -> None:
    whole = write_test_clip(tmp_path / "clip.mkv", width=192, height=128, fps=20, frames=30)
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with open_source(cut, pace=False) as source:
        frames = drain(source)
    assert 10 <= len(frames) < 30
    assert [index_of(f) for f in frames[:10]] == list(range(10))


def test_damage_in_the_middle_is_counted_and_survived(tmp_path: Path) -> None:
    whole = write_test_clip(tmp_path / "clip.ts", width=192, height=128, fps=20, frames=90, keyframe_every=10)
    data = bytearray(whole.read_bytes())
    rng = np.random.default_rng(5)
    third = len(data) // 3
    data[third : third + third // 2] = rng.integers(0, 256, third // 2, np.uint8).tobytes()
    broken = tmp_path / "broken.ts"
    broken.write_bytes(data)
    with open_source(broken, pace=False) as source:
        frames = drain(source)
        stats = source.stats
    assert 40 <= len(frames) < 90
    assert index_of(frames[0]) == 0 and index_of(frames[-1]) == 89
    assert stats.decode_errors + stats.damaged > 0
    assert stats.gaps >= 1
    assert [f.pts_ns for f in frames] == sorted({f.pts_ns for f in frames})


def test_nothing_decodable_says_so(tmp_path: Path) -> None:
    whole = write_test_clip(tmp_path / "clip.mkv", width=192, height=128, frames=10, keyframe_every=100)
    video = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                at = bytes(video).find(bytes(packet))
                video[at : at + packet.size] = b"\xff" * packet.size
    noise = tmp_path / "noise.mkv"
    noise.write_bytes(video)
    with (
        open_source(noise, pace=False, loop=True) as source,
        pytest.raises(SourceError, match="no picture can be") as e,
    ):
        drain(source)
    assert e.value.url == str(noise)
    assert e.value.advice


def test_what_is_not_a_video(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello\n" * 400)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes())
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(write_test_clip(tmp_path / "w.mp4", width=64, height=64, frames=5).read_bytes()[:900])
    for path in (text, noise, headless):
        with open_source(path) as source:
            with pytest.raises(SourceError, match=r"not a video|no picture"):
                source.next(10)
            with pytest.raises(SourceError):
                source.wait_opened(1)


async def test_audio_only_has_no_video_stream(tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        tone.sample_rate = 8000
        container.mux(stream.encode(tone))
        container.mux(stream.encode(None))
    async with open_source(sound) as source:
        with pytest.raises(SourceError, match="no video stream") as refused:
            await source.opened()
        assert "audio" in refused.value.advice
        with pytest.raises(SourceError, match="no video stream"):
            await source.get()


def test_missing_camera_and_dead_server_fail_clearly() -> None:
    with open_source("/dev/video4095") as camera, pytest.raises(SourceError, match="/dev/video4095: nothing there"):
        camera.next(10)
    with open_source("http://127.0.0.1:9/x.mp4") as web, pytest.raises(SourceError, match="refused") as refused:
        web.next(10)
    assert refused.value.retryable


def test_a_live_source_that_never_answers_gives_up_when_told_to() -> None:
    with open_source("rtsp://user:pw@127.0.0.1:9/cam", give_up_after_s=0.2) as source:
        with pytest.raises(SourceError, match="no picture for") as gone:
            source.next(20)
        assert gone.value.retryable and "pw" not in str(gone.value)
        assert source.stats.connect_failures >= 2


def test_close_while_waiting_to_reconnect_is_quick() -> None:
    source = open_source("rtsp://127.0.0.1:9/cam")
    with pytest.raises(TimeoutError):
        source.next(0.1)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 1
    with pytest.raises(SourceError, match="closed before"):
        source.wait_opened(0)


def test_hardware_that_is_absent_falls_back_with_a_reason(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), open_source(clip, pace=False, hwaccel="vaapi") as source:
        label = source.wait_opened(5).decoder
        assert len(drain(source)) == 30
    if label == "software":
        assert "decoding h264 in software: vaapi is not usable" in caplog.text


@pytest.mark.parametrize("name", ["cuda", "v4l2m2m"])
def test_hardware_that_promises_but_fails_falls_back_without_losing_a_picture(
    clip: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if any(probe.usable for probe in probe_decoders("h264")):
        pytest.skip("this machine decodes h264 in hardware")
    promise = DecoderProbe(Acceleration(name), True, "as the driver says")
    monkeypatch.setattr(stream, "probe_decoders", lambda codec: [promise])
    with caplog.at_level(logging.WARNING), open_source(clip, pace=False, hwaccel=name) as source:
        assert [index_of(f) for f in drain(source)] == list(range(30))
        assert source.wait_opened(0).decoder == "software"
    assert f"{name} failed" in caplog.text or f"{name} decoded nothing" in caplog.text


def test_http_file_is_played_like_a_file(clip: Path) -> None:
    with serving(clip.parent) as root:
        with open_source(f"{root}/clip.mp4", pace=False) as source:
            assert not source.wait_opened(5).live
            assert [index_of(f) for f in drain(source)] == list(range(30))
        with open_source(f"{root}/other.mp4", pace=False) as missing:
            with pytest.raises(SourceError, match="nothing there") as refused:
                missing.next(10)
            assert not refused.value.retryable


def write_playlist(folder: Path, *, ended: bool) -> None:
    options = {"hls_time": "1", "hls_list_size": "0"} | ({} if ended else {"hls_flags": "omit_endlist"})
    clip = write_test_clip(folder / "clip.ts", width=192, height=128, fps=20, frames=80, keyframe_every=20)
    with (
        av.open(str(clip)) as source,
        av.open(str(folder / "cam.m3u8"), "w", format="hls", options=options) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietFiles, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_playlist_that_ended_is_a_file(tmp_path: Path) -> None:
    write_playlist(tmp_path, ended=True)
    with serving(tmp_path) as root, open_source(f"{root}/cam.m3u8", pace=False) as source:
        assert not source.wait_opened(5).live
        assert [index_of(f) for f in drain(source)] == list(range(80))


def test_a_live_playlist_is_paced_though_it_comes_in_segments(tmp_path: Path) -> None:
    write_playlist(tmp_path, ended=False)
    with serving(tmp_path) as root:
        with open_source(f"{root}/cam.m3u8", ring_capacity=2, duration_s=1.2, stall_timeout_s=1.0) as source:
            assert source.wait_opened(5).live
            frames = drain(source)
            assert source.stats.dropped == 0 and source.stats.reconnects == 0
        steps = [b.captured_ns - a.captured_ns for a, b in itertools.pairwise(frames)]
        assert len(frames) >= 20
        assert steps == [50_000_000] * len(steps)


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Tests print nothing."""
