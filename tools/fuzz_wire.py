"""Owns what is fuzzed of the messages on the bus: each kind, with saturated and with small ones as good payloads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from tools.fuzz_child import Target, WrongResult

from splitmesh.frames.answer import Answer
from splitmesh.wire.messages import (
    Cancel,
    Heartbeat,
    HostedModel,
    InferReply,
    Nack,
    NackCode,
    TableReply,
    WorkerTimes,
)
from splitmesh.wire.requests import InferRequest, StreamRequest, TableOffer, decode_request

SHA = "0123456789abcdef" * 4
TRACE = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


class Message(Protocol):
    def encode(self) -> bytes: ...


def _messages(read: Callable[[bytes], Message], good: Sequence[Message]) -> Target:
    kinds = {type(message) for message in good}

    def decode(raw: bytes) -> None:
        message = read(raw)
        if type(message) not in kinds:
            raise WrongResult(f"decoded {type(message).__name__}")
        sent = message.encode()
        if (again := read(sent).encode()) != sent:
            raise WrongResult(f"{message!r} does not survive its own encoding: {sent.hex()} {again.hex()}")

    return Target([message.encode() for message in good], lambda: decode)


def requests() -> Target:
    """Both forms of a request."""
    whole = InferRequest("cam-1.r7.42", "cam-1", "coco-ssdlite", SHA, "", b"\xff" * 300)
    cut = InferRequest("cam-1.r7.43", "cam-1", "coco-ssdlite", SHA, "c3", bytes(range(256)), True, 250_000, TRACE, 77)
    return _messages(lambda raw: decode_request(raw, {}), [whole, cut, StreamRequest(77, 44, b"p" * 40, 1000, TRACE)])


def infer_reply() -> Target:
    boxes = Answer(
        np.array([[0.125, 0.25, 0.5, 0.75], [0, 0, 1, 1]], np.float32),
        np.array([0.875, 0.5], np.float32),
        np.array([3, 65535], np.uint16),
        np.array([[[0.25, 0.5], [0.75, 1]], [[0, 0.125], [1, 0]]], np.float32),
    )
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 15
    tensors = Answer.of_tensors({"mask": mask, "raw": np.array([[0.5, -2.0]], np.float32), "n": np.array([-2, 9])})
    times = WorkerTimes(1, 2, 3, 4)
    nack = InferReply("cam-1.r7.42", "w-1", Nack(NackCode.OVERLOADED, "queue: 90 ms", 7), times, 5)
    answers = [InferReply("cam-1.r7.42", "w-1", answer, times, 5) for answer in (boxes, tensors)]
    return _messages(InferReply.decode, [nack, *answers])


def cancel() -> Target:
    return _messages(Cancel.decode, [Cancel("cam-1.r7.42"), Cancel("a.b.1")])


def heartbeat() -> Target:
    models = (HostedModel("a", SHA, ("c1", "c2")), HostedModel("b", SHA, ("c3",)))
    return _messages(Heartbeat.decode, [Heartbeat("w-1", 9, models, 8, 7, True), Heartbeat("w-2", 0, ())])


def table_offer() -> Target:
    return _messages(TableOffer.decode, [TableOffer("cam-1", "m", SHA, "c3", bytes(range(200)))])


def table_reply() -> Target:
    return _messages(TableReply.decode, [TableReply("w-1"), TableReply("w-1", Nack(NackCode.BAD_REQUEST, "no", 1))])
