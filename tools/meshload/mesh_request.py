"""Owns the bytes of a mesh request in two pieces, so that a payload is not encoded anew for each frame.

Fields of a protobuf message may come in any order, and messages that are written one after the other are read as one.
`fixed_part` is made once per payload; `fresh_part` per request goes before it. Together they are what
`splitmesh.wire.requests.InferRequest.decode` reads.
"""

from __future__ import annotations

from splitmesh.v1 import infer_pb2 as pb

_TRACE = b"\x52\x19"
"""Field 10, 25 bytes."""


def fixed_part(*, model: str, model_sha256: str, cut: str, payload: bytes) -> bytes:
    """What all requests with this payload share. `cut` "": the whole model."""
    message = pb.InferRequest(model=model, model_digest=bytes.fromhex(model_sha256), cut=cut, payload=payload)
    return message.SerializeToString(deterministic=True)


def fresh_part(*, frame_id: str, budget_us: int, trace: bytes = b"") -> bytes:
    """What only this request has. `frame_id`: at most 127 characters, its first part the edge's id. `trace`: 25 bytes
    or none.
    """
    name = frame_id.encode()
    head = b"\x0a%c%s\x48%s" % (len(name), name, _varint(budget_us))
    return head + _TRACE + trace if trace else head


def _varint(value: int) -> bytes:
    """Base-128, least first. https://protobuf.dev/programming-guides/encoding/#varints"""
    if value < 0x80:
        return value.to_bytes(1, "little")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
