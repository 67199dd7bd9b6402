from pathlib import Path

import pytest

from splitmesh.errors import SourceError
from splitmesh.media.address import SourceKind, hide_credentials, parse_address


@pytest.mark.parametrize(
    ("text", "kind", "url"),
    [
        ("rtsp://cam/1", SourceKind.STREAM, "rtsp://cam/1"),
        ("RTSPS://cam/1", SourceKind.STREAM, "RTSPS://cam/1"),
        ("srt://host:9000", SourceKind.STREAM, "srt://host:9000"),
        ("http://cam/video.m3u8", SourceKind.HTTP, "http://cam/video.m3u8"),
        ("/dev/video0", SourceKind.DEVICE, "/dev/video0"),
        ("v4l2:/dev/video7", SourceKind.DEVICE, "/dev/video7"),
        ("/dev/v4l/by-id/usb-cam-index0", SourceKind.DEVICE, "/dev/v4l/by-id/usb-cam-index0"),
    ],
)
def test_kinds(text: str, kind: SourceKind, url: str) -> None:
    address = parse_address(text)
    assert (address.kind, address.url) == (kind, url)


def test_files_by_path_and_by_url(tmp_path: Path) -> None:
    video = tmp_path / "my clip.mp4"
    video.write_bytes(b"x")
    assert parse_address(video).kind is SourceKind.FILE
    assert parse_address(f"file://{tmp_path}/my%20clip.mp4").url == str(video)


def test_credentials_never_show() -> None:
    address = parse_address("rtsp://root:hunter2@10.0.0.9/stream?x=1")
    assert address.shown == "rtsp://***@10.0.0.9/stream?x=1"
    assert address.url == "rtsp://root:hunter2@10.0.0.9/stream?x=1"
    with pytest.raises(SourceError) as refused:
        parse_address("gopher://me:secret@host/x")
    assert "secret" not in str(refused.value) + refused.value.url
    assert hide_credentials("no url here") == "no url here"


def test_what_is_no_file(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path, message in ((tmp_path / "nope.mp4", "no such file"), (tmp_path, "folder"), (empty, "empty")):
        with pytest.raises(SourceError, match=message) as refused:
            parse_address(path)
        assert refused.value.url == str(path)
        assert refused.value.advice
        assert not refused.value.retryable
