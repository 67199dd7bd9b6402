"""Arrays beside an answer's boxes: what is allowed, the packed form, and lines of results.jsonl that hold them."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import Answer
from splitmesh.frames.outcome import Outcome
from splitmesh.frames.record import MAX_TENSOR_BYTES, FrameRecord
from splitmesh.frames.tensors import MAX_BYTES, Packed, Tensors
from splitmesh.lab.records import check_lines


@pytest.mark.parametrize(
    ("given_as", "carried_as"),
    [
        *((dtype, dtype) for dtype in ("float32", "uint8", "uint16", "int32", "int64")),
        ("float16", "float32"),
        ("float64", "float32"),
        ("bool", "uint8"),
        ("int8", "int32"),
        ("int16", "int32"),
        ("uint32", "int64"),
        (">f4", "float32"),
        (">i8", "int64"),
    ],
)
def test_what_dtypes_become(given_as: str, carried_as: str) -> None:
    source = np.array([[0, 1], [1, 0]], given_as)
    kept = Answer.of_tensors({"a": source}).tensors["a"]
    assert kept.dtype.name == carried_as
    np.testing.assert_array_equal(kept, source)
    np.testing.assert_array_equal(Packed.pack(kept).unpack(), source)


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"a": np.zeros(1, np.complex64)}, "'a' is 1-dimensional complex64"),
        ({"a": np.array(["text"])}, "'a' is 1-dimensional str"),
        ({"a": np.zeros(1, np.uint64)}, "uint64"),
        ({"a": np.zeros((1,) * 9, np.uint8)}, "9-dimensional"),
        ({"": np.zeros(1, np.uint8)}, "name ''"),
        ({"n" * 257: np.zeros(1, np.uint8)}, "256 characters"),
        ({f"{n}": np.zeros(1, np.uint8) for n in range(65)}, "65 tensors"),
        ({"a": np.broadcast_to(np.uint8(0), MAX_BYTES), "b": np.zeros(1, np.uint8)}, f"{MAX_BYTES + 1} bytes"),
    ],
)
def test_what_no_answer_can_hold(tensors: dict[str, np.ndarray], complaint: str) -> None:
    with pytest.raises(FrameShapeError, match=complaint):
        Answer.of_tensors(tensors)


def test_tensors_are_read_only_and_leave_their_source_alone() -> None:
    source = np.zeros((2, 2), np.float32)
    answer = Answer.of_tensors({"a": source})
    with pytest.raises(ValueError, match="read-only"):
        answer.tensors["a"][0, 0] = 1
    source[0, 0] = 1
    with pytest.raises(TypeError):
        answer.tensors["b"] = source  # type: ignore[index]
    assert replace(answer, scores=answer.scores).tensors is answer.tensors  # checked once, shared from then on
    assert len(answer) == 0 and answer.mask is None


@given(
    st.sampled_from(["float32", "uint8", "uint16", "int32", "int64"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    )
)
def test_an_array_survives_packing_and_json(array: np.ndarray) -> None:
    packed = Packed.pack(array)
    assert len(packed.data) <= array.nbytes == packed.nbytes
    back = Packed.from_json(json.loads(json.dumps(packed.to_json()))).unpack()
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype and back.shape == array.shape and not back.flags.writeable


def test_repetition_is_deflated_and_noise_is_not_tried_at_length() -> None:
    mask = np.zeros((512, 512), np.uint8)
    assert len(Packed.pack(mask).data) < 2000
    noise = np.random.default_rng(0).integers(0, 256, 2**20, np.uint8)
    assert len(Packed.pack(noise).data) == 2**20


def test_what_is_read_stays_packed_until_asked_for() -> None:
    parts = {"mask": Packed.pack(np.zeros((4096, 4096), np.uint8))}
    tracemalloc.start()
    tensors = Tensors.from_packed(parts)
    assert (list(tensors), len(tensors), tensors.nbytes) == (["mask"], 1, 2**24)
    assert tensors.held_bytes < 100_000 and "mask (4096, 4096) uint8" in repr(tensors)
    assert tensors.packed()["mask"] is parts["mask"]
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert tensors["mask"].shape == (4096, 4096)
    assert Tensors({"mask": tensors["mask"]}).compact().held_bytes == tensors.held_bytes


def record(answer: Answer) -> FrameRecord:
    return FrameRecord("e.r.0", 0, 0, 0, 0, Outcome.LOCAL, "local", "test", 150.0, 20.0, True, answer=answer)


def a_box(**tensors: np.ndarray) -> Answer:
    one = np.ones(1, np.float32)
    return Answer(np.float32([[0.25, 0.5, 0.75, 1]]), one, np.uint16([3]), np.zeros((1, 0, 2), np.float32), tensors)


@pytest.mark.parametrize("boxed", [True, False])
def test_a_line_holds_boxes_and_tensors(boxed: bool) -> None:
    mask = np.arange(12, dtype=np.uint16).reshape(3, 4)
    raw = np.float32([[1e-30, -2.5]])
    answer = a_box(mask=mask, raw=raw) if boxed else Answer.of_tensors({"mask": mask, "raw": raw})
    line = record(answer).to_json_line()
    back = FrameRecord.from_json_line(line)
    assert len(back.answer) == boxed and list(back.answer.tensors) == ["mask", "raw"] and not back.left_out_bytes
    np.testing.assert_array_equal(back.answer.mask, mask)
    np.testing.assert_array_equal(back.answer.tensors["raw"], raw)
    assert back.to_json_line() == line


def test_lines_from_before_there_were_tensors_are_read() -> None:
    row = json.loads(record(a_box()).to_json_line())
    assert "tensors" not in row
    del row["left_out_bytes"]
    old = FrameRecord.from_json_line(json.dumps(row))
    assert len(old.answer) == 1 and not old.answer.tensors


def test_tensors_too_large_for_a_line_are_left_out_and_said_to_be() -> None:
    noise = np.random.default_rng(0).integers(0, 256, MAX_TENSOR_BYTES + 1, np.uint8)
    line = record(a_box(noise=noise)).to_json_line()
    assert len(line) < 1000
    back = FrameRecord.from_json_line(line)
    assert len(back.answer) == 1 and not back.answer.tensors and back.left_out_bytes == MAX_TENSOR_BYTES + 1
    assert FrameRecord.from_json_line(back.to_json_line()).left_out_bytes == MAX_TENSOR_BYTES + 1
    assert len(FrameRecord.from_json_line(record(a_box(noise=noise[:-1])).to_json_line()).answer.tensors) == 1


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        {"a": {}},
        {"a": 3},
        {"a": {"dtype": "float64", "shape": [1], "data": ""}},
        {"a": {"dtype": ["uint8"], "shape": [1], "data": ""}},
        {"a": {"dtype": "uint8", "shape": [-1], "data": ""}},
        {"a": {"dtype": "uint8", "shape": [1.5], "data": ""}},
        {"a": {"dtype": "uint8", "shape": 1, "data": ""}},
        {"a": {"dtype": "uint8", "shape": [1], "data": "###"}},
        {"a": {"dtype": "uint8", "shape": [1], "data": "AAAA"}},
        {"a": {"dtype": "uint8", "shape": [10**9], "data": ""}},
    ],
)
def test_a_line_with_malformed_tensors_is_counted_as_malformed(tensors: object) -> None:
    row = json.loads(record(a_box()).to_json_line()) | {"tensors": tensors}
    assert check_lines([json.dumps(row)]).malformed == (1,)


@pytest.mark.parametrize("data", [b"x", zlib.compress(bytes(99)), zlib.compress(bytes(101)), b""])
def test_bytes_that_are_not_what_they_say_are_refused_when_unpacked(data: bytes) -> None:
    with pytest.raises(FrameShapeError, match="uint8"):
        Packed("uint8", (100,), data).unpack()
