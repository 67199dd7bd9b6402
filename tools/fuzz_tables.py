"""Owns what is fuzzed of codecs with a calibration table: tables, plane models, planes, payloads of each codec."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import numpy.typing as npt
from tools.fuzz_child import Target, WrongResult
from tools.fuzz_targets import check_tensors, sealed_container

from splitmesh.cloud.decoders import Expected, codec_of, decode_alone, open_decoder
from splitmesh.codec import head
from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.intra import decode_compact, encode_compact
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.features import encode_features
from splitmesh.codec.planes import pure
from splitmesh.codec.planes.coding import decode_planes, encode_planes
from splitmesh.codec.planes.fit import fit_plane_model
from splitmesh.codec.planes.kernel import COMPILED, Kernel
from splitmesh.codec.planes.model import PlaneExample, PlaneModel
from splitmesh.codec.registry import CODECS, FEATURE_CODECS, codec_name
from splitmesh.codec.temporal.decoder import TemporalDecoder
from splitmesh.codec.temporal.encoder import TemporalEncoder
from splitmesh.codec.temporal.fit import fit_temporal_model
from splitmesh.errors import CodecError
from splitmesh.media.planes_video import VideoDecoder, VideoEncoder

F32 = npt.NDArray[np.float32]
I16 = npt.NDArray[np.int16]
SHAPES = {"t": (1, 5, 8, 9), "v": (1, 12)}


@cache
def clip(count: int) -> dict[str, F32]:
    """Wire name → (count, …) float32: smooth fields that drift from frame to frame, and a vector."""
    rng = np.random.default_rng(3)
    y, x, t = np.mgrid[0:8, 0:9, 0:count].astype(np.float64)
    sources = np.stack([np.sin(0.4 * x + 0.2 * i * t + i) * np.cos(0.3 * y + i) for i in range(4)])
    fields = np.moveaxis(np.tensordot(rng.standard_normal((5, 4)), sources, 1), 3, 0) * 3
    fields += rng.standard_normal(fields.shape) * 0.1
    return {"t": fields.astype(np.float32), "v": rng.standard_normal((count, 12)).astype(np.float32)}


def frame(index: int) -> dict[str, F32]:
    return {name: values[index : index + 1] for name, values in clip(10).items()}


@cache
def table() -> CompactTable:
    """Fitted to `clip`, with a model for residuals."""
    plain = fit_table(clip(10))
    return CompactTable(plain.tensors, plain.model, fit_temporal_model(plain, [clip(10)]))


def sealed_head(payload: bytearray, rng: Random) -> bytes:
    """With the checksum of a slim head that fits."""
    try:
        stateful = CODECS[codec_name(payload[3])].stateful if len(payload) > 3 else False
    except CodecError:
        stateful = False
    start = head.STATEFUL_HEAD_BYTES if stateful else head.HEAD_BYTES
    if len(payload) >= start:
        view = memoryview(payload)
        crc = zlib.crc32(view[start:], zlib.crc32(view[: start - 4]))
        view.release()
        payload[start - 4 : start] = crc.to_bytes(4, "little")
    return bytes(payload)


def compact() -> Target:
    seeds = [encode_compact(frame(i), table=table(), level=level) for i in (0, 1) for level in (60, 90, 120)]

    def decode(payload: bytes) -> None:
        check_tensors(decode_compact(payload, tables=_known, expect=SHAPES), SHAPES)

    return Target(seeds, lambda: decode, sealed_head)


def temporal() -> Target:
    """Payloads of a stream come, mutated, to a decoder that holds the frames they build on."""
    encoder = TemporalEncoder(table())
    payloads = []
    for index in range(8):
        coded = encoder.encode(frame(index), level=(80, 96, 110)[index % 3])
        payloads.append(coded.payload)
        encoder.acknowledged(coded.number)
    return Target(payloads, lambda: _Stream(payloads), sealed_head)


class _Stream:
    """Decodes on and on; what came from mutated payloads is forgotten after every twelve of them."""

    def __init__(self, payloads: list[bytes]) -> None:
        self._payloads = payloads
        self._foreign = 12
        self._decoder = TemporalDecoder(table())

    def __call__(self, payload: bytes) -> None:
        if self._foreign == 12:
            self._foreign = 0
            self._decoder.reset()
            for true in self._payloads:
                self._decoder.decode(true)
        check_tensors(self._decoder.decode(payload), SHAPES)
        self._foreign += 1


def any_codec() -> Target:
    """What a worker does with a payload: it picks the decoder by what the payload says of itself."""
    expected = Expected(SHAPES, (41, 53))
    seeds = [
        *(encode_features(frame(0), codec=codec, level=5) for codec in FEATURE_CODECS),
        encode_compact(frame(0), table=table(), level=96),
        TemporalEncoder(table()).encode(frame(0), level=96).payload,
    ]

    def decode(payload: bytes) -> None:
        stateful = CODECS[codec_of(payload, expected)].stateful
        if stateful:
            found = open_decoder(payload, expected, _known).decode(payload)
        else:
            found = decode_alone(payload, expected, _known)
        check_tensors(found, SHAPES)

    def seal(payload: bytearray, rng: Random) -> bytes:
        return (sealed_container if payload[2:3] == b"\1" else sealed_head)(payload, rng)

    return Target(seeds, lambda: decode, seal)


def video() -> Target:
    """A stream's key and the frame after it: payloads come to a decoder that has the true key."""
    encoder = VideoEncoder(table(), level=96)
    seeds = [encoder.encode(frame(index)) for index in range(2)]
    return Target(seeds, lambda: _AfterKey(seeds[0]), sealed_head)


