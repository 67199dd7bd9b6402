"""Owns the rules that single fields of a message must keep. Each raises WireError that names field and rule."""

from __future__ import annotations

import re

from splitmesh.errors import WireError

MAX_ID_CHARS = 128
MAX_US = 86_400_000_000
"""A day: no honest duration on the wire is longer."""
MAX_SEQ = 10**18 - 1
"""Of a frame in its stream: the last part of a frame id has at most 18 digits."""

_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_id(value: str, *, field: str) -> str:
    """An id: 1 to 128 letters, digits, `_`, `.` or `-`."""
    if not _ID.fullmatch(value):
        raise WireError(
            f"{field} {value[:40]!r} ({len(value)} characters) is not 1 to {MAX_ID_CHARS} letters, digits, "
            "'_', '.' or '-'"
        )
    return value


def check_sha256(value: str, *, field: str) -> str:
    """A SHA-256 as 64 lower-case hex digits."""
    if not _SHA256.fullmatch(value):
        raise WireError(f"{field} {value[:80]!r} is not 64 lower-case hex digits")
    return value


def check_range(value: int, *, field: str, low: int = 0, high: int) -> int:
    """A whole number within [low, high]."""
    if not low <= value <= high:
        raise WireError(f"{field} {value} is not in [{low}, {high}]")
    return value


def check_text(value: str, *, field: str, limit: int) -> str:
    """Text for people, at most `limit` characters."""
    if len(value) > limit:
        raise WireError(f"{field} has {len(value)} characters, more than {limit}")
    return value


def check_size(size: int, *, field: str, limit: int, least: int = 0) -> int:
    """A length in bytes, or a count, within [least, limit]."""
    if not least <= size <= limit:
        raise WireError(f"{field} has length {size}, which is not in [{least}, {limit}]")
    return size
