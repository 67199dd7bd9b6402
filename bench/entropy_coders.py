"""Ways to code quantised feature planes, on the same planes → bench/results/entropy_coders.json.

Usage: python -m bench.entropy_coders [--out bench/results/entropy_coders.json]

One thread; medians of processor time. Planes are synthetic (components of falling energy, smooth, busier in some
places), so sizes only tell coders apart. All are calibrated on other frames than they code. numba is measured where
it is installed: `pip install numba`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from splitmesh.codec.planes import pure
from splitmesh.codec.planes.coding import decode_planes, encode_planes
from splitmesh.codec.planes.fit import fit_plane_model
from splitmesh.codec.planes.kernel import COMPILED, Kernel
from splitmesh.codec.planes.model import PlaneExample

I16 = npt.NDArray[np.int16]
U32 = npt.NDArray[np.uint32]
SHAPE = (64, 19, 19)
STEPS = (1.0, 2.0, 4.0)
CALIBRATION, MEASURED = 40, 4

LANES = 38
"""Streams that rANS interleaves; each costs four bytes at the end. Divides the elements of SHAPE."""
BITS = 12
LARGEST = 15
"""Symbols of rANS: −15 … 15; the synthetic planes hold no others."""


def frame(seed: int, step: float) -> I16:
    """One frame's planes, int16 SHAPE."""
    rng = np.random.default_rng(seed)
    count, height, width = SHAPE
    noise = rng.standard_normal((count, height + 2, width + 2))
    smooth = (noise[:, :-2, 1:-1] + noise[:, 2:, 1:-1] + noise[:, 1:-1, :-2] + noise[:, 1:-1, 2:]) / 2
    field = 0.7 * smooth + 0.7 * noise[:, 1:-1, 1:-1]
    y, x = np.mgrid[0:height, 0:width]
    middle, reach = rng.uniform(3, 16, (2, 1, 1)), rng.uniform(3, 8)
    busy = 0.4 + 1.6 * np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / reach**2)
    energy = 5.0 * np.exp(-np.arange(count) / 25)[:, None, None]
    values = field * busy * energy / step
    rounded = np.sign(values) * np.floor(np.abs(values) + 0.33)
    held: I16 = np.clip(rounded, -LARGEST, LARGEST).astype(np.int16)
    return held


class Coder(NamedTuple):
    name: str
    encode: Callable[[I16], bytes]
    decode: Callable[[bytes], I16]
    runs: int
    """How often each frame is measured."""


def planes_coder(kernel: Kernel, name: str, calibration: list[I16], runs: int) -> Coder:
    scale = np.asarray(np.rint(16 * np.mean([np.abs(f).mean(axis=(1, 2)) for f in calibration], axis=0)), np.uint16)
    model = fit_plane_model([PlaneExample(f, scale) for f in calibration])
    return Coder(
        name,
        lambda f: encode_planes([(f, scale, None)], model=model, kernel=kernel),
        lambda data: decode_planes(data, [SHAPE], model=model, scales=[scale], kernel=kernel)[0],
        runs,
    )


def frequencies(calibration: list[I16]) -> tuple[U32, U32]:
    """Of every component's symbols, (K, 31) summing to 2^BITS, and where each symbol's share starts, (K, 32)."""
    stack = np.stack(calibration, axis=1).reshape(SHAPE[0], -1).astype(np.int64) + LARGEST
    symbols = 2 * LARGEST + 1
    counts = np.stack([np.bincount(row, minlength=symbols) for row in stack]).astype(np.float64) + 0.02
    shares = np.maximum(1, np.floor(counts / counts.sum(axis=1, keepdims=True) * (1 << BITS))).astype(np.int64)
    shares[np.arange(len(shares)), shares.argmax(axis=1)] += (1 << BITS) - shares.sum(axis=1)
    starts = np.concatenate([np.zeros((len(shares), 1), np.int64), np.cumsum(shares, axis=1)], axis=1)
    return shares.astype(np.uint32), starts.astype(np.uint32)


