"""The plane coder: round trips, both kernels alike, golden streams, sizes, and what hostile bytes do."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from plane_examples import coded, planes, scale_of

from splitmesh.codec.planes import pure
from splitmesh.codec.planes.coding import Coded, decode_planes, encode_planes
from splitmesh.codec.planes.fit import fit_plane_model
from splitmesh.codec.planes.kernel import COMPILED, Kernel
from splitmesh.codec.planes.model import PlaneExample, PlaneModel, blank_state
from splitmesh.codec.planes.taps import TAPS
from splitmesh.errors import CodecError

GOLDEN = Path(__file__).parents[1] / "golden" / "planes"
MODEL = PlaneModel.from_bytes((GOLDEN / "model.bin").read_bytes())
"""Fitted to `examples()` once: floating point takes part in fitting, so that another machine's may differ."""
KERNELS: list[Kernel] = [pure] if COMPILED is None else [pure, COMPILED]
FRAMES = {
    "usual": coded(7),
    "coarse": coded(21, size=1),
    "fine": coded(35, size=400),
    "no context": coded(7, context=False),
}

both = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__.rpartition(".")[2])


def decoded(data: bytes, tensors: list[Coded], kernel: Kernel, model: PlaneModel = MODEL) -> list[np.ndarray]:
    scales, contexts = [scale for _, scale, _ in tensors], [context for _, _, context in tensors]
    return decode_planes(
        data, [values.shape for values, _, _ in tensors], model=model, scales=scales, contexts=contexts, kernel=kernel
    )


def same(found: list[np.ndarray], tensors: list[Coded]) -> bool:
    return all(np.array_equal(a, b) for a, (b, _, _) in zip(found, tensors, strict=True))


def test_the_extension_is_compiled_where_there_is_a_compiler() -> None:
    assert COMPILED is not None, (
        "make setup builds it; without a compiler the rest of these tests covers plain Python"
    )


@both
@pytest.mark.parametrize("name", FRAMES)
def test_golden_streams(name: str, kernel: Kernel) -> None:
    golden = (GOLDEN / f"{name.replace(' ', '_')}.bin").read_bytes()
    assert encode_planes(FRAMES[name], model=MODEL, kernel=kernel) == golden
    assert same(decoded(golden, FRAMES[name], kernel), FRAMES[name])


@settings(max_examples=60)
@given(data=st.data(), amplitude=st.sampled_from([1, 2, 9, 300, 32_767]))
def test_any_planes_come_back_and_both_kernels_agree(data: st.DataObject, amplitude: int) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
    numbers = st.integers(-amplitude - (amplitude == 32_767), amplitude)
    values = data.draw(hnp.arrays(np.int16, shape, elements=numbers, fill=st.just(0)))
    scale = data.draw(hnp.arrays(np.uint16, data.draw(st.sampled_from([shape, shape[:1]]))))
    context = data.draw(st.none() | hnp.arrays(np.int16, shape))
    blobs = {encode_planes([(values, scale, context)], model=MODEL, kernel=kernel) for kernel in KERNELS}
    assert len(blobs) == 1
    for kernel in KERNELS:
        assert same(
            decoded(blob := next(iter(blobs)), [(values, scale, context)], kernel), [(values, scale, context)]
        )
        assert isinstance(blob, bytes)


@both
def test_altered_bytes_decode_to_something_or_are_refused(kernel: Kernel) -> None:
    tensors = FRAMES["usual"]
    golden = encode_planes(tensors, model=MODEL)
    refused = tried = 0
    for at in range(0, len(golden), 5):
        tried += 1
        changed = golden[:at] + bytes([golden[at] ^ (1 << at % 8)]) + golden[at + 1 :]
        try:
            assert not same(decoded(changed, tensors, kernel), tensors)
        except CodecError:
            refused += 1
    assert refused > tried // 2


@both
@pytest.mark.parametrize("tail", [b"\0", b"\xff", b"\x80" * 9])
def test_trailing_bytes_are_refused(tail: bytes, kernel: Kernel) -> None:
    tensors = FRAMES["usual"]
    with pytest.raises(CodecError, match="malformed"):
        decoded(encode_planes(tensors, model=MODEL) + tail, tensors, kernel)


