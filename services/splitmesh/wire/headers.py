"""Owns what travels beside the work: trace context and remaining budget, and the headers in which older edges send
them.

Refuses wall-clock deadlines: clocks differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from splitmesh.errors import WireError
from splitmesh.wire.checks import check_range

TRACEPARENT = "traceparent"
"""W3C trace context, version 00."""
BUDGET_US = "Sm-Budget-Us"
"""Microseconds that are left until the answer is worthless, counted from the moment of sending."""

MAX_BUDGET_US = 600_000_000
TRACE_BYTES = 25

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_DECIMAL = re.compile(r"[0-9]{1,12}")


def check_budget_us(value: int) -> int:
    """A budget in microseconds within [0, 600 s]. Raises WireError."""
    return check_range(value, field="budget_us", high=MAX_BUDGET_US)


def budget_us(headers: Mapping[str, str]) -> int:
    """What an older edge's header says, [0, 600 s] in microseconds. Raises WireError if absent or no such number."""
    text = headers.get(BUDGET_US)
    if text is None:
        raise WireError(f"budget_us is missing, and so is header {BUDGET_US}")
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_BUDGET_US:
        raise WireError(f"header {BUDGET_US} {text[:40]!r} is not a whole number in [0, {MAX_BUDGET_US}]")
    return int(text)


def traceparent(headers: Mapping[str, str]) -> str | None:
    """What an older edge's header says, or None. A malformed one counts as none: no frame is lost for its trace."""
    text = headers.get(TRACEPARENT, "")
    return text if _TRACEPARENT.fullmatch(text) else None


def trace_bytes(text: str | None) -> bytes:
    """A W3C `traceparent` in 25 bytes: trace id, span id, flags; b"" for None. Raises WireError for another text."""
    if text is None:
        return b""
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        raise WireError(f"{TRACEPARENT} {text[:80]!r} is not a W3C trace context of version 00")
    return bytes.fromhex("".join(match.groups()))


def trace_text(raw: bytes) -> str | None:
    """The `traceparent` that `raw` stands for; None if there is none or it is malformed."""
    text = f"00-{raw[:16].hex()}-{raw[16:24].hex()}-{raw[24:].hex()}"
    return text if _TRACEPARENT.fullmatch(text) else None
