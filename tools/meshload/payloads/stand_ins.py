"""Owns payloads that stand for others of which only the size is known."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final

import numpy as np

from meshload.target import Payload
from splitmesh.codec.container import Section, build, parse
from splitmesh.codec.picture import encode_picture
from splitmesh.media.clip import draw_picture
from splitmesh.provision.model import provide_model

_SEED: Final = 7
_QUALITIES: Final = (*range(1, 20), *range(20, 101, 5))
_START_OF_IMAGE: Final = 2
"""Bytes of a JPEG's first marker."""

Maker = Callable[[int], Payload]
"""A payload of so many bytes."""


def random_bytes(limit_bytes: int) -> Maker:
    """Payloads of up to `limit_bytes` that don't compress; each the beginning of the largest."""
    data = np.random.default_rng(_SEED).bytes(limit_bytes)
    return lambda size: Payload(data[:size], name=f"{size} random bytes")


def pictures(model: str) -> Maker:
    """Pictures that `model` (name or ONNX file; "": the default one) takes, as containers of exactly the size asked
    for, or of the least that a picture takes where that is more.

    The best JPEG that fits is filled up: bytes 0xFF before a marker mean nothing (ITU-T T.81, B.1.1.2). Raises
    ModelError.
    """
    manifest = provide_model(model or None).manifest
    picture = draw_picture(0, width=manifest.width, height=manifest.height)
    made = sorted((encode_picture(picture, quality=quality) for quality in _QUALITIES), key=len)
    sizes = [len(each) for each in made]

    def of_size(size: int) -> Payload:
        fits = made[max(0, bisect_right(sizes, size) - 1)]
        found = parse(fits)
        jpeg = bytes(found.sections[0].data)
        filling = b"\xff" * max(0, size - len(fits))
        filled = jpeg[:_START_OF_IMAGE] + filling + jpeg[_START_OF_IMAGE:]
        data = build(found.codec, found.level, [Section("", picture.shape, 0, b"", filled)]) if filling else fits
        return Payload(data, raw=filled, name=f"a picture of {len(data)} bytes", content_type="image/jpeg")

    return of_size
