"""Tensors of the Open Inference Protocol that a stranger may send: what is too long is refused before it is read."""

from __future__ import annotations

import numpy as np
import pytest

from splitmesh.errors import FrameShapeError
from splitmesh.frames.answer import Answer
from splitmesh.frames.geometry import Fit
from splitmesh.gateway.pictures import InputPicture
from splitmesh.gateway.tensors import fill_outputs, picture_bytes
from splitmesh.v1 import open_inference_pb2 as pb

WANTED = InputPicture(4, 2, Fit.STRETCH, 114)
ANSWER = Answer(np.zeros((300, 4), np.float32), np.ones(300, np.float32), np.zeros(300, np.uint16))


def request(values: list[int]) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest()
    made.inputs.add(name="image", datatype="UINT8", shape=[1, 2, 4, 3]).contents.uint_contents.extend(values)
    return made


def test_pixels_may_come_as_numbers() -> None:
    assert picture_bytes(request(list(range(24))), WANTED) == bytes(range(24))


@pytest.mark.parametrize("values", [[], [0] * 23, [0] * 25, [*range(23), 256]], ids=["none", "less", "more", "large"])
def test_numbers_that_are_no_picture_are_refused(values: list[int]) -> None:
    with pytest.raises(FrameShapeError, match="'image'"):
        picture_bytes(request(values), WANTED)


def test_an_output_that_is_asked_for_many_times_is_given_once() -> None:
    """Else a request of a megabyte would be answered with gigabytes."""
    asked = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ["scores", *["boxes"] * 1000]]
    response = pb.ModelInferResponse()
    fill_outputs(response, ANSWER, asked)
    assert [output.name for output in response.outputs] == ["scores", "boxes"]
    assert [len(raw) for raw in response.raw_output_contents] == [1200, 4800]
