"""Owns what both buses refuse before anything is sent: malformed subjects and headers, and messages too large."""

from __future__ import annotations

import re
from collections.abc import Mapping

from splitmesh.errors import BusError, PayloadTooLarge

_TOKEN = re.compile(r"[^\s.*>\x00]+")
_HEADER_NAME = re.compile(r"[!#$%&'+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_HEADER_START_BYTES = len("NATS/1.0\r\n") + len("\r\n")


class BadMessage(BusError):
    """A subject or header is malformed: sending it again can't help."""

    retryable = False


def check_subject(subject: str, *, wildcards: bool) -> None:
    """Dot-separated tokens; with `wildcards`, `*` as a whole token and `>` as the last. Raises BadMessage."""
    tokens = subject.split(".")
    for place, token in enumerate(tokens):
        if wildcards and (token == "*" or (token == ">" and place == len(tokens) - 1)):
            continue
        if not _TOKEN.fullmatch(token):
            raise BadMessage(f"{subject[:120]!r} is not a subject: token {token[:40]!r}")


def message_bytes(payload: bytes, headers: Mapping[str, str]) -> int:
    """What the broker counts against its limit: payload and headers as sent. Raises BadMessage."""
    if not headers:
        return len(payload)
    size = len(payload) + _HEADER_START_BYTES
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value) or value != value.strip():
            raise BadMessage(f"header {name[:40]!r}: {value[:40]!r} can't be sent unchanged")
        size += len(name) + len(value) + len(": \r\n")
    return size


def check_size(payload: bytes, headers: Mapping[str, str], limit: int) -> int:
    """Size in bytes. Raises PayloadTooLarge beyond `limit`, BadMessage for malformed headers."""
    size = message_bytes(payload, headers)
    if size > limit:
        raise PayloadTooLarge(
            f"message of {size} bytes exceeds the broker's limit of {limit}",
            advice="choose a smaller operating point, or raise max_payload on the broker",
        )
    return size


def matches(pattern: str, subject: str) -> bool:
    """True if `subject` falls under `pattern` (`*`: one token, trailing `>`: one or more)."""
    wanted, got = pattern.split("."), subject.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(got) > place
        if place >= len(got) or token not in ("*", got[place]):
            return False
    return len(wanted) == len(got)
