"""Owns how a prepared payload becomes a mesh request: what never changes is encoded once, the rest put before it.

A protobuf message is its fields in any order, so that a frame's own fields (id, budget, trace) followed by the
prepared rest (model, cut, payload) is the message that `splitmesh.wire.requests.InferRequest` would encode, but for
the order of fields. The payload is copied, never encoded again.
"""

from __future__ import annotations

from dataclasses import dataclass

from splitmesh.errors import WireError
from splitmesh.v1 import infer_pb2 as pb
from splitmesh.wire.checks import check_sha256, check_size
from splitmesh.wire.headers import MAX_BUDGET_US, TRACE_BYTES
from splitmesh.wire.requests import MAX_PAYLOAD_BYTES
from splitmesh.wire.subjects import check_token


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of a worker. Raises WireError for what no worker would take.

    model: its name. model_sha256: of the full model file, 64 hex digits. cut: "" for the whole model.
    """

    model: str
    model_sha256: str
    cut: str = ""

    def __post_init__(self) -> None:
        check_token(self.model, field="model")
        check_sha256(self.model_sha256, field="model_sha256")
        if self.cut:
            check_token(self.cut, field="cut")

    @property
    def name(self) -> str:
        """For people: "model/cut"."""
        return f"{self.model}/{self.cut or 'whole'}"


class Envelope:
    """One payload, ready for any number of requests. payload: a codec container, 1 to 1 000 000 bytes.

    Raises WireError for a payload of another size.
    """

    __slots__ = ("_fixed", "work")

    def __init__(self, work: Work, payload: bytes) -> None:
        check_size(len(payload), field="payload", limit=MAX_PAYLOAD_BYTES, least=1)
        self.work = work
        message = pb.InferRequest(
            model=work.model, model_digest=bytes.fromhex(work.model_sha256), cut=work.cut, payload=payload
        )
        self._fixed = message.SerializeToString(deterministic=True)

    def __len__(self) -> int:
        """Bytes of all that is prepared."""
        return len(self._fixed)

    def stamp(
        self, frame_id: str, *, budget_us: int, trace: bytes = b"", edge_id: str = "", stream: int = 0
    ) -> bytes:
        """The request of one frame, as bytes.

        frame_id: `<edge>.<run>.<seq>`, at most 127 ASCII characters (not checked: it is made per send). budget_us: in
        [0, 600 s]; outside it is brought to the nearer end. trace: 25 bytes or none. edge_id: only where it is not
        the first part of the frame id. stream: 0 for none, at most 2^32 - 1.
        """
        return stamped(self._fixed, frame_id, budget_us=budget_us, trace=trace, edge_id=edge_id, stream=stream)


def stamped(
    fixed: bytes, frame_id: str, *, budget_us: int, trace: bytes = b"", edge_id: str = "", stream: int = 0
) -> bytes:
    """`fixed`, any encoded part of an InferRequest, with a frame's own fields before it. See `Envelope.stamp`.

    Keys are a field's number << 3 | its wire type. https://protobuf.dev/programming-guides/encoding/
    """
    name = frame_id.encode("ascii")
    budget_us = 0 if budget_us < 0 else MAX_BUDGET_US if budget_us > MAX_BUDGET_US else budget_us
    fresh = b"\x0a%c%b\x48%b" % (len(name), name, varint(budget_us))
    if edge_id:
        fresh += b"\x12%c%b" % (len(edge_id), edge_id.encode("ascii"))
    if trace:
        if len(trace) != TRACE_BYTES:
            raise WireError(f"trace has {len(trace)} bytes, not {TRACE_BYTES}")
        fresh += b"\x52\x19" + trace
    if stream:
        fresh += b"\x5d" + stream.to_bytes(4, "little")
    return fresh + fixed


def stamped_next(payload: bytes, *, stream: int, seq: int, budget_us: int, trace: bytes = b"") -> bytes:
    """What `splitmesh.wire.requests.StreamRequest` would encode: a frame of a stream that a worker has opened.

    payload: a codec container, 1 to 1 000 000 bytes. stream: 1 to 2^32 - 1. seq: of the frame, not negative.
    budget_us: brought into [0, 600 s]. trace: 25 bytes or none. Raises WireError for a payload of another size.
    """
    check_size(len(payload), field="payload", limit=MAX_PAYLOAD_BYTES, least=1)
    budget_us = 0 if budget_us < 0 else MAX_BUDGET_US if budget_us > MAX_BUDGET_US else budget_us
    fresh = b"\x48%b\x5d%b\x60%b" % (varint(budget_us), stream.to_bytes(4, "little"), varint(seq))
    if trace:
        fresh += b"\x52\x19" + trace
    return b"%b\x32%b%b" % (fresh, varint(len(payload)), payload)


def varint(value: int) -> bytes:
    """`value`, not negative, as protobuf writes it: seven bits a byte, the lowest first."""
    if 0x4000 <= value < 0x20_0000:  # budgets of 16 ms to 2 s
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
