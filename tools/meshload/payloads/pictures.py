"""Owns payloads that are pictures: frames of a video, and made-up ones, as an edge sends them for the whole model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from meshload.payloads.prepared import PayloadError, Prepared, Terms, gathered
from meshload.payloads.spec import DEFAULT, Frames, Synthetic
from meshload.target import Payload
from splitmesh.codec.container import parse
from splitmesh.codec.picture import encode_picture
from splitmesh.codec.registry import CODECS, check_level
from splitmesh.errors import CodecError, SourceError
from splitmesh.frames.normalize import U8
from splitmesh.media.clip import draw_picture
from splitmesh.media.prepare import Prepared as PreparedPicture
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import VideoSource, open_source
from splitmesh.media.webp import encode_webp
from splitmesh.models.registry import ResolvedModel, default_clip
from splitmesh.provision.model import provide_model

_WAIT_S: Final = 20.0
_CONTENT_TYPES: Final = {"jpeg": "image/jpeg", "webp": "image/webp"}
_DRAWN: Final = 16
"""Made-up pictures, each another one."""


def frames(spec: Frames, text: str, terms: Terms) -> Prepared:
    """Frames of a video from its beginning. Raises PayloadError, SourceError, ModelError."""
    code = PictureCode(spec.codec, spec.level, text, terms.model)
    video = the_video(spec.video)
    name = Path(video).name
    preparer = Preparer.from_manifest(code.model.manifest)
    made = (
        code.coded(picture.rgb, f"{name} frame {number}")
        for number, picture in enumerate(prepared_frames(video, preparer, terms.limit_frames))
    )
    what = f"frames of {name} at {preparer.width}x{preparer.height} as {spec.codec}-{spec.level}"
    return gathered(made, spec=text, what=what, limit_bytes=terms.limit_bytes)


def drawn(spec: Synthetic, text: str, terms: Terms) -> Prepared:
    """Shapes that move over a texture, at the size that is asked for or that of the model's input."""
    code = PictureCode("jpeg", 85, text, terms.model)
    width, height = spec.width or code.model.manifest.width, spec.height or code.model.manifest.height
    made = (
        code.coded(draw_picture(index, width=width, height=height), f"synthetic picture {index}")
        for index in range(min(_DRAWN, terms.limit_frames))
    )
    what = f"synthetic pictures of {width}x{height} as jpeg-85"
    return gathered(made, spec=text, what=what, limit_bytes=terms.limit_bytes)


class PictureCode:
    """How pictures become payloads for `model`. Raises PayloadError for a codec that can't code each by itself."""

    def __init__(self, codec: str, level: int, text: str, model: str) -> None:
        check_alone(codec, level, text)
        if codec not in _CONTENT_TYPES:
            raise PayloadError(
                f"no edge sends whole pictures as {codec}", spec=text, advice=f"take {' or '.join(_CONTENT_TYPES)}"
            )
        self.model: ResolvedModel = provide_model(model or None)
        self._codec = codec
        self._level = level

    def coded(self, rgb: U8, name: str) -> Payload:
        """rgb: (H, W, 3) uint8 RGB."""
        encode = encode_webp if self._codec == "webp" else encode_picture
        content = encode(rgb, quality=self._level)
        return Payload(
            content,
            raw=bytes(parse(content).sections[0].data),
            name=name,
            model=self.model.manifest.name,
            model_sha256=self.model.sha256,
            content_type=_CONTENT_TYPES[self._codec],
        )


def check_alone(codec: str, level: int, text: str) -> None:
    """Raises PayloadError unless `codec` is known, has `level`, and codes each frame by itself."""
    try:
        check_level(codec, level)
    except CodecError as exc:
        raise PayloadError(exc.message, spec=text, advice=exc.advice) from exc
    if CODECS[codec].stateful:
        raise PayloadError(
            f"{codec} codes a frame by those before it that its worker has acknowledged",
            spec=text,
            advice="take a codec without state, such as jpeg-85 or webp-50",
        )


def the_video(video: str) -> str:
    """Raises ModelError if the default one can't be had."""
    return str(default_clip()) if video == DEFAULT else video


def prepared_frames(video: str, preparer: Preparer, limit: int) -> Iterator[PreparedPicture]:
    """At most `limit` frames from the beginning of `video`; the next one takes the place of the one before.

    Raises SourceError if it can't be opened or brings nothing for 20 s.
    """
    with open_source(video, pace=False, give_up_after_s=_WAIT_S) as source:
        for _, picture in zip(range(limit), _pictures(source, video, preparer), strict=False):
            yield picture
            picture.release()


def _pictures(source: VideoSource, video: str, preparer: Preparer) -> Iterator[PreparedPicture]:
    try:
        while (captured := source.next(_WAIT_S)) is not None:
            if captured.picture is not None:
                yield preparer.prepare(captured.picture)
    except TimeoutError as exc:
        raise SourceError("the source brings no frames", url=video, retryable=True) from exc
