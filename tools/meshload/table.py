"""Owns the timeline as comma-separated values, a row per second. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from meshload.tally import OUTCOMES

COLUMNS = ("second", "offered", "sent", "completed", "hit", *OUTCOMES, "p50_ms", "p99_ms", "max_ms")
"""Counts by the second of the intended send, but `sent` by that of the send and `completed` of the answer."""


def csv_of(figures: Mapping[str, Any]) -> str:
    """Cells of what there is none of are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(figures["timeline"])
    return out.getvalue()
