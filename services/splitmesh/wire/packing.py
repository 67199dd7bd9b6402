"""Owns the step between typed values and protobuf bytes: the same bytes for the same value, and no foreign errors."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from splitmesh.errors import WireError

_P = TypeVar("_P", bound=Message)


def parse(kind: type[_P], raw: bytes) -> _P:
    """Unknown fields of a newer peer are ignored. Raises WireError if `raw` is no `kind`."""
    try:
        return kind.FromString(raw)
    except DecodeError as exc:
        raise WireError(f"{len(raw)} bytes are not a {kind.__name__}: {exc}") from exc


def pack(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)
