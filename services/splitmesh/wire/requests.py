"""Owns what an edge asks of a worker, as typed values: work for a frame, and to hold a calibration table.

A request comes in two forms. The full one goes to any worker. On a stream that a worker has opened, the slim one goes
to that worker: it says only what differs from frame to frame. Requests of older edges, with their budget and trace in
headers, are understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from splitmesh.errors import WireError
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire.checks import MAX_SEQ, check_id, check_range, check_sha256, check_size
from splitmesh.wire.headers import budget_us as header_budget_us
from splitmesh.wire.headers import check_budget_us, trace_bytes, trace_text
from splitmesh.wire.headers import traceparent as header_traceparent
from splitmesh.wire.packing import pack, parse
from splitmesh.wire.subjects import check_token

MAX_PAYLOAD_BYTES = 1_000_000
"""Of one request, or of one table: fits a broker limit of 1 MiB together with ids."""
MAX_STREAM = 2**32 - 1

_NUMBERED = re.compile(r"(.+)\.([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class InferRequest:
    """Work for one frame: the tail behind `cut`, or with `cut` "" the whole model."""

    frame_id: str
    """`<edge>.<run>.<seq>`, unique for ever."""
    edge_id: str
    model: str
    model_sha256: str
    """Of the full fp32 model file, 64 hex digits: both ends must hold the same weights."""
    cut: str
    payload: bytes
    """One codec container, 1 to 1 000 000 bytes."""
    probe: bool = False
    """Answered as ever, but nobody waits for it: the edge measures the link with it."""
    budget_us: int = 0
    """What is left until the answer is worthless, from the moment of sending."""
    traceparent: str | None = None
    """W3C trace context, version 00."""
    stream: int = 0
    """Of payloads that build on each other, random; 0: none. Later ones may come as StreamRequest."""

    def __post_init__(self) -> None:
        check_id(self.frame_id, field="frame_id")
        check_token(self.edge_id, field="edge_id")
        check_token(self.model, field="model")
        check_sha256(self.model_sha256, field="model_sha256")
        if self.cut:
            check_token(self.cut, field="cut")
        check_size(len(self.payload), field="payload", limit=MAX_PAYLOAD_BYTES, least=1)
        check_budget_us(self.budget_us)
        check_range(self.stream, field="stream", high=MAX_STREAM)
        if self.stream:
            split_frame_id(self.frame_id)

    def encode(self) -> bytes:
        """Raises WireError for a malformed trace context."""
        return pack(
            pb.InferRequest(
                frame_id=self.frame_id,
                edge_id="" if self.edge_id == _edge_of(self.frame_id) else self.edge_id,
                model=self.model,
                model_digest=bytes.fromhex(self.model_sha256),
                cut=self.cut,
                payload=self.payload,
                probe=self.probe,
                budget_us=self.budget_us,
                trace=trace_bytes(self.traceparent),
                stream=self.stream,
            )
        )

    @staticmethod
    def decode(raw: bytes, headers: Mapping[str, str] | None = None) -> InferRequest:
        """Raises WireError that names the field that breaks a rule."""
        return _full(parse(pb.InferRequest, raw), headers or {})


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The next frame of a stream that this very worker has opened."""

    stream: int
    seq: int
    """The last part of the frame id."""
    payload: bytes
    budget_us: int
    traceparent: str | None = None

    def __post_init__(self) -> None:
        check_range(self.stream, field="stream", low=1, high=MAX_STREAM)
        check_range(self.seq, field="seq", high=MAX_SEQ)
        check_size(len(self.payload), field="payload", limit=MAX_PAYLOAD_BYTES, least=1)
        check_budget_us(self.budget_us)

    def encode(self) -> bytes:
        """Raises WireError for a malformed trace context."""
        return pack(
            pb.InferRequest(
                payload=self.payload,
                budget_us=self.budget_us,
                trace=trace_bytes(self.traceparent),
                stream=self.stream,
                seq=self.seq,
            )
        )

    def full(self, opened_by: InferRequest) -> InferRequest:
        """The same work in full, by the request that opened the stream."""
        first = opened_by
        return InferRequest(
            frame_id=f"{split_frame_id(first.frame_id)[0]}.{self.seq}",
            edge_id=first.edge_id,
            model=first.model,
            model_sha256=first.model_sha256,
            cut=first.cut,
            payload=self.payload,
            budget_us=self.budget_us,
            traceparent=self.traceparent,
            stream=self.stream,
        )


def decode_request(raw: bytes, headers: Mapping[str, str]) -> InferRequest | StreamRequest:
    """Either form of a request. Raises WireError that names the field that breaks a rule."""
    m = parse(pb.InferRequest, raw)
    if m.frame_id or not m.stream:
        return _full(m, headers)
    return StreamRequest(m.stream, m.seq, m.payload, _budget_us(m, headers), trace_text(m.trace) if m.trace else None)


def split_frame_id(frame_id: str) -> tuple[str, int]:
    """(all but the last part, the last part as a number). Raises WireError if it is none."""
    match = _NUMBERED.fullmatch(frame_id)
    if match is None:
        raise WireError(f"frame_id {frame_id[:40]!r} does not end in a number, as those of a stream must")
    return match[1], int(match[2])


def _full(m: pb.InferRequest, headers: Mapping[str, str]) -> InferRequest:
    return InferRequest(
        m.frame_id,
        m.edge_id or _edge_of(m.frame_id),
        m.model,
        m.model_digest.hex() or m.model_sha256,
        m.cut,
        m.payload,
        m.probe,
        _budget_us(m, headers),
        (m.trace and trace_text(m.trace)) or (headers and header_traceparent(headers)) or None,
        m.stream,
    )


def _budget_us(m: pb.InferRequest, headers: Mapping[str, str]) -> int:
    return m.budget_us if m.HasField("budget_us") else header_budget_us(headers)


def _edge_of(frame_id: str) -> str:
    return frame_id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class TableOffer:
    """A calibration table for a worker that said that it lacks it. The table checks itself when it is read."""

    edge_id: str
    model: str
    model_sha256: str
    cut: str
    table: bytes

    def __post_init__(self) -> None:
        check_token(self.edge_id, field="edge_id")
        check_token(self.model, field="model")
        check_sha256(self.model_sha256, field="model_sha256")
        check_token(self.cut, field="cut")
        check_size(len(self.table), field="table", limit=MAX_PAYLOAD_BYTES, least=1)

    def encode(self) -> bytes:
        return pack(
            pb.TableOffer(
                edge_id=self.edge_id,
                model=self.model,
                model_digest=bytes.fromhex(self.model_sha256),
                cut=self.cut,
                table=self.table,
            )
        )

    @staticmethod
    def decode(raw: bytes) -> TableOffer:
        """Raises WireError that names the field that breaks a rule."""
        m = parse(pb.TableOffer, raw)
        return TableOffer(m.edge_id, m.model, m.model_digest.hex(), m.cut, m.table)