@both
def test_a_stream_cut_in_half_is_refused(kernel: Kernel) -> None:
    tensors = FRAMES["fine"]
    golden = encode_planes(tensors, model=MODEL)
    with pytest.raises(CodecError, match="malformed"):
        decoded(golden[: len(golden) // 2], tensors, kernel)


@settings(max_examples=60, deadline=1000)
@given(data=st.binary(max_size=300))
def test_the_kernels_agree_on_hostile_bytes(data: bytes) -> None:
    verdicts = []
    for kernel in KERNELS:
        try:
            verdicts.append([part.tobytes() for part in decoded(data, FRAMES["usual"], kernel)])
        except CodecError:
            verdicts.append([])
    assert all(verdict == verdicts[0] for verdict in verdicts)


@pytest.mark.skipif(COMPILED is None, reason="plain Python is slower than this bound")
def test_hostile_bytes_take_no_longer_than_the_shape_allows() -> None:
    shape = (64, 64, 64)
    scale = np.full(64, 65_535, np.uint16)
    began = time.perf_counter()
    for data in (b"", b"\0" * 100_000, b"\xff" * 100_000, bytes(range(256)) * 400):
        with contextlib.suppress(CodecError):
            decode_planes(data, [shape], model=MODEL, scales=[scale])
    assert time.perf_counter() - began < 4


def test_an_all_zero_frame_costs_nearly_nothing() -> None:
    nothing = [(np.zeros_like(values), scale * 0, None) for values, scale, _ in FRAMES["usual"]]
    assert len(encode_planes(nothing, model=MODEL)) <= 6


def test_calibration_pays_on_other_frames_than_it_saw() -> None:
    """Against the same coder that starts from nothing, and against the entropy of every plane, histogram for free."""
    shape = (8, 19, 19)
    model = fit_plane_model([_example(planes(shape, seed, size=1)) for seed in range(100, 110)])
    blank = PlaneModel((8,), np.zeros((8, TAPS, 4), np.int16), blank_state(8))
    values = planes(shape, 77, size=1)
    frame: list[Coded] = [(values, scale_of(values), None)]
    counts = [np.unique(plane, return_counts=True)[1] for plane in values]
    entropy = sum(float(-(n * np.log2(n / n.sum())).sum()) for n in counts) / 8
    calibrated = len(encode_planes(frame, model=model))
    assert calibrated < 0.9 * len(encode_planes(frame, model=blank))
    assert calibrated < 0.9 * entropy


def test_a_context_that_tells_is_used() -> None:
    shape = (4, 12, 12)
    frames = [(values := planes(shape, seed), values // 2) for seed in range(300, 312)]
    wise = fit_plane_model([_example(values, about) for values, about in frames[2:]])
    dull = fit_plane_model([_example(values) for values, _ in frames[2:]])
    with_context = sum(len(encode_planes([(v, scale_of(v), about)], model=wise)) for v, about in frames[:2])
    assert with_context < 0.97 * sum(len(encode_planes([(v, scale_of(v), None)], model=dull)) for v, _ in frames[:2])


@both
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([(np.zeros((2, 2), np.int16), np.zeros(2, np.uint16), None)], r"not \(K, H, W\)"),
        ([(np.zeros((2, 2, 0), np.int16), np.zeros(2, np.uint16), None)], r"not \(K, H, W\)"),
        ([(np.zeros((2, 2, 2), np.int32), np.zeros(2, np.uint16), None)], "not int16"),
        ([(np.zeros((2, 2, 2), np.int16), np.zeros(3, np.uint16), None)], "scale is uint16"),
        ([(np.zeros((2, 2, 2), np.int16), np.zeros(2, np.int16), None)], "scale is int16"),
        (
            [(np.zeros((2, 2, 2), np.int16), np.zeros(2, np.uint16), np.zeros((2, 2, 1), np.int16))],
            "context is int16",
        ),
        ([(np.zeros((1, 1, 1), np.int16), np.zeros(1, np.uint16), None)] * 4, "do not fit the model"),
    ],
)
def test_what_no_model_codes_is_refused(tensors: list[Coded], message: str, kernel: Kernel) -> None:
    with pytest.raises(CodecError, match=message):
        encode_planes(tensors, model=MODEL, kernel=kernel)


def test_shapes_too_large_are_refused_before_anything_is_allocated() -> None:
    scale = np.broadcast_to(np.uint16(1), (4096,))
    with pytest.raises(CodecError, match="exceed"):
        decode_planes(b"", [(4096, 1 << 15, 1 << 15)], model=MODEL, scales=[scale])


def _example(values: np.ndarray, context: np.ndarray | None = None) -> PlaneExample:
    return PlaneExample(values, scale_of(values), context)
