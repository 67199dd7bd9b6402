"""Owns the message headers: trace context, message id, remaining budget.

Refuses wall-clock deadlines: clocks differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from splitmesh.errors import WireError
from splitmesh.wire.checks import check_id

TRACEPARENT = "traceparent"
"""W3C trace context, version 00."""
MESSAGE_ID = "Nats-Msg-Id"
BUDGET_US = "Sm-Budget-Us"
"""Microseconds that are left until the answer is worthless, counted from the moment of sending."""

MAX_BUDGET_US = 600_000_000

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_DECIMAL = re.compile(r"[0-9]{1,12}")


def pack(traceparent: str | None, message_id: str, budget_us: int) -> dict[str, str]:
    """Headers of one request. Raises WireError if one of them could not be read back."""
    check_id(message_id, field=MESSAGE_ID)
    if not 0 <= budget_us <= MAX_BUDGET_US:
        raise WireError(f"{BUDGET_US} {budget_us} is not in [0, {MAX_BUDGET_US}]")
    headers = {MESSAGE_ID: message_id, BUDGET_US: str(budget_us)}
    if traceparent:
        if not _TRACEPARENT.fullmatch(traceparent):
            raise WireError(f"{TRACEPARENT} {traceparent[:80]!r} is not a W3C trace context of version 00")
        headers[TRACEPARENT] = traceparent
    return headers


def budget_us(headers: Mapping[str, str]) -> int:
    """The remaining budget in microseconds, [0, 600 s]. Raises WireError if absent or no such number."""
    text = headers.get(BUDGET_US)
    if text is None:
        raise WireError(f"header {BUDGET_US} is missing")
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_BUDGET_US:
        raise WireError(f"header {BUDGET_US} {text[:40]!r} is not a whole number in [0, {MAX_BUDGET_US}]")
    return int(text)


def message_id(headers: Mapping[str, str]) -> str:
    """The message id. Raises WireError if absent or malformed."""
    return check_id(headers.get(MESSAGE_ID, ""), field=MESSAGE_ID)


def traceparent(headers: Mapping[str, str]) -> str | None:
    """The trace context, or None. A malformed one counts as none: no frame is lost for the sake of its trace."""
    text = headers.get(TRACEPARENT, "")
    return text if _TRACEPARENT.fullmatch(text) else None
