"""Owns the way from a picture that was sent to the payload that a worker decodes. On the pictures' threads.

A JPEG of just the model's size goes through as it is: the worker then sees the very bytes that were sent. Other
pictures are decoded, resized and padded as the model's manifest says, and coded anew: what came as pixels exactly,
what came as a file as a JPEG.
"""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass

import numpy as np
import simplejpeg

from splitmesh.codec.container import Section, build
from splitmesh.codec.exact import encode_exact
from splitmesh.codec.picture import RgbImage, encode_picture
from splitmesh.codec.scans import MAX_SCANS, too_many_scans
from splitmesh.errors import DecodeError, FrameShapeError
from splitmesh.frames.geometry import Fit, Placement
from splitmesh.wire.requests import MAX_PAYLOAD_BYTES

MAX_SIDE_PX = 16_384
MAX_PIXELS = 50_000_000
"""Of a coded picture. One that is no JPEG takes four bytes each once decoded, eight if it is not RGB."""
_LARGE_PIXELS = 8_000_000
_one_large = threading.Lock()
"""So many large ones at a time: the memory is the gateway's, whoever sends them."""
QUALITY = 95
"""Of the JPEG that a picture becomes: the way to the worker is short."""

_JPEG = b"\xff\xd8\xff"
_AS_IT_IS = frozenset({"YCbCr", "Gray", "RGB"})
_FORMATS = ("PNG", "WEBP", "BMP", "TIFF", "JPEG")
_HEAD_BYTES = 512
"""Of a container around a JPEG, generously."""


@dataclass(frozen=True, slots=True)
class InputPicture:
    """What the model takes: its size in pixels, how others are fitted, and the grey level of the padding."""

    width: int
    height: int
    fit: Fit
    pad_value: int

    def placement(self, width: int, height: int) -> Placement:
        """Of a picture of that size. Raises FrameShapeError."""
        return Placement(width, height, self.width, self.height, self.fit)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A payload, and where the picture that was sent lies in what it holds."""

    payload: bytes
    placement: Placement


def passed_through(data: bytes, wanted: InputPicture) -> Fitted | None:
    """A JPEG of the model's size as it is; None for anything else. Decodes nothing: takes microseconds."""
    if not data.startswith(_JPEG) or len(data) > MAX_PAYLOAD_BYTES - _HEAD_BYTES:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if (height, width) != (wanted.height, wanted.width) or colours not in _AS_IT_IS or too_many_scans(data):
        return None
    payload = build("jpeg", QUALITY, [Section("", (height, width, 3), 0, b"", data)])
    return Fitted(payload, wanted.placement(width, height))


def fit_encoded(data: bytes, wanted: InputPicture) -> Fitted:
    """Any picture file. Raises DecodeError, FrameShapeError."""
    width, height, picture = decoded(data, wanted)
    place = wanted.placement(width, height)
    return Fitted(encode_picture(_content(picture, wanted, place), quality=QUALITY), place)


def fit_pixels(picture: RgbImage, wanted: InputPicture) -> Fitted:
    """(H, W, 3) uint8 RGB, of which nothing is lost but by resizing; a picture that does not fit into one request so
    goes as a JPEG. Raises DecodeError."""
    height, width = picture.shape[:2]
    place = wanted.placement(width, height)
    content = _content(picture, wanted, place)
    payload = encode_exact(content)
    return Fitted(payload if len(payload) <= MAX_PAYLOAD_BYTES else encode_picture(content, quality=QUALITY), place)


def raw_picture(pixels: bytes, width: int, height: int) -> RgbImage:
    """(height, width, 3) uint8 RGB, a view of `pixels`. Raises FrameShapeError."""
    if not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        raise FrameShapeError(f"a picture of {width} x {height} is not of 1 to {MAX_SIDE_PX} pixels each way")
    if len(pixels) != width * height * 3:
        raise FrameShapeError(
            f"{len(pixels)} bytes are not the {width * height * 3} of {width} x {height} RGB pixels"
        )
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def decoded(data: bytes, wanted: InputPicture) -> tuple[int, int, RgbImage]:
    """(width, height, (H, W, 3) uint8 RGB): a large JPEG comes at a smaller size that the model's still fits into,
    other files at that which the model's picture has of them.

    Raises DecodeError, FrameShapeError.
    """
    if not data.startswith(_JPEG):
        return _decoded_by_pillow(data, wanted)
    if too_many_scans(data):
        raise DecodeError(f"the JPEG has more than {MAX_SCANS} scans")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in _AS_IT_IS:
            return _decoded_by_pillow(data, wanted)
        _check_size(width, height)
        place = wanted.placement(width, height)
        picture = simplejpeg.decode_jpeg(data, "RGB", min_height=place.content_h, min_width=place.content_w)
    except ValueError as exc:
        raise DecodeError(f"the JPEG can't be decoded: {exc}") from exc
    return width, height, picture


def _decoded_by_pillow(data: bytes, wanted: InputPicture) -> tuple[int, int, RgbImage]:
    try:
        from PIL import Image
    except ModuleNotFoundError as exc:
        raise _without_pillow("read picture files other than JPEG") from exc
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            _check_size(width, height)
            place = wanted.placement(width, height)
            with _one_large if width * height > _LARGE_PIXELS else contextlib.nullcontext():
                rgb = image if image.mode == "RGB" else image.convert("RGB")
                small = rgb.resize((place.content_w, place.content_h), Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise DecodeError(f"{len(data)} bytes are no picture that can be read: {exc}"[:300]) from exc
    return width, height, np.asarray(small)


def _content(picture: RgbImage, wanted: InputPicture, place: Placement) -> RgbImage:
    """What the model takes: `picture`, perhaps a smaller version of the one that is placed, resized and padded."""
    fits = (picture.shape[1], picture.shape[0]) == (place.content_w, place.content_h)
    content = np.ascontiguousarray(picture) if fits else _resized(picture, place)
    if content.shape[:2] == (wanted.height, wanted.width):
        return content
    canvas = np.full((wanted.height, wanted.width, 3), wanted.pad_value, np.uint8)
    top, left = place.pad_top, place.pad_left
    canvas[top : top + place.content_h, left : left + place.content_w] = content
    return canvas


def _resized(picture: RgbImage, place: Placement) -> RgbImage:
    """Bilinear over as many source pixels as each one covers."""
    try:
        from PIL import Image
    except ModuleNotFoundError as exc:
        raise _without_pillow("resize pictures") from exc
    small = Image.fromarray(picture).resize((place.content_w, place.content_h), Image.Resampling.BILINEAR)
    return np.asarray(small)


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise FrameShapeError(
            f"a picture of {width} x {height} is too large",
            advice=f"each side may have {MAX_SIDE_PX} pixels, the whole {MAX_PIXELS}",
        )


def _without_pillow(what: str) -> DecodeError:
    return DecodeError(
        f"this gateway can't {what}: PIL is not installed", advice="pip install 'splitmesh[gateway]' there"
    )
