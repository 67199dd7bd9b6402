"""Codec speed and size on feature-like tensors and pictures → bench/results/codec_speed.json.

Usage: python bench/codec_speed.py [--out bench/results/codec_speed.json]

One thread; medians of its processor time, MB/s of float32 (of pixels for pictures). `numpy` is a plain quantiser
without entropy coding, `copy` a copy of the tensor; "×" is a row's time relative to the first of its shape. Tensors
are synthetic (smooth fields with noise, per-channel scale and offset), so sizes only tell codecs apart; the sizes of
a real cut are those in its plan's calibration table.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.codec.registry import FEATURE_CODECS, PICTURE_CODECS

SHAPES = ((1, 64, 19, 19), (1, 64, 52, 52), (1, 32, 150, 150))
PICTURES = ((300, 300), (640, 640))


def median_ms(act: Callable[[], object], *, at_least_s: float = 0.12) -> float:
    """Median processor time of `act` in milliseconds, over at least 15 runs."""
    act()
    runs: list[float] = []
    while len(runs) < 15 or sum(runs) < at_least_s:
        start = time.thread_time()
        act()
        runs.append(time.thread_time() - start)
    return statistics.median(runs) * 1e3


def plain_quantise(tensor: npt.NDArray[np.float32]) -> bytes:
    """8 bits per element the straightforward way, without entropy coding: what a codec's speed is compared with."""
    low, high = tensor.min(axis=(2, 3), keepdims=True), tensor.max(axis=(2, 3), keepdims=True)
    symbols: bytes = ((tensor - low) * (255 / (high - low)) + 0.5).clip(0, 255).astype(np.uint8).tobytes()
    return symbols


def plain_dequantise(symbols: bytes, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    scale = np.full((1, shape[1], 1, 1), 1 / 255, np.float32)
    return np.frombuffer(symbols, np.uint8).reshape(shape).astype(np.float32) * scale + scale


def field(shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Smooth per-channel field plus 10 % noise, float32 of `shape` (1, C, H, W)."""
    _, channels, height, width = shape
    y, x = np.mgrid[0:height, 0:width] / height
    phase = rng.uniform(0, 6, (channels, 2, 1, 1))
    values = np.sin(7 * x + phase[:, 0]) + np.cos(9 * y + phase[:, 1]) + 0.2 * rng.standard_normal(shape[1:])
    values = values * rng.lognormal(0, 0.5, (channels, 1, 1)) + rng.normal(0, 2, (channels, 1, 1))
    return np.asarray(values[None], np.float32)


def measure() -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []

    def row(codec: str, level: int, raw: np.ndarray, payload: bytes, encode_ms: float, decode_ms: float) -> None:
        rows.append(
            {
                "codec": codec,
                "level": level,
                "shape": list(raw.shape),
                "raw_bytes": raw.nbytes,
                "payload_bytes": len(payload),
                "encode_ms": round(encode_ms, 4),
                "decode_ms": round(decode_ms, 4),
                "encode_mb_per_s": round(raw.nbytes / 1e3 / encode_ms, 1),
                "decode_mb_per_s": round(raw.nbytes / 1e3 / decode_ms, 1),
            }
        )
        first = next(r for r in rows if r["shape"] == rows[-1]["shape"])
        rows[-1]["encode_of_first"] = round(rows[-1]["encode_ms"] / first["encode_ms"], 2)
        rows[-1]["decode_of_first"] = round(rows[-1]["decode_ms"] / first["decode_ms"], 2)
        print(
            "{codec:>8}-{level:<3} {shape!s:18} {payload_bytes:>8} B  "
            "encode {encode_ms:7.3f} ms {encode_mb_per_s:>7} MB/s ×{encode_of_first:<5} "
            "decode {decode_ms:7.3f} ms {decode_mb_per_s:>7} MB/s "
            "×{decode_of_first}".format(**rows[-1])
        )

    for shape in SHAPES:
        tensor = field(shape, rng)
        symbols = plain_quantise(tensor)
        encode_ms, decode_ms = (
            median_ms(partial(plain_quantise, tensor)),
            median_ms(partial(plain_dequantise, symbols, shape)),
        )
        row("numpy", 8, tensor, symbols, encode_ms, decode_ms)
        copy_ms = median_ms(tensor.copy)
        row("copy", 32, tensor, tensor.tobytes(), copy_ms, copy_ms)
        for codec, levels in FEATURE_CODECS.items():
            for level in levels:
                payload = encode_features({"cut": tensor}, codec=codec, level=level)
                encode_ms = median_ms(partial(encode_features, {"cut": tensor}, codec=codec, level=level))
                decode_ms = median_ms(partial(decode_features, payload, expect={"cut": shape}))
                row(codec, level, tensor, payload, encode_ms, decode_ms)
    for height, width in PICTURES:
        picture = (
            (field((1, 3, height, width), rng)[0] * 30 + 128).clip(0, 255).astype(np.uint8).transpose(1, 2, 0).copy()
        )
        for quality in PICTURE_CODECS["jpeg"]:
            payload = encode_picture(picture, quality=quality)
            encode_ms = median_ms(partial(encode_picture, picture, quality=quality))
            decode_ms = median_ms(partial(decode_picture, payload, expect=(height, width)))
            row("jpeg", quality, picture, payload, encode_ms, decode_ms)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "codec_speed.json")
    out: Path = parser.parse_args().out
    rows = measure()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps({"machine": platform.machine(), "python": platform.python_version(), "rows": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
