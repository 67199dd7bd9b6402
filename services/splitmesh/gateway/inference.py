"""Owns the methods of `inference.GRPCInferenceService` (Open Inference Protocol, KServe v2), over the same frames."""

from __future__ import annotations

import time

from splitmesh.errors import (
    BusUnavailable,
    FrameShapeError,
    InferenceError,
    MeshError,
    Overloaded,
    RequestTimeout,
    UnknownName,
)
from splitmesh.gateway.offered import Offer, OfferedModel
from splitmesh.gateway.service import GatewayService
from splitmesh.gateway.state import GatewayState
from splitmesh.gateway.tensors import PICTURE, fill_outputs, picture_bytes
from splitmesh.gateway.tokens import Account
from splitmesh.rpc.calls import Call
from splitmesh.v1 import gateway_pb2
from splitmesh.v1 import open_inference_pb2 as pb

NAME = "splitmesh"
PLATFORM = "splitmesh_mesh"
_VERSION_DIGITS = 12

_ERRORS: dict[int, type[MeshError]] = {
    gateway_pb2.FRAME_ERROR_CODE_OVERLOADED: Overloaded,
    gateway_pb2.FRAME_ERROR_CODE_QUOTA: Overloaded,
    gateway_pb2.FRAME_ERROR_CODE_EXPIRED: RequestTimeout,
    gateway_pb2.FRAME_ERROR_CODE_BAD_FRAME: FrameShapeError,
    gateway_pb2.FRAME_ERROR_CODE_UNAVAILABLE: BusUnavailable,
}


class InferenceService:
    def __init__(self, service: GatewayService, offer: Offer, state: GatewayState) -> None:
        self._service = service
        self._offer = offer
        self._state = state

    # -- who is there ---------------------------------------------------------------------------------------------

    async def ServerLive(self, _: pb.ServerLiveRequest, __: Call[Account]) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: pb.ServerReadyRequest, call: Call[Account]) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=any(self._ready(model, call) for model in self._offer.models))

    async def ModelReady(self, asked: pb.ModelReadyRequest, call: Call[Account]) -> pb.ModelReadyResponse:
        return pb.ModelReadyResponse(ready=self._ready(self._find(asked.name, asked.version), call))

    async def ServerMetadata(self, _: pb.ServerMetadataRequest, __: Call[Account]) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name=NAME, version=self._service.version)

    async def ModelMetadata(self, asked: pb.ModelMetadataRequest, _: Call[Account]) -> pb.ModelMetadataResponse:
        model = self._find(asked.name, asked.version)
        wanted, kind = model.input_picture, pb.ModelMetadataResponse.TensorMetadata
        picture = kind(name=PICTURE, datatype="UINT8", shape=[1, wanted.height, wanted.width, 3])
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=[_version(model)],
            platform=PLATFORM,
            inputs=[picture],
            outputs=[
                kind(name="boxes", datatype="FP32", shape=[-1, 4]),
                kind(name="scores", datatype="FP32", shape=[-1]),
                kind(name="classes", datatype="UINT16", shape=[-1]),
            ],
        )

    # -- inference ------------------------------------------------------------------------------------------------

    async def ModelInfer(self, asked: pb.ModelInferRequest, call: Call[Account]) -> pb.ModelInferResponse:
        model = self._find(asked.model_name, asked.model_version)
        wanted = model.input_picture
        frame = gateway_pb2.Frame(model=model.name, budget_ms=_budget_ms(asked))
        frame.rgb.pixels = picture_bytes(asked, wanted)
        frame.rgb.width, frame.rgb.height = wanted.width, wanted.height
        mesh, frame_id = self._state.mesh(call.account.tenant), next(self._service.frame_ids())
        settled = await self._service.settled(mesh, frame, frame_id, call)
        if settled.answer is None:
            error = settled.result.error
            raise _ERRORS.get(error.code, InferenceError)(error.detail)
        response = pb.ModelInferResponse(model_name=model.name, model_version=_version(model), id=asked.id)
        response.parameters["frame_id"].string_param = frame_id
        fill_outputs(response, settled.answer, asked.outputs)
        return response

    # -- within ---------------------------------------------------------------------------------------------------

    def _find(self, name: str, version: str) -> OfferedModel:
        """Raises UnknownName."""
        if not name:
            raise UnknownName("no model is named", field="model", name="")
        model = self._offer.find(name)
        if version not in ("", _version(model)):
            raise UnknownName(
                f"{name} is there in version {_version(model)} alone", field="model_version", name=version
            )
        return model

    def _ready(self, model: OfferedModel, call: Call[Account]) -> bool:
        if not self._state.bus.connected:
            return False
        _, asker = self._service.finder(call.account.tenant)(model.name)
        return bool(asker.workers(time.monotonic_ns()))


def _version(model: OfferedModel) -> str:
    return model.sha256[:_VERSION_DIGITS]


def _budget_ms(asked: pb.ModelInferRequest) -> float:
    """Of the parameter "timeout", microseconds; 0: none is given."""
    if "timeout" not in asked.parameters:
        return 0.0
    given = asked.parameters["timeout"]
    match given.WhichOneof("parameter_choice"):
        case "int64_param":
            return given.int64_param / 1e3
        case "uint64_param":
            return given.uint64_param / 1e3
        case other:
            raise FrameShapeError(f"parameter timeout is a {other}, not whole microseconds")
