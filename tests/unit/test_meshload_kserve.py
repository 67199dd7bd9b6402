"""Tensors of the Open Inference protocol: what metadata asks for, and requests that hold it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshload.targets.v2_tensors import (
    Input,
    UnfitError,
    from_bytes,
    infer_body,
    made_up,
    parse_shapes,
    read_inputs,
)

NUMPY = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
INPUTS = st.builds(
    Input,
    st.just("x"),
    st.sampled_from([*NUMPY, "BYTES", "BF16"]),
    st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
)


def metadata(*rows: tuple[str, str, list[int]]) -> dict[str, Any]:
    return {"inputs": [{"name": n, "datatype": d, "shape": s} for n, d, s in rows]}


@given(INPUTS)
def test_binary_requests_hold_as_many_bytes_as_they_announce(wanted: Input) -> None:
    head_bytes, body = infer_body([made_up(wanted), made_up(wanted._replace(name="y"))], binary=True)
    request = json.loads(body[:head_bytes])
    sizes = [row["parameters"]["binary_data_size"] for row in request["inputs"]]
    assert sum(sizes) == len(body) - head_bytes and sizes[0] == sizes[1]
    if wanted.datatype in NUMPY:
        values = np.frombuffer(body[head_bytes : head_bytes + sizes[0]], NUMPY[wanted.datatype])
        assert values.size == wanted.elements
        assert np.isfinite(values.astype(float)).all()
    elif wanted.datatype == "BYTES":
        assert body[head_bytes : head_bytes + sizes[0]] == b"\x08\0\0\0meshload" * wanted.elements
    else:
        assert sizes[0] == 2 * wanted.elements


@given(INPUTS.filter(lambda wanted: wanted.datatype not in ("FP16", "BF16")))
def test_json_requests_hold_the_same_numbers(wanted: Input) -> None:
    tensor = made_up(wanted)
    head_bytes, body = infer_body([tensor], binary=False)
    (row,) = json.loads(body)["inputs"]
    assert head_bytes == len(body)
    assert (row["name"], row["datatype"], tuple(row["shape"])) == wanted
    if wanted.datatype == "BYTES":
        assert row["data"] == ["meshload"] * wanted.elements
    else:
        assert np.array(row["data"], NUMPY[wanted.datatype]).tobytes() == tensor.data


def test_bf16_is_the_upper_half_of_fp32() -> None:
    data = made_up(Input("x", "BF16", (100,))).data
    values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    assert values.min() >= 0 and values.max() < 1 and values.std() > 0.2


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_json_can_not_hold_half_precision(datatype: str) -> None:
    with pytest.raises(UnfitError, match=datatype):
        infer_body([made_up(Input("x", datatype, (2,)))], binary=False)


def test_open_dimensions_are_one_unless_a_shape_is_given() -> None:
    asked = metadata(("image", "FP32", [-1, 3, -1, -1]), ("size", "INT64", [2]))
    assert read_inputs(asked, {}) == (Input("image", "FP32", (1, 3, 1, 1)), Input("size", "INT64", (2,)))
    shapes = parse_shapes(["image:1x3x8x9"])
    assert read_inputs(asked, shapes)[0].shape == (1, 3, 8, 9)


@pytest.mark.parametrize(
    ("asked", "shapes", "says"),
    [
        ({}, {}, "no inputs"),
        (metadata(("x", "FP8", [1])), {}, "FP8"),
        ({"inputs": [{"name": "x"}]}, {}, "without"),
        (metadata(("x", "FP32", [-1, 3])), {"x": (1, 4)}, "does not fit"),
        (metadata(("x", "FP32", [-1, 3])), {"x": (1, 3, 1)}, "does not fit"),
        (metadata(("x", "FP32", [3])), {"y": (3,)}, "no input y"),
        (metadata(("x", "FP32", [100_000, 100_000])), {}, "too large"),
    ],
)
def test_metadata_that_no_request_can_be_made_of(asked: dict[str, Any], shapes: Any, says: str) -> None:
    with pytest.raises(UnfitError, match=says):
        read_inputs(asked, shapes)


def test_a_payload_is_the_data_of_the_one_input() -> None:
    floats = Input("x", "FP32", (1, 2))
    assert from_bytes([floats], bytes(8)).data == bytes(8)
    assert from_bytes([Input("jpeg", "BYTES", (1, 1))], b"abc").data == b"\x03\0\0\0abc"
    for inputs, data, says in (
        ([floats], bytes(7), "8 bytes"),
        ([floats, floats], bytes(8), "2 inputs"),
        ([Input("jpeg", "BYTES", (2,))], b"abc", "2 elements"),
    ):
        with pytest.raises(UnfitError, match=says):
            from_bytes(inputs, data)


@pytest.mark.parametrize("text", ["x", "x:", "x:1,2", ":1", "x:-1x3"])
def test_a_shape_is_written_so(text: str) -> None:
    with pytest.raises(UnfitError):
        parse_shapes([text])
