"""A real RTSP server that is killed, restarted and frozen while the source captures from it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitmesh.errors import SourceError
from splitmesh.media.captured import Captured
from splitmesh.media.clip import read_index, write_test_clip
from splitmesh.media.source import VideoSource, open_source

SERVER = Path(__file__).with_name("rtsp_server.py")
PYTHON = Path("/usr/bin/python3")
FPS, FRAMES = 15, 60


def missing() -> str:
    if not PYTHON.exists():
        return "no /usr/bin/python3"
    check = subprocess.run([PYTHON, SERVER, "--check"], capture_output=True, text=True, check=False)
    return check.stdout.strip() if check.returncode else ""


MISSING = missing()
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"RTSP server not installed ({MISSING}); see tests/e2e/README.md"),
    pytest.mark.timeout(120),
]


class RtspServer:
    def __init__(self, clip: Path, port: int) -> None:
        self.url = f"rtsp://127.0.0.1:{port}/cam"
        self._process = subprocess.Popen(
            [PYTHON, SERVER, clip, str(FPS), str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], 20)
        assert readable and self._process.stdout.readline().startswith(b"ready")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_test_clip(tmp_path_factory.mktemp("rtsp") / "clip.h264", fps=FPS, frames=FRAMES)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("capture ")]


@contextlib.contextmanager
def serving(clip: Path, port: int) -> Iterator[RtspServer]:
    server = RtspServer(clip, port)
    try:
        yield server
    finally:
        server.kill()


def index_of(captured: Captured) -> int:
    assert captured.picture is not None
    return read_index(captured.picture.to_ndarray(format="rgb24"))


async def take(source: VideoSource, count: int, within_s: float) -> list[Captured]:
    frames = []
    async with asyncio.timeout(within_s):
        while len(frames) < count:
            captured = await source.get()
            assert captured is not None
            frames.append(captured)
    return frames


async def test_frames_flow_in_order(clip: Path, port: int) -> None:
    with serving(clip, port) as server:
        async with open_source(server.url, ring_capacity=64) as source:
            info = await source.opened()
            assert (info.width, info.height, info.codec, info.live) == (320, 240, "h264", True)
            frames = await take(source, 75, 30)
            indices = [index_of(f) for f in frames]
            assert all(b == (a + 1) % FRAMES for a, b in itertools.pairwise(indices))
            assert [f.seq for f in frames] == list(range(75))
            steps = [b.pts_ns - a.pts_ns for a, b in itertools.pairwise(frames)]
            assert all(0 < step < 200_000_000 for step in steps)
            assert source.stats.decode_errors == 0


async def test_killed_and_restarted_server_is_picked_up_again(
    clip: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serving(clip, port) as first:
        source = open_source(first.url, ring_capacity=64)
        before = await take(source, 20, 30)
        first.kill()
    with pytest.raises(TimeoutError):  # what was in flight runs out; then nothing, and no end of stream either
        await take(source, 10_000, 2)
    assert source.stats.reconnects == 0
    with serving(clip, port):
        after = await take(source, 20, 60)
        stats = source.stats
        await source.aclose()
    assert stats.reconnects == 1
    assert stats.resets >= 1
    assert [f.seq for f in after] == list(range(after[0].seq, after[0].seq + 20))
    first_again = next(f for f in after if f.reset)
    assert first_again.gap and first_again.source_index == 0
    outage_ns = first_again.captured_ns - before[-1].captured_ns
    assert abs(first_again.pts_ns - before[-1].pts_ns - outage_ns) < 3_000_000_000
    assert "next try in" in caplog.text and "connected again" in caplog.text


async def test_a_frozen_server_is_noticed_and_its_return_too(
    clip: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(clip, port) as server:
        async with open_source(server.url, ring_capacity=64, stall_timeout_s=2.0, open_timeout_s=3.0) as source:
            await take(source, 20, 30)
            server.send(signal.SIGSTOP)
            frozen_at = time.time()
            try:
                with pytest.raises(TimeoutError):
                    await take(source, 10_000, 4.5)
                assert "next try in" in caplog.text
                noticed = next(record for record in caplog.records if "next try in" in record.message)
                assert noticed.created - frozen_at < 3.5
            finally:
                server.send(signal.SIGCONT)
            await take(source, 20, 60)
            assert source.stats.reconnects >= 1


async def test_closing_under_a_frozen_server_takes_no_longer_than_the_stall_timeout(clip: Path, port: int) -> None:
    with serving(clip, port) as server:
        source = open_source(server.url, stall_timeout_s=2.0, open_timeout_s=2.0)
        await take(source, 5, 30)
        server.send(signal.SIGSTOP)
        started = time.monotonic()
        await source.aclose()
        assert time.monotonic() - started < 5
        server.send(signal.SIGCONT)


async def test_a_wrong_path_is_an_error_not_a_retry(clip: Path, port: int) -> None:
    with serving(clip, port) as server:
        async with open_source(server.url + "/nope") as source:
            with pytest.raises(SourceError, match="nothing there"):
                async with asyncio.timeout(20):
                    await source.get()


async def test_live_duration_is_wall_time(clip: Path, port: int) -> None:
    with serving(clip, port) as server:
        async with open_source(server.url, duration_s=2.0) as source:
            frames = []
            async with asyncio.timeout(30):
                while (captured := await source.get()) is not None:
                    frames.append(captured)
            assert 1.5 < (frames[-1].captured_ns - frames[0].captured_ns) / 1e9 < 2.0
