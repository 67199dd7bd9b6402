"""Owns what the load of `bench.serving` sends: pictures of the default video, coded as the edge codes them."""

from __future__ import annotations

from collections.abc import Iterator

from splitmesh.codec.container import parse
from splitmesh.codec.picture import encode_picture
from splitmesh.edge.coding import Coding
from splitmesh.frames.answer import F32
from splitmesh.frames.normalize import U8
from splitmesh.inference.session import open_session
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.plan.bundle.read import Bundle

BODIES = 48
JPEG_QUALITY = 95
_EVERY = 5
_FRAME_WAIT_S = 5.0


def pictures(bundle: Bundle, source: str) -> Iterator[tuple[U8, F32]]:
    """(H, W, 3) uint8 RGB and the model's input tensor of every fifth picture, 48 of them."""
    preparer = Preparer.from_manifest(bundle.manifest)
    video = open_source(source, pace=False, hwaccel="none")
    found = 0
    try:
        while found < BODIES and (captured := video.next(_FRAME_WAIT_S)) is not None:
            if captured.picture is None or captured.source_index % _EVERY:
                continue
            prepared = preparer.prepare(captured.picture)
            yield prepared.rgb.copy(), prepared.tensor.copy()
            prepared.release()
            found += 1
    finally:
        video.close()


def whole_bodies(bundle: Bundle, source: str) -> tuple[list[bytes], list[bytes]]:
    """Payloads of JPEGs for the mesh, and the JPEGs alone for everybody else."""
    payloads = [encode_picture(rgb, quality=JPEG_QUALITY) for rgb, _ in pictures(bundle, source)]
    return payloads, [bytes(parse(payload).sections[0].data) for payload in payloads]


def cut_bodies(bundle: Bundle, source: str, cut: str, level: int) -> tuple[list[bytes], list[bytes]]:
    """Payloads of compact features, the same for all."""
    head, coding = open_session(bundle.head_path(cut), providers=("cpu",)), Coding(bundle)
    point = next(
        p for p in bundle.points_with(f"split/{cut}/compact-{level}") if p.cut == cut and p.codec == "compact"
    )
    inputs = [{bundle.manifest.input: tensor} for _, tensor in pictures(bundle, source)]
    payloads = [coding.alone(point, head.run(each)) for each in inputs]
    return payloads, payloads
