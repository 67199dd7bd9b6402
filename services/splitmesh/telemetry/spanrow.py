"""Owns the finished span as a value, and its one-line JSON form. Knows no file and no collector."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FRAME_ID = "splitmesh.frame_id"
"""Attribute of a trace's first span in each process; it is how a frame's spans are found."""


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One finished span of one process. Ids are lower-case hex (32 and 16 digits)."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    instance: str
    start_unix_ns: int
    end_unix_ns: int
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    """`[{"name": name, "unix_ns": t, "attributes": {…}}, …]`."""
    error: str = ""

    @property
    def duration_ms(self) -> float:
        return (self.end_unix_ns - self.start_unix_ns) / 1e6

    @property
    def frame_id(self) -> str | None:
        found = self.attributes.get(FRAME_ID)
        return found if isinstance(found, str) else None

    def to_json_line(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @staticmethod
    def from_json_line(line: str) -> SpanRow:
        """Raises ValueError when the line is torn or is no span."""
        row = json.loads(line)
        try:
            made = SpanRow(**row)
        except TypeError as exc:
            raise ValueError(f"not a span: {exc}") from exc
        if not (isinstance(made.start_unix_ns, int) and isinstance(made.end_unix_ns, int)):
            raise ValueError("a span's times must be whole nanoseconds")
        return made


def plain_attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Attributes as both OTLP and JSON take them: str, bool, int, finite float, or a list of one of those.

    None is left out; NaN and infinities become text; other values become `str(value)`.
    """
    if not attributes:
        return {}
    return {key: _plain(value) for key, value in attributes.items() if value is not None}


def _plain(value: Any) -> Any:
    if type(value) in (str, bool, int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, (str, int)):
        return value.value if hasattr(value, "value") else value
    if isinstance(value, (list, tuple)):
        items = [_plain(item) for item in value]
        return items if len({type(item) for item in items}) <= 1 else [str(item) for item in items]
    return str(value)
