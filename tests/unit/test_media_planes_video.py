"""Components as video: one payload in, one picture out, levels, gaps, foreign tables and kinds, hostile payloads."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from splitmesh.codec.compact.fit import fit_table
from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.compact.transform import TensorTable
from splitmesh.codec.head import STATEFUL_HEAD_BYTES, parse_head
from splitmesh.errors import CodecError, NeedKeyframe, NeedTable
from splitmesh.media.planes_tiling import Tiling
from splitmesh.media.planes_video import KINDS, VideoCoder, VideoDecoder, VideoEncoder

GOLDEN = Path(__file__).parents[1] / "golden" / "codec" / "video-96.npz"
SHAPES = {"neck": (12, 19, 17), "side": (6, 10, 10)}
ENCODERS = [
    pytest.param(name, marks=pytest.mark.skipif(name not in av.codecs_available, reason=f"FFmpeg without {name}"))
    for name in KINDS
]


def frames(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Wire name → (count, C, H, W) float32: smooth fields that drift, on channels that depend on each other."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, (channels, height, width) in SHAPES.items():
        y, x, t = np.mgrid[0:height, 0:width, 0:count].astype(np.float64)
        sources = [
            np.sin((0.2 + 0.1 * i) * x + 0.15 * t + phase) * np.cos((0.3 + 0.05 * i) * y + phase)
            for i, phase in enumerate(rng.uniform(0, 6, 5))
        ]
        mixed = np.tensordot(rng.standard_normal((channels, 5)), np.stack(sources), 1)
        out[name] = np.ascontiguousarray(np.moveaxis(mixed, 3, 0) * 3 + 1, np.float32)
        out[name] += rng.standard_normal(out[name].shape).astype(np.float32) * 0.05
    return out


@cache
def table(seed: int = 1) -> CompactTable:
    return fit_table(frames(12, seed))


def at(which: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    return {name: values[index : index + 1] for name, values in which.items()}


def worst(out: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(out[name] - true[name]).mean() / true[name].std()) for name in true)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_payload_gives_its_own_frame_at_once(encoder: str) -> None:
    clip = frames(8, 2)
    coder = VideoCoder(table(), 104, encoder)
    sizes = []
    for index in range(8):
        payload = coder.encode(at(clip, index))
        out = coder.decode(payload)
        sizes.append(len(payload))
        assert all(out[name].shape == (1, *shape) and out[name].dtype == np.float32 for name, shape in SHAPES.items())
        errors = [worst(out, at(clip, other)) for other in range(8)]
        assert errors[index] == min(errors) and errors[index] < 0.2
    assert max(sizes[1:]) < sizes[0]


def test_finer_levels_cost_more_and_are_nearer() -> None:
    clip = frames(5, 3)
    results = []
    for level in (48, 72, 96, 120):
        coder = VideoCoder(table(), level)
        payloads = [coder.encode(at(clip, index)) for index in range(5)]
        error = max(worst(coder.decode(payload), at(clip, index)) for index, payload in enumerate(payloads))
        results.append((sum(map(len, payloads)), -error))
    assert results == sorted(results)
    assert results[0][0] < results[-1][0] / 3


@pytest.mark.parametrize("level", [0, 40, 97, 160, 255])
def test_any_level_has_a_quantiser_and_what_is_tiled_comes_back(level: int) -> None:
    tiling = Tiling(table(), level)
    qp = tiling.quantiser()
    assert 0 <= qp <= 51 and tiling.width % 2 == tiling.height % 2 == 0
    pixel = tiling.pixel(qp)
    back = tiling.tensors(tiling.picture(at(frames(1, 4), 0), pixel), pixel)
    again = tiling.tensors(tiling.picture(back, pixel), pixel)
    for name in SHAPES:
        np.testing.assert_allclose(again[name], back[name], atol=1e-2 * float(back[name].std()) + 1e-6)


def test_a_gap_needs_a_key_and_nothing_that_is_held_is_lost_by_it() -> None:
    clip = frames(8, 5)
    encoder, decoder = VideoEncoder(table(), level=96), VideoDecoder(table())
    payloads = [encoder.encode(at(clip, index)) for index in range(4)]
    with pytest.raises(NeedKeyframe):
        decoder.decode(payloads[1])
    decoder.decode(payloads[0])
    for gap in (payloads[2], payloads[3]):
        with pytest.raises(NeedKeyframe):
            decoder.decode(gap)
    decoder.decode(payloads[1])
    decoder.decode(payloads[2])
    with pytest.raises(NeedKeyframe):
        decoder.decode(payloads[2])
    key = encoder.encode(at(clip, 4), key=True)
    after = encoder.encode(at(clip, 5))
    with pytest.raises(NeedKeyframe):
        decoder.decode(after)
    decoder.decode(key)
    assert worst(decoder.decode(after), at(clip, 5)) < 0.2


def test_another_stream_of_the_same_numbers_is_no_reference() -> None:
    decoder = VideoDecoder(table())
    mine, other = (VideoEncoder(table(), level=96) for _ in range(2))
    clips = frames(2, 6), frames(2, 7)
    decoder.decode(mine.encode(at(clips[0], 0)))
    other.encode(at(clips[1], 0))
    with pytest.raises(NeedKeyframe):
        decoder.decode(other.encode(at(clips[1], 1)))
    decoder.decode(mine.encode(at(clips[0], 1)))


def test_another_level_begins_another_stream_and_reset_does_too() -> None:
    clip = frames(4, 8)
    encoder, decoder = VideoEncoder(table(), level=96), VideoDecoder(table())
    first = [encoder.encode(at(clip, 0)), encoder.encode(at(clip, 1), level=88), encoder.encode(at(clip, 2))]
    encoder.reset()
    heads = [parse_head(payload)[0] for payload in [*first, encoder.encode(at(clip, 3))]]
    states = [head.state for head in heads]
    assert [head.level for head in heads] == [96, 88, 88, 88]
    assert [state is not None and state.reference == state.number for state in states] == [True, True, False, True]
    assert worst([decoder.decode(payload) for payload in first][2], at(clip, 2)) < 0.3


def test_foreign_tables_codecs_and_kinds_are_refused() -> None:
    payload = VideoEncoder(table(), level=96).encode(at(frames(1), 0))
    with pytest.raises(NeedTable) as found:
        VideoDecoder(table(9)).decode(payload)
    assert found.value.table_id == table().short_id
    broken = bytearray(payload)
    broken[5] ^= 64
    with pytest.raises(CodecError, match="of kind 1"):
        VideoDecoder(table()).decode(resealed(broken))
    with pytest.raises(CodecError, match="unknown video encoder"):
        VideoCoder(table(), 96, "mpeg1video")
    with pytest.raises(CodecError, match="not the table's"):
        VideoEncoder(table(), level=96).encode({"neck": np.zeros((1, 12, 19, 17), np.float32)})
    long = fit_table({"t": np.random.default_rng(1).standard_normal((4, 2, 40_000)).astype(np.float32)})
    with pytest.raises(CodecError, match="can't be coded by libx264"):
        VideoEncoder(long, level=96).encode({"t": np.ones((1, 2, 40_000), np.float32)})
    nan = at(frames(1), 0)
    nan["neck"][0, 0, 0, 0] = np.nan
    with pytest.raises(CodecError, match="'neck' holds NaN"):
        VideoEncoder(table(), level=96).encode(nan)


def resealed(payload: bytearray) -> bytes:
    at = STATEFUL_HEAD_BYTES - 4
    crc = zlib.crc32(bytes(payload[STATEFUL_HEAD_BYTES:]), zlib.crc32(bytes(payload[:at])))
    payload[at : at + 4] = crc.to_bytes(4, "little")
    return bytes(payload)


def test_damage_is_found_and_only_a_key_helps_after_it() -> None:
    clip = frames(3, 10)
    encoder, decoder = VideoEncoder(table(), level=96), VideoDecoder(table())
    payloads = [encoder.encode(at(clip, index)) for index in range(3)]
    decoder.decode(payloads[0])
    with pytest.raises(CodecError):
        decoder.decode(payloads[1][:-1])
    hostile = resealed(bytearray(payloads[1][:-40]) + bytes(20))
    with pytest.raises(CodecError):
        decoder.decode(hostile)
    with pytest.raises(NeedKeyframe):
        decoder.decode(payloads[1])
    for payload in payloads:
        decoder.decode(payload)
    huge = VideoEncoder(fit_table({"neck": np.tile(frames(8)["neck"], (1, 1, 3, 3))}), level=96)
    big = huge.encode({"neck": np.tile(frames(1)["neck"], (1, 1, 3, 3))})
    foreign = bytearray(big)
    foreign[6:10] = table().short_id
    with pytest.raises(CodecError):
        VideoDecoder(table()).decode(resealed(foreign))


def plain_table() -> CompactTable:
    """Six components that are the channels themselves: what comes out of it is exact."""
    one = np.eye(6, dtype=np.float32)
    spread = np.array([9000, 4000, 1500, 600, 200, 60], np.int32)
    tensor = TensorTable("x", (1, 6, 11, 13), 1, np.zeros(6, np.float32), one, one, spread)
    return CompactTable((tensor,), table().model)


def test_a_golden_stream_still_decodes_to_the_same_values() -> None:
    """Encoders may change with their libraries; what an old stream means may not."""
    golden = np.load(GOLDEN)
    decoder = VideoDecoder(plain_table())
    for index, expected in enumerate(golden["tensors"]):
        payload = bytearray(golden[f"payload{index}"].tobytes())
        payload[6:10] = plain_table().short_id
        np.testing.assert_array_equal(decoder.decode(resealed(payload))["x"], expected)
