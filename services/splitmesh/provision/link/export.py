"""Owns writing a link trace in the formats that `formats` reads. Pure; writes no file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Final

from splitmesh.errors import SettingsError
from splitmesh.provision.link.formats import OPPORTUNITY_BYTES
from splitmesh.provision.link.trace import LinkTrace, Step


def export_trace(trace: LinkTrace, file_name: str) -> str:
    """`trace` as text, in the format that `file_name` ends in. One period is written; outages as rates of 0.

    `.toml` keeps everything (outages too, as they are), `.csv` all but the downlink, the length and that it loops,
    `.json` (sabre) rates and delays, `.up` (mahimahi) rates alone, in packets of 1500 bytes.
    Raises SettingsError (key "link"): another ending, or a link without any capacity as `.up`.
    """
    ending = next((ending for ending in _WRITERS if file_name.endswith(ending)), "")
    if not ending:
        raise SettingsError(
            f"{file_name} names no format of a link trace", key="link", advice=f"it may end in {', '.join(_WRITERS)}"
        )
    return _WRITERS[ending](trace)


def _toml(trace: LinkTrace) -> str:
    top = f"length_s = {trace.period_s!r}\nloop = {str(trace.loop).lower()}\ndown_bps = {trace.down_bps!r}\n"
    steps = (
        f"\n[[step]]\nstart_s = {step.start_s!r}\nrate_bps = {step.rate_bps!r}\n"
        f"delay_ms = {step.delay_ms!r}\njitter_ms = {step.jitter_ms!r}\n"
        for step in trace.steps
    )
    outages = (
        f"\n[[outage]]\nstart_s = {outage.start_s!r}\nlength_s = {outage.length_s!r}\n"
        f"cut = {str(outage.cut).lower()}\n"
        for outage in trace.outages
    )
    return top + "".join((*steps, *outages))


def _csv(trace: LinkTrace) -> str:
    rows = (f"{step.start_s!r},{step.rate_bps!r},{step.delay_ms!r},{step.jitter_ms!r}\n" for step, _ in _lap(trace))
    return "start_s,rate_bps,delay_ms,jitter_ms\n" + "".join(rows)


def _sabre(trace: LinkTrace) -> str:
    rows = [
        {
            "duration_ms": round((end_s - step.start_s) * 1000, 6),
            "bandwidth_kbps": step.rate_bps / 1000,
            "latency_ms": 2 * step.delay_ms,
        }
        for step, end_s in _lap(trace)
    ]
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def _mahimahi(trace: LinkTrace) -> str:
    """A packet leaves in the millisecond in which there has been room for it; the last one ends the lap."""
    lines: list[str] = []
    carried_bytes = 0.0
    for step, end_s in _lap(trace):
        per_s = step.rate_bps / 8
        room_bytes = carried_bytes + per_s * (end_s - step.start_s)
        whole = int(room_bytes // OPPORTUNITY_BYTES)
        for packet in range(1, whole + 1):
            at_s = step.start_s + (packet * OPPORTUNITY_BYTES - carried_bytes) / per_s
            lines.append(f"{max(1, math.ceil(at_s * 1000 - 1e-6))}\n")
        carried_bytes = room_bytes - whole * OPPORTUNITY_BYTES
    if not lines:
        raise SettingsError(f"link {trace.name!r} takes not one packet: a .up file can't say that", key="link")
    end_ms = math.ceil(trace.period_s * 1000)
    return "".join(lines) + ("" if int(lines[-1]) >= end_ms else f"{end_ms}\n")


def _lap(trace: LinkTrace) -> Iterator[tuple[Step, float]]:
    """(step, its end in s) over one period, outages made steps of rate 0."""
    for piece in trace.pieces(0.0):
        if piece.start_s >= trace.period_s:
            return
        step = trace.step_at(piece.start_s)
        yield (
            Step(piece.start_s, piece.rate_bps, step.delay_ms, step.jitter_ms),
            min(piece.end_s, trace.period_s),
        )


_WRITERS: Final[dict[str, Callable[[LinkTrace], str]]] = {
    ".toml": _toml,
    ".csv": _csv,
    ".json": _sabre,
    ".up": _mahimahi,
}
