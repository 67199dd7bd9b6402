"""Owns what a command may make a box read, and what it may set. Pure; what it does not know it refuses."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from splitmesh.errors import SettingsError
from splitmesh.telemetry.logs import masked

SETTABLE = frozenset(
    {"policy", "deadline_ms", "pace", "loop", "duration_s", "max_fps", "ring_capacity", "hwaccel", "threads"}
    | {"trace_ratio", "uplink_budget_bps", "power_budget_w"}
)
"""Settings of an edge that commands may give: none that names a file, an address or an identity."""

_UP = re.compile(r"(^|[/\\])\.\.([/\\?#]|$)")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def check_source(source: str, *, listed: Collection[str], patterns: Collection[str]) -> None:
    """Raises SettingsError unless `source` is one of `listed` (to the letter) or matches one of `patterns`.

    In a pattern `*` stands for any characters but `/`, `@`, `?`, `#` and a backslash, so that it can't reach another
    folder, host or user; all else stands for itself. What goes up by `..` matches none.
    """
    if source in listed:
        return
    climbs = _UP.search(source) or _UNPRINTABLE.search(source)
    if not climbs and any(_expression(pattern).fullmatch(source) for pattern in patterns):
        return
    raise SettingsError(
        f"this box may not be made to read {masked(source)[:200]!r}",
        key="source",
        advice="allow_source of the agent says what commands may name",
    )


def check_settings(settings: Mapping[str, str]) -> None:
    """Raises SettingsError for a setting that commands may not give. Values are left to the edge's own rules."""
    for key in settings:
        if key not in SETTABLE:
            raise SettingsError(
                f"{key!r} can't be set by a command",
                key="settings",
                advice=f"there are {', '.join(sorted(SETTABLE))}",
            )


def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(r"[^/@?#\\]*".join(re.escape(part) for part in pattern.split("*")))
