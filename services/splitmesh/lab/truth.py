"""Owns what the emulated link truly offered during a run, on the run's clock, and how well the edge knew it. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from splitmesh.frames.record import FrameRecord
from splitmesh.lab.link.bend import Bend, bent
from splitmesh.provision.link.trace import LinkTrace

_WINDOW_S = 1.0
_BUSY = 0.95


@dataclass(frozen=True, slots=True)
class LinkTruth:
    """A link trace whose clock began `offset_s` seconds into the run (its first frame is 0)."""

    trace: LinkTrace
    offset_s: float = 0.0

    def bps(self, at_s: float) -> float:
        """Mean rate over the second that ends at `at_s`; 0 in an outage."""
        if self.outage(at_s):
            return 0.0
        t = max(at_s - self.offset_s, 0.0)
        since = max(t - _WINDOW_S, 0.0)
        return self.trace.mean_bps(since, max(t, since + 0.1))

    def outage(self, at_s: float) -> bool:
        return self.trace.outage_at(at_s - self.offset_s) is not None

    def state(self, at_s: float) -> tuple[float, bool]:
        """What the live view shows: (bits per second, whether that is an outage)."""
        return self.bps(at_s), self.outage(at_s)

    def capacity(self, duration_s: float) -> list[tuple[float, float]]:
        """(since_s, bits per second) steps for plots, outages not yet cut out of the neighbours' means."""
        rows = replace(self.trace, outages=()).to_rows(duration_s=max(duration_s - self.offset_s, 1.0))
        return [(row["t_s"] + self.offset_s, row["rate_bps"]) for row in rows]

    def bent(self, bend: Bend) -> LinkTruth:
        """`bend` happens too; its start is on the trace's clock."""
        return replace(self, trace=bent(self.trace, bend))

    def outages(self, duration_s: float) -> tuple[tuple[float, float], ...]:
        """(start_s, length_s) of those that began during the run."""
        all_of_them = ((round(o.start_s + self.offset_s, 2), round(o.length_s, 2)) for o in self.trace.outages)
        return tuple(sorted((start, length) for start, length in all_of_them if start < duration_s))

    def estimate_error(self, records: Sequence[FrameRecord]) -> float | None:
        """Median of |estimated − true| / true over decisions outside outages; None if there was no estimate."""
        errors = []
        for record in records:
            at_s = record.captured_ns / 1e9
            true = self.bps(at_s)
            estimate = record.link.get("bandwidth_bps", 0.0)
            if estimate > 0.0 and true > 0.0:
                errors.append(abs(estimate - true) / true)
        return statistics.median(errors) if errors else None


def emulation_report(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """How well the emulator kept to its trace, from its per-second series (`splitmesh link --stats`).

    Only seconds in which the uplink always had something to carry can tell: `saturated_s` counts them,
    `throughput_median_error` is the median of |delivered − asked| / asked over them, None without any.
    """
    errors = [
        abs(row["up"]["delivered_bytes"] - row["up"]["asked_bytes"]) / row["up"]["asked_bytes"]
        for row in rows
        if row["up"]["busy"] >= _BUSY and row["up"]["asked_bytes"] > 0
    ]
    middle = round(statistics.median(errors), 4) if errors else None
    return {"saturated_s": len(errors), "throughput_median_error": middle}
