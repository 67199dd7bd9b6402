"""Owns the rules that single fields of control messages must keep. Each raises BadField, which names the field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from splitmesh.errors import WireError
from splitmesh.wire.checks import check_id
from splitmesh.wire.subjects import check_token

MAX_NAME_CHARS = 200
MAX_TEXT_CHARS = 2000
MAX_KINDS = 64
"""Entries of a map from a kind (outcome, place, way of choosing a worker) to a count."""


class BadField(WireError):
    """A field of a message breaks its rule; `field` names it."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


def edge_field(value: str, expected: str) -> None:
    if value != expected:
        raise BadField(f"edge_id {value[:80]!r} is not {expected!r}, by whose subject it came", field="edge_id")
    token_field(value, "edge_id")


def token_field(value: str, field: str) -> None:
    try:
        check_token(value, field=field)
    except WireError as exc:
        raise BadField(exc.message, field=field) from exc


def id_field(value: str, field: str) -> None:
    try:
        check_id(value, field=field)
    except WireError as exc:
        raise BadField(exc.message, field=field) from exc


def text_field(value: str, field: str, limit: int) -> None:
    if len(value) > limit:
        raise BadField(f"{field} has {len(value)} characters, more than {limit}", field=field)


def names_field(values: Iterable[str], field: str) -> None:
    for value in values:
        text_field(value, field, MAX_NAME_CHARS)


def bytes_field(value: bytes, field: str, *lengths: int) -> None:
    if len(value) not in lengths:
        raise BadField(f"{field} has {len(value)} bytes, not {' or '.join(map(str, lengths))}", field=field)


def count_field(count: int, field: str, limit: int) -> None:
    if count > limit:
        raise BadField(f"{field} {count} is more than {limit}", field=field)


def amount_field(value: float, field: str, *, low: float = 0.0, high: float = math.inf) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise BadField(f"{field} {value:g} is not a number in [{low:g}, {high:g}]", field=field)


def kinds_field(counts: Mapping[str, int], field: str) -> None:
    count_field(len(counts), field, MAX_KINDS)
    names_field(counts, field)
