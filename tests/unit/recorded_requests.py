"""What tests of recordings share: requests as they cross the bus, and files of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meshload.recording.entries import End, Head, entry
from meshload.recording.layout import (
    END,
    HEAD,
    REQUEST,
    ChunkWriter,
)
from splitmesh.codec.picture import encode_picture
from splitmesh.media.clip import draw_picture
from splitmesh.wire.requests import InferRequest, StreamRequest

SHA = "ab" * 32
S = 1_000_000_000
PICTURE = encode_picture(draw_picture(3, width=64, height=48), quality=70)


def full(seq: int, *, edge: str = "cam-1", **fields: Any) -> bytes:
    values = {"model": "m", "model_sha256": SHA, "cut": "", "payload": PICTURE, "budget_us": 90_000} | fields
    return InferRequest(f"{edge}.r1.{seq}", edge, **values).encode()  # type: ignore[arg-type]


def slim(seq: int, *, stream: int, payload: bytes = b"delta", budget_us: int = 80_000) -> bytes:
    return StreamRequest(stream, seq, payload, budget_us).encode()


def written(path: Path, *requests: tuple[float, bytes], payloads: bool = True, ended: bool = True) -> Path:
    """A recording of (second, request)s that went on for 4 s."""
    writer = ChunkWriter(path)
    writer.add(HEAD, Head("default", payloads, "2026-01-01").to_bytes())
    for second, raw in requests:
        writer.add(REQUEST, entry(round(second * S), raw, {}, keep_payload=payloads))
    if ended:
        writer.add(END, End(4 * S, len(requests), "time").to_bytes())
    writer.close()
    return path


MIXED = (
    (0.25, slim(4, stream=9)),
    (0.5, full(1)),
    (1.0, full(2, edge="cam-2", cut="n37", payload=b"key", stream=7, budget_us=200_000)),
    (1.5, slim(3, stream=7)),
    (3.0, full(4, model="other", payload=b"x" * 10)),
)