def rans_coder(calibration: list[I16]) -> Coder:
    """Interleaved rANS in numpy, one calibrated histogram per component: 32-bit states, 16 bits at a time."""
    shares, starts = frequencies(calibration)
    spread = np.stack([np.repeat(np.arange(2 * LARGEST + 1), row.astype(np.int64)) for row in shares])
    component = np.repeat(np.arange(SHAPE[0]), SHAPE[1] * SHAPE[2]).reshape(-1, LANES)
    low = np.uint64(1 << 16)

    def encode(planes: I16) -> bytes:
        symbols = planes.reshape(-1, LANES).astype(np.int64) + LARGEST
        share = shares[component, symbols].astype(np.uint64)
        start = starts[component, symbols].astype(np.uint64)
        state = np.full(LANES, low)
        words: list[npt.NDArray[np.uint16]] = []
        for row in range(len(symbols) - 1, -1, -1):
            full = state >= share[row] << np.uint64(32 - BITS)
            words.append(state[full][::-1].astype(np.uint16))
            state[full] >>= np.uint64(16)
            state = (state // share[row] << np.uint64(BITS)) + state % share[row] + start[row]
        tail = np.concatenate(words)[::-1].astype("<u2").tobytes()
        return state.astype("<u4").tobytes() + tail

    def decode(data: bytes) -> I16:
        state = np.frombuffer(data, "<u4", LANES).astype(np.uint64)
        words = np.frombuffer(data, "<u2", offset=4 * LANES).astype(np.uint64)
        out, at = np.empty(component.shape, np.int64), 0
        for row, ks in enumerate(component):
            slot = (state & np.uint64((1 << BITS) - 1)).astype(np.int64)
            symbol = spread[ks, slot]
            out[row] = symbol
            share, start = shares[ks, symbol].astype(np.uint64), starts[ks, symbol].astype(np.uint64)
            state = share * (state >> np.uint64(BITS)) + slot.astype(np.uint64) - start
            empty = state < low
            count = int(np.count_nonzero(empty))
            state[empty] = state[empty] << np.uint64(16) | words[at : at + count]
            at += count
        return (out - LARGEST).astype(np.int16).reshape(SHAPE)

    return Coder("rans numpy", encode, decode, 3)


def _code(values: Any, chances: Any, data: Any, decoding: bool) -> int:
    """For numba: an adaptive binary coder (carry-less, as in lpaq) with contexts of component and two neighbours.

    values (K, H, W) int16 is read or written, data uint8 written or read, chances (K, 3, 16) uint16 of 4096 · 16
    learns. Returns the bytes.
    """
    count, height, width = values.shape
    x1, x2, at, code = 0, 0xFFFFFFFF, 0, 0
    if decoding:
        for _ in range(4):
            code = code << 8 | data[at]
            at += 1
    for k in range(count):
        for y in range(height):
            for x in range(width):
                near = (abs(values[k, y - 1, x]) if y else 0) + (abs(values[k, y, x - 1]) if x else 0)
                row = 0 if near == 0 else 1 if near < 3 else 2
                value = values[k, y, x]
                size, known, sign = abs(value), 0, 0
                while True:
                    rung = min(known, 13)
                    one = chances[k, row, rung]
                    middle = x1 + ((x2 - x1) >> 16) * one
                    bit = code <= middle if decoding else size > known
                    if bit:
                        x2 = middle
                        chances[k, row, rung] = one + ((65535 - one) >> 5)
                    else:
                        x1 = middle + 1
                        chances[k, row, rung] = one - (one >> 5)
                    while (x1 ^ x2) & 0xFF000000 == 0:
                        if decoding:
                            code = (code << 8 & 0xFFFFFFFF) | (data[at] if at < len(data) else 0)
                        else:
                            data[at] = x2 >> 24
                        at += 1
                        x1, x2 = x1 << 8 & 0xFFFFFFFF, (x2 << 8 & 0xFFFFFFFF) | 255
                    if not bit:
                        break
                    known += 1
                    if known == LARGEST:
                        break
                if known:
                    middle = x1 + ((x2 - x1) >> 1)
                    sign = code <= middle if decoding else value < 0
                    if sign:
                        x2 = middle
                    else:
                        x1 = middle + 1
                    while (x1 ^ x2) & 0xFF000000 == 0:
                        if decoding:
                            code = (code << 8 & 0xFFFFFFFF) | (data[at] if at < len(data) else 0)
                        else:
                            data[at] = x2 >> 24
                        at += 1
                        x1, x2 = x1 << 8 & 0xFFFFFFFF, (x2 << 8 & 0xFFFFFFFF) | 255
                if decoding:
                    values[k, y, x] = -known if sign else known
    if not decoding:
        for shift in (24, 16, 8, 0):
            data[at] = x2 >> shift & 255
            at += 1
    return at


def numba_coder(calibration: list[I16]) -> Coder | None:
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        print("numba is not installed: left out")
        return None
    code = numba.njit(_code)
    learnt = np.full((SHAPE[0], 3, 16), 32_768, np.int64)
    room = np.zeros(1 << 18, np.uint8)
    for each in calibration:
        code(each, learnt, room, False)

    def encode(planes: I16) -> bytes:
        return room[: code(planes, learnt.copy(), room, False)].tobytes()

    def decode(data: bytes) -> I16:
        planes = np.zeros(SHAPE, np.int16)
        code(planes, learnt.copy(), np.frombuffer(data, np.uint8).copy(), True)
        return planes

    return Coder("numba", encode, decode, 15)


def entropy_bytes(planes: I16) -> float:
    """Of every plane by its own histogram, which nobody sends."""
    counts = [np.unique(plane, return_counts=True)[1] for plane in planes]
    return sum(float(-(n * np.log2(n / n.sum())).sum()) for n in counts) / 8


def median_ns(act: Callable[[], object], runs: int) -> float:
    """Median processor time of `act`."""
    took = []
    for _ in range(runs):
        began = time.thread_time_ns()
        act()
        took.append(time.thread_time_ns() - began)
    return statistics.median(took)


def measure(step: float) -> list[dict[str, Any]]:
    calibration = [frame(seed, step) for seed in range(CALIBRATION)]
    frames = [frame(1000 + seed, step) for seed in range(MEASURED)]
    coders = [planes_coder(pure, "planes, plain Python", calibration, 1), rans_coder(calibration)]
    if COMPILED is not None:
        coders.insert(0, planes_coder(COMPILED, "planes, compiled", calibration, 15))
    if (compiled := numba_coder(calibration)) is not None:
        coders.append(compiled)
    entropy = statistics.mean(entropy_bytes(each) for each in frames)
    rows = []
    for coder in coders:
        sizes, encode_ns, decode_ns = [], [], []
        for each in frames:
            data = coder.encode(each)
            if not np.array_equal(coder.decode(data), each):
                raise SystemExit(f"{coder.name} lost something")
            sizes.append(len(data))
            encode_ns.append(median_ns(lambda c=coder, f=each: c.encode(f), coder.runs))  # type: ignore[misc]
            decode_ns.append(median_ns(lambda c=coder, d=data: c.decode(d), coder.runs))  # type: ignore[misc]
        row = {
            "coder": coder.name,
            "step": step,
            "bytes": round(statistics.mean(sizes)),
            "entropy_bytes": round(entropy),
            "encode_ns_per_symbol": round(statistics.median(encode_ns) / frames[0].size, 1),
            "decode_ns_per_symbol": round(statistics.median(decode_ns) / frames[0].size, 1),
        }
        rows.append(row)
        print(
            "step {step:<4} {coder:21} {bytes:>6} B (entropies {entropy_bytes}) encode {encode_ns_per_symbol:>8} "
            "decode {decode_ns_per_symbol:>8} ns/symbol".format(**row)
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "entropy_coders.json")
    out: Path = parser.parse_args().out
    rows = [row for step in STEPS for row in measure(step)]
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": platform.machine(), "python": platform.python_version(), "shape": list(SHAPE)}
    out.write_text(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