class _AfterKey:
    def __init__(self, key: bytes) -> None:
        self._key = key
        self._decoder = VideoDecoder(table())

    def __call__(self, payload: bytes) -> None:
        if not self._decoder.state_bytes:
            self._decoder.decode(self._key)
        check_tensors(self._decoder.decode(payload), SHAPES)
        self._decoder.reset()


def compact_table() -> Target:
    """A table from a peer, and a payload decoded by it."""
    corner = {"t": clip(10)["t"][:, :, :5, :6]}
    small, both = fit_table(corner), fit_table(clip(10))
    weighed, mixed = fit_table(corner, None, {"t": _pooled(5, 5)}), fit_table(clip(10), None, {"t": _pooled(8, 9)})
    bodies = {
        _kind(of): bytes(head.parse_head(encode_compact(tensors, table=of, level=100))[1])
        for of, tensors in (
            *((of, {"t": frame(0)["t"][:, :, :5, :6]}) for of in (small, weighed)),
            *((of, frame(0)) for of in (both, mixed)),
        )
    }
    if len(bodies) != 4:
        raise WrongResult("no frequencies are weighed: they are not fuzzed")

    def decode(raw: bytes) -> None:
        got = CompactTable.from_bytes(raw)
        body = bodies[_kind(got)]
        payload = head.build_payload(head.Head("compact", 100, 0, b"peer"), body)
        expect = {tensor.name: tensor.shape for tensor in got.tensors}
        check_tensors(decode_compact(payload, tables=lambda _: got, expect=expect), expect)

    steep = replace(small.tensors[0], synthesis=small.tensors[0].synthesis * np.float32(2**60))
    seeds = [t.to_bytes() for t in (small, both, table(), weighed, mixed, CompactTable((steep,), small.model))]
    return Target(seeds, lambda: decode, cap_bytes=256 << 20)


def _kind(of: CompactTable) -> tuple[int, bool]:
    return min(2, len(of.tensors)), any(tensor.frequencies for tensor in of.tensors)


def _pooled(height: int, width: int) -> npt.NDArray[np.float64]:
    """Costs of frequencies of which the mean's is nearly all."""
    costs = np.full((height, width), 1e-3)
    costs[0, 0] = 1
    return costs


def plane_model() -> Target:
    """A model from a peer, and planes decoded by it."""
    model, planes, scales, contexts = _planes()
    data = encode_planes(list(zip(planes, scales, contexts, strict=True)), model=model)

    def decode(raw: bytes) -> None:
        _check_planes(lambda: decode_planes(data, [p.shape for p in planes], model=PlaneModel.from_bytes(raw),
                                            scales=scales, contexts=contexts), planes)  # fmt: skip

    return Target([model.to_bytes()], lambda: decode, _sealed_model)


def planes() -> Target:
    if COMPILED is None:
        raise RuntimeError("the plane coder is not compiled here")
    return _plane_target(COMPILED)


def planes_pure() -> Target:
    """Some hundred times slower than its twin, so of few elements."""
    return _plane_target(pure, few=True)


def _plane_target(kernel: Kernel, *, few: bool = False) -> Target:
    model, symbols, scales, contexts = _planes(few)
    coded = [list(zip(part, scales, contexts, strict=True)) for part in (symbols, [-p // 2 for p in symbols])]
    seeds = [encode_planes(tensors, model=model, kernel=kernel) for tensors in coded]

    def decode(data: bytes) -> None:
        _check_planes(lambda: decode_planes(data, [p.shape for p in symbols], model=model, scales=scales,
                                            contexts=contexts, kernel=kernel), symbols)  # fmt: skip

    return Target(seeds, lambda: decode)


@cache
def _planes(few: bool = False) -> tuple[PlaneModel, list[I16], list[npt.NDArray[np.uint16]], list[I16 | None]]:
    rng = np.random.default_rng(1)
    spreads = ([12.0], [1.0]) if few else ([12.0, 3.0, 0.4], [1.0, 0.2])
    sizes = ((2, 4), (2, 2)) if few else ((6, 7), (5, 4))
    found = [
        np.rint(rng.laplace(size=(len(spread), *size)) * np.array(spread)[:, None, None]).astype(np.int16)
        for spread, size in zip(spreads, sizes, strict=True)
    ]
    found[0][0, 0, :3] = (4000, -32767, 300)
    scales = [(np.array(spread) * 16).astype(np.uint16) for spread in spreads]
    contexts: list[I16 | None] = [(found[0] // 2).astype(np.int16), None]
    examples = [PlaneExample(p, s, c, i) for i, (p, s, c) in enumerate(zip(found, scales, contexts, strict=True))]
    return fit_plane_model(examples), found, scales, contexts


def _check_planes(decode: Callable[[], list[I16]], true: list[I16]) -> None:
    for got, expected in zip(decode(), true, strict=True):
        if got.dtype != np.int16 or got.shape != expected.shape:
            raise WrongResult(f"planes are {got.dtype} {got.shape}, expected int16 {expected.shape}")


def _sealed_model(raw: bytearray, rng: Random) -> bytes:
    """Mostly with what is inside the zlib stream mutated, not the stream."""
    if rng.random() < 0.3:
        return bytes(raw)
    good = _planes()[0].to_bytes()
    start = 6 + 2 * good[5]
    inside = bytearray(_inside(good[start:]))
    for _ in range(rng.choice((1, 4, 64))):
        at = rng.randrange(len(inside) - 4)
        inside[at : at + 4] = rng.randbytes(4)
    return good[:start] + zlib.compress(inside, 1)


@cache
def _inside(packed: bytes) -> bytes:
    return zlib.decompress(packed)


def _known(short_id: bytes) -> CompactTable | None:
    return table() if short_id == table().short_id else None
