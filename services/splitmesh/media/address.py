"""Owns what a source's address means: file, network stream, HTTP or camera device. Opens nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from splitmesh.errors import SourceError

_STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "srt", "tcp")
_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]+)://")
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")


class SourceKind(StrEnum):
    FILE = "file"
    STREAM = "stream"
    """Live by nature: RTSP, RTMP, UDP, SRT."""
    HTTP = "http"
    """A file, an HLS playlist or a camera's MJPEG: known once opened."""
    DEVICE = "device"
    """A V4L2 camera."""


@dataclass(frozen=True, slots=True)
class Address:
    """`url`: as the demuxer wants it. `shown`: for people and logs, without credentials."""

    url: str
    shown: str
    kind: SourceKind


def parse_address(source: str | Path) -> Address:
    """What `source` names: a path, `scheme://…`, `/dev/videoN` or `v4l2:/dev/videoN`.

    Raises SourceError for a scheme that no demuxer takes, and for a file that is missing, empty or a folder.
    """
    text = str(source)
    if text.startswith("v4l2:"):
        return Address(text[5:], text[5:], SourceKind.DEVICE)
    if re.match(r"^/dev/(video\d+|v4l/)", text):
        return Address(text, text, SourceKind.DEVICE)
    match = _SCHEME.match(text)
    scheme = match.group(1).lower() if match else "file"
    if scheme in _STREAM_SCHEMES:
        return Address(text, hide_credentials(text), SourceKind.STREAM)
    if scheme in ("http", "https"):
        return Address(text, hide_credentials(text), SourceKind.HTTP)
    if scheme != "file":
        raise SourceError(
            f"{hide_credentials(text)}: unknown kind of source {scheme!r}",
            url=hide_credentials(text),
            advice=f"use a file, /dev/videoN, http(s) or one of {', '.join(_STREAM_SCHEMES)}",
        )
    return _file(Path(unquote(urlsplit(text).path)) if match else Path(text))


def hide_credentials(text: str) -> str:
    """`text` with the user and password of any URL in it replaced by `***`."""
    return _CREDENTIALS.sub(r"\1***@", text)


def _file(path: Path) -> Address:
    shown = str(path)
    if not path.exists():
        raise SourceError(f"{shown}: no such file", url=shown, advice="check the path of the video")
    if path.is_dir():
        raise SourceError(f"{shown} is a folder, not a video", url=shown, advice="name one video file")
    if path.is_file() and path.stat().st_size == 0:
        raise SourceError(f"{shown} is empty", url=shown, advice="the copy or recording may have failed")
    return Address(shown, shown, SourceKind.FILE)
