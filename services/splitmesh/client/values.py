"""Owns what programs give to the gateway and get from it, as Python values, and how they become messages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from splitmesh.client.errors import FrameFailed
from splitmesh.errors import FrameShapeError, SourceError
from splitmesh.frames.answer import Answer
from splitmesh.v1 import control_pb2
from splitmesh.v1 import gateway_pb2 as pb
from splitmesh.wire.answers import answer_from_pb

RgbImage = npt.NDArray[np.uint8]
Picture = bytes | str | os.PathLike[str] | RgbImage
"""A picture file's bytes, its path, or pixels (H, W, 3) uint8 RGB."""

QUALITY = 95
"""Of the JPEG that pixels are sent as."""


class Watch(StrEnum):
    """What a watch lets through."""

    RESULTS = "results"
    """Frames that edges settled, with their answers."""
    DECISIONS = "decisions"
    """The same without."""
    REPORTS = "reports"
    """What edges say of themselves once a second."""
    FLEET = "fleet"
    """Edges and workers that come, go and change."""
    PREVIEWS = "previews"
    """Pictures of named edges."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a frame has no answer. code: "overloaded", "expired", "bad_frame", …; detail: for people."""

    code: str
    detail: str
    retry_after_ms: float = 0.0
    """0: trying again makes no sense, or nobody knows when it does."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one frame: an answer or a fault."""

    seq: int
    """Its place among the pictures of the call, from 0."""
    frame_id: str
    """For `explain`."""
    answer: Answer | None
    """Boxes in [0, 1] of the picture that was sent."""
    fault: Fault | None
    worker: str
    total_ms: float
    """At the gateway."""

    def checked(self) -> Answer:
        """The answer. Raises FrameFailed where there is none."""
        if self.answer is None:
            fault = self.fault or Fault("internal", "neither an answer nor an error came")
            raise FrameFailed(fault.detail, code=fault.code, frame_id=self.frame_id)
        return self.answer


@dataclass(frozen=True, slots=True)
class Model:
    """A model on offer: its input picture in pixels, labels by class index, and the workers that hold it."""

    name: str
    sha256: str
    width: int
    height: int
    labels: tuple[str, ...]
    workers: tuple[str, ...]
    predicted_wait_ms: float


def frame_of(picture: Picture, *, seq: int, model: str, budget_ms: float, quality: int | None) -> pb.Frame:
    """quality: of the JPEG that pixels are sent as, 1 … 100; None: as they are.

    Raises FrameShapeError, SourceError.
    """
    frame = pb.Frame(seq=seq, model=model, budget_ms=budget_ms)
    if isinstance(picture, bytes):
        frame.encoded = picture
    elif isinstance(picture, np.ndarray):
        _add_pixels(frame, picture, quality)
    else:
        try:
            frame.encoded = Path(picture).read_bytes()
        except OSError as exc:
            raise SourceError(f"picture {picture} can't be read: {exc.strerror}", url=str(picture)) from exc
    return frame


def _add_pixels(frame: pb.Frame, picture: RgbImage, quality: int | None) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise FrameShapeError(f"a picture is (H, W, 3) uint8 RGB, not {picture.shape} {picture.dtype}")
    pixels = np.ascontiguousarray(picture)
    if quality is None:
        frame.rgb.CopyFrom(pb.RgbPicture(pixels=pixels.tobytes(), width=pixels.shape[1], height=pixels.shape[0]))
    else:
        frame.encoded = simplejpeg.encode_jpeg(pixels, quality, "RGB", "444")


def result_of(message: pb.Result) -> Result:
    """Raises WireError for an answer whose arrays disagree."""
    failed = message.WhichOneof("outcome") != "answer"
    error = message.error
    code = pb.FrameErrorCode.Name(error.code).removeprefix("FRAME_ERROR_CODE_").lower()
    return Result(
        message.seq,
        message.frame_id,
        None if failed else answer_from_pb(message.answer),
        Fault(code, error.detail, error.retry_after_ms) if failed else None,
        message.worker_id,
        message.total_ms,
    )


def model_of(message: pb.OfferedModel) -> Model:
    return Model(
        message.name,
        message.digest.hex(),
        message.width,
        message.height,
        tuple(message.labels),
        tuple(message.workers),
        message.predicted_wait_ms,
    )


def filter_of(edges: Sequence[str], kinds: Sequence[Watch], **more: Any) -> pb.WatchFilter:
    numbers = [pb.WatchKind.Value(f"WATCH_KIND_{Watch(kind).name}") for kind in kinds]
    return pb.WatchFilter(edges=edges, kinds=numbers, **more)


def change_of(
    policy: str | None, deadline_ms: float | None, uplink_budget_bps: float | None
) -> control_pb2.PolicyChange:
    """What is None stays as it is."""
    return control_pb2.PolicyChange(policy=policy, deadline_ms=deadline_ms, uplink_budget_bps=uplink_budget_bps)
