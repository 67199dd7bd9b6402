"""Stands in for `codec.planes` until that is there: zlib, no model."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from splitmesh.errors import CodecError


class PlaneModel(NamedTuple):
    data: bytes = b"\0"

    def to_bytes(self) -> bytes:
        return self.data

    @staticmethod
    def from_bytes(data: bytes) -> PlaneModel:
        return PlaneModel(data)


class PlaneExample(NamedTuple):
    planes: Any
    scale: Any
    context: Any


def fit_plane_model(examples: Sequence[PlaneExample]) -> PlaneModel:
    return PlaneModel()


def encode_planes(planes: Sequence[Any], *, model: PlaneModel) -> bytes:
    return zlib.compress(b"".join(each[0].astype("<i2").tobytes() for each in planes), 9)


def decode_planes(data: Any, shapes: Any, *, model: PlaneModel, scales: Any, contexts: Any = None) -> list[Any]:
    counts = [int(np.prod(shape)) for shape in shapes]
    try:
        raw = zlib.decompressobj().decompress(data, 2 * sum(counts) + 1)
    except zlib.error as exc:
        raise CodecError("planes are malformed") from exc
    if len(raw) != 2 * sum(counts):
        raise CodecError("planes are cut short")
    flat = np.split(np.frombuffer(raw, "<i2").astype(np.int16), np.cumsum(counts)[:-1])
    return [part.reshape(shape) for part, shape in zip(flat, shapes, strict=True)]
