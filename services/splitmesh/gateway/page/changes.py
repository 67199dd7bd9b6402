"""Owns what the browser may send: JSON of known keys, types and ranges, as values. Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from splitmesh.errors import WireError
from splitmesh.gateway.page.refusals import Refusal, Refused
from splitmesh.v1 import control_pb2 as pb
from splitmesh.wire.subjects import check_token

MAX_BODY_BYTES = 16 * 1024
_MAX_TEXT_CHARS = 200


def json_object(raw: bytes | str) -> dict[str, Any]:
    """Raises Refused unless `raw` is one JSON object of bearable size."""
    if len(raw) > MAX_BODY_BYTES:
        raise Refused(Refusal.TOO_LARGE, f"{len(raw)} bytes")
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise Refused(Refusal.BAD_REQUEST, "not JSON") from exc
    if not isinstance(value, dict):
        raise Refused(Refusal.BAD_REQUEST, "not an object")
    return value


def policy_change(body: dict[str, Any]) -> pb.PolicyChange:
    """`{"policy": text, "deadline_ms": 1 to 60000, "uplink_budget_bps": 0 to 1e12}`; none must be. Raises Refused."""
    only(body, "policy", "deadline_ms", "uplink_budget_bps")
    change = pb.PolicyChange()
    if "policy" in body:
        change.policy = text(body, "policy")
    if "deadline_ms" in body:
        change.deadline_ms = number(body, "deadline_ms", 1, 60_000)
    if "uplink_budget_bps" in body:
        change.uplink_budget_bps = number(body, "uplink_budget_bps", 0, 1e12)
    return change


def only(body: dict[str, Any], *known: str) -> None:
    if unknown := sorted(set(body) - set(known)):
        raise Refused(Refusal.BAD_REQUEST, f"unknown key {unknown[0][:40]!r}")


def text(body: dict[str, Any], key: str, limit: int = _MAX_TEXT_CHARS) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= limit or not value.isprintable():
        raise Refused(Refusal.BAD_REQUEST, f"{key} must be text of 1 to {limit} characters")
    return value


def number(body: dict[str, Any], key: str, low: float, high: float) -> float:
    value = body.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < math.inf:
        raise Refused(Refusal.BAD_REQUEST, f"{key} must be a number")
    if not low <= value <= high:
        raise Refused(Refusal.BAD_REQUEST, f"{key} must be {low:g} to {high:g}")
    return float(value)


def name(value: object, field: str) -> str:
    """A member's name, as subjects may hold one. Raises Refused."""
    try:
        return check_token(value if isinstance(value, str) else "", field=field)
    except WireError as exc:
        raise Refused(Refusal.BAD_REQUEST, f"{field} is no name") from exc


def frame_name(value: str) -> str:
    """`<edge>.<run>.<seq>`. Raises Refused."""
    parts = value.split(".")
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit() and len(parts[2]) <= 20):
        raise Refused(Refusal.BAD_REQUEST, "frame id must be <edge>.<run>.<number>")
    for part in parts[:2]:
        name(part, "frame id")
    return value
