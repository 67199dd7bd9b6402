"""Owns what is fuzzed: every decoder of bytes from other processes, with good payloads of each and what may come out.

A decoder under test gets payloads as a hostile peer would make them: checksums fit again after most mutations.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from tools.fuzz_child import Target, WrongResult

from splitmesh.codec import container
from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.codec.registry import CODECS
from splitmesh.media.h264 import H264Decoder, H264Encoder
from splitmesh.media.webp import decode_webp, encode_webp

F32 = npt.NDArray[np.float32]


def field(shape: tuple[int, ...], seed: int) -> F32:
    """Feature-like float32 tensor (1, C, H, W): smooth, with noise, its own scale and offset per channel."""
    rng = np.random.default_rng(seed)
    _, channels, height, width = shape
    y, x = np.mgrid[0:height, 0:width] / height
    phase = rng.uniform(0, 6, (channels, 2, 1, 1))
    values = np.sin(5 * x + phase[:, 0]) + np.cos(4 * y + phase[:, 1]) + 0.2 * rng.standard_normal(shape[1:])
    values = values * rng.lognormal(0, 0.7, (channels, 1, 1)) + rng.normal(0, 2, (channels, 1, 1))
    return np.asarray(values[None], np.float32)


def picture(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """Picture-like (H, W, 3) uint8."""
    values = field((1, 3, height, width), seed)[0].transpose(1, 2, 0) * 30 + 128
    return np.ascontiguousarray(values.clip(0, 255).astype(np.uint8))


def check_tensors(tensors: Mapping[str, npt.NDArray[Any]], expect: Mapping[str, Sequence[int]]) -> None:
    """Raises WrongResult unless `tensors` are those of `expect`, float32 and finite."""
    shapes = {name: tuple(shape) for name, shape in expect.items()}
    if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise WrongResult(f"shapes { ({n: t.shape for n, t in tensors.items()}) }, expected {shapes}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
            raise WrongResult(f"tensor {name!r} is {tensor.dtype} or not finite")


def check_picture(rgb: npt.NDArray[Any], expect: tuple[int, int]) -> None:
    """Raises WrongResult unless `rgb` is uint8 (*expect, 3)."""
    if rgb.dtype != np.uint8 or rgb.shape != (*expect, 3):
        raise WrongResult(f"picture is {rgb.dtype} {rgb.shape}, expected uint8 {(*expect, 3)}")


def sealed_container(payload: bytearray, rng: Random) -> bytes:
    """With a checksum that fits, and mostly with the length that its head announces."""
    if len(payload) >= container.HEAD_BYTES:
        if rng.random() < 0.8:
            payload[6:10] = (len(payload) - container.HEAD_BYTES).to_bytes(4, "little")
        crc = zlib.crc32(memoryview(payload)[container.HEAD_BYTES :], zlib.crc32(memoryview(payload)[:10]))
        payload[10:14] = crc.to_bytes(4, "little")
    return bytes(payload)


SHAPES = {"t": (1, 6, 9, 11), "v": (1, 40)}


def _tensors(seed: int) -> dict[str, F32]:
    return {"t": field(SHAPES["t"], seed), "v": field((1, 1, 1, 40), seed).reshape(1, 40)}


def _features(codec: str, levels: Sequence[int]) -> Target:
    seeds = [encode_features(_tensors(s), codec=codec, level=level) for s in (1, 2) for level in levels]

    def decode(payload: bytes) -> None:
        check_tensors(decode_features(payload, expect=SHAPES), SHAPES)

    return Target(seeds, lambda: decode, sealed_container)


def u8lz4() -> Target:
    return _features("u8lz4", (8, 6, 5, 3))


def u8zstd() -> Target:
    return _features("u8zstd", (8, 6, 5))


def u8zstd_4bit() -> Target:
    return _features("u8zstd", (4, 3))


def parse_container() -> Target:
    def decode(payload: bytes) -> None:
        parsed = container.parse(payload)
        held = sum(len(section.side) + len(section.data) for section in parsed.sections)
        if parsed.codec not in CODECS or held > len(payload):
            raise WrongResult(f"{parsed.codec!r} holds {held} bytes of {len(payload)}")

    seeds = [encode_features(_tensors(s), codec="u8lz4", level=4) for s in (1, 2)] + [
        container.build(
            "jpeg", 50, [container.Section(str(i), (i + 1, 2), i, b"side" * i, b"data") for i in range(9)]
        )
    ]
    return Target(seeds, lambda: decode, sealed_container)


def jpeg() -> Target:
    seeds = [encode_picture(picture(*SIZE, s), quality=q) for s, q in QUALITIES]
    return _pictures(decode_picture, [*seeds, encode_picture(picture(*SIZE, 4), quality=60, codec="roijpeg")])


def webp() -> Target:
    return _pictures(decode_webp, [encode_webp(picture(*SIZE, s), quality=q) for s, q in QUALITIES])


def h264() -> Target:
    """A stream's key and the frame after it: payloads come to a decoder that has the true key."""
    encoder = H264Encoder(SIZE, level=30, stream=7)
    seeds = [encoder.encode(picture(*SIZE, seed)).payload for seed in (1, 2)]
    return Target(seeds, lambda: _AfterKey(seeds[0]), sealed_container)


class _AfterKey:
    def __init__(self, key: bytes) -> None:
        self._key = key
        self._decoder = H264Decoder()

    def __call__(self, payload: bytes) -> None:
        if not self._decoder.state_bytes:
            self._decoder.decode(self._key, expect=SIZE)
        check_picture(self._decoder.decode(payload, expect=SIZE), SIZE)
        self._decoder.reset()


SIZE = (41, 53)
QUALITIES = ((1, 95), (2, 85), (3, 40))


def _pictures(decode: Callable[..., npt.NDArray[Any]], seeds: Sequence[bytes]) -> Target:
    return Target(seeds, lambda: lambda payload: check_picture(decode(payload, expect=SIZE), SIZE), sealed_container)
