"""Errors of the mesh as gRPC statuses with details, and of frames as codes: every error has a place in the tables."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from splitmesh import errors
from splitmesh.gateway.faults import fault_name, fault_of_error, fault_of_nack
from splitmesh.rpc.status import DETAILS_KEY, reason_for, status_for
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.messages import Nack, NackCode

C = grpc.StatusCode


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (errors.AccessDenied("who?"), C.UNAUTHENTICATED, "ACCESS_DENIED"),
        (errors.UnknownName("no such", field="edge", name="x"), C.NOT_FOUND, "UNKNOWN_NAME"),
        (errors.ModelError("no model"), C.NOT_FOUND, "MODEL_ERROR"),
        (errors.Overloaded("full"), C.RESOURCE_EXHAUSTED, "OVERLOADED"),
        (errors.PayloadTooLarge("long"), C.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE"),
        (errors.RequestTimeout("late"), C.DEADLINE_EXCEEDED, "REQUEST_TIMEOUT"),
        (errors.NoResponders("nobody"), C.UNAVAILABLE, "NO_RESPONDERS"),
        (errors.BusUnavailable("gone"), C.UNAVAILABLE, "BUS_UNAVAILABLE"),
        (errors.CodecError("bytes"), C.INVALID_ARGUMENT, "CODEC_ERROR"),
        (errors.FrameShapeError("shape"), C.INVALID_ARGUMENT, "FRAME_SHAPE_ERROR"),
        (errors.SettingsError("deadline", key="deadline_ms"), C.INVALID_ARGUMENT, "SETTINGS_ERROR"),
        (errors.InferenceError("NaN"), C.INTERNAL, "INFERENCE_ERROR"),
        (errors.MeshError("other"), C.INTERNAL, "MESH_ERROR"),
    ],
)
def test_a_status_says_what_to_do(error: errors.MeshError, code: grpc.StatusCode, reason: str) -> None:
    found, text, ((key, packed),) = status_for(error)
    status = status_pb2.Status.FromString(packed)
    assert (found, key, status.code, status.message) == (code, DETAILS_KEY, code.value[0], text)
    details = {detail.type_url.rpartition(".")[2]: detail for detail in status.details}
    info = error_details_pb2.ErrorInfo()
    assert details["ErrorInfo"].Unpack(info)
    assert (info.reason, info.domain) == (reason, "splitmesh") == (reason_for(error), info.domain)
    assert ("RetryInfo" in details) is error.retryable
    field = getattr(error, "field", "") or getattr(error, "key", "")
    assert info.metadata["field"] == field
    assert ("BadRequest" in details) is (bool(field) and code is C.INVALID_ARGUMENT)


def test_a_status_fits_into_its_trailer() -> None:
    _, text, ((_, packed),) = status_for(errors.WireError("x" * 100_000))
    assert len(text) == 500 and len(packed) < 4000


def test_every_refusal_of_a_worker_that_can_reach_the_gateway_has_a_code() -> None:
    stateful = {NackCode.NEED_KEYFRAME, NackCode.NEED_TABLE}  # of codecs that the gateway does not use
    codes = {code: fault_of_nack(Nack(code, "why", 5000)) for code in set(NackCode) - stateful}
    assert all(fault.code != pb.FRAME_ERROR_CODE_INTERNAL for fault in codes.values())
    overloaded = codes[NackCode.OVERLOADED]
    assert (fault_name(overloaded), overloaded.detail, overloaded.retry_after_ms) == ("overloaded", "why", 5.0)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.UnknownName("x", field="model", name="x"), "unknown_model"),
        (errors.Overloaded("x"), "overloaded"),
        (errors.RequestTimeout("x"), "expired"),
        (errors.NoResponders("x"), "unavailable"),
        (errors.DecodeError("x"), "bad_frame"),
        (errors.FrameShapeError("x"), "bad_frame"),
        (errors.WireError("a worker lied"), "internal"),
    ],
)
def test_an_error_of_a_frame_has_a_code(error: errors.MeshError, name: str) -> None:
    assert fault_name(fault_of_error(error)) == name
