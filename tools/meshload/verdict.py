"""Owns what figures mean where they could mislead: above all, whether the generator was the bottleneck. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshload.outcome import Outcome

BUSY = 0.9
"""Share of a core above which a generator process may be what limits the rate."""
LAG_MS = 0.2
LAG_SHARE = 0.1
"""Own lag (p99) is worth a word above both `LAG_MS` and this share of the latency's p99."""
_NO_LATENCY_MS = 100.0
"""Stands for the latency where nothing was answered."""
KEPT = 0.995
AT_THE_EDGE = 2.5
"""Requests that were due just before the end of a run, or of its warm-up, and left just after it, say nothing."""


def notes(figures: Mapping[str, Any], outcome: Outcome) -> list[str]:
    """Sentences for the end of the report, the weightiest first."""
    died = [str(death) for death in outcome.died]
    found = [*died, *_generator(figures), *_room(figures), *_target(figures, outcome)]
    if figures["requests"]["offered"] and figures["requests"]["offered"] < 1000:
        found.append(f"only {figures['requests']['offered']} requests: p99 and above say little")
    return found


def is_generator_bound(figures: Mapping[str, Any]) -> bool:
    """The generator, or its machine, was too slow for what was asked: the figures are not the server's alone."""
    return bool(_generator(figures))


def _generator(figures: Mapping[str, Any]) -> list[str]:
    generator, latency = figures["generator"], figures["latency_ms"]["p99"]
    lag = generator["lag_ms_p99"]
    due = figures["requests"]["offered"] / max(figures["duration_s"], 1e-9)
    busy = generator["cpu"] >= BUSY
    found = []
    if busy:
        found.append(
            f"THE GENERATOR IS A BOTTLENECK: it used {generator['cpu']:.0%} of a core; give more processes (-t)"
        )
    if lag is not None and lag > max(LAG_MS, LAG_SHARE * (latency or _NO_LATENCY_MS)):
        reason = "" if busy else ", though its core was not busy: other processes here hold the cores"
        found.append(f"THE GENERATOR WAS LATE: requests left up to {lag:.3g} ms (p99) after their time{reason}")
    short = (due - figures["kept_rps"]) * figures["duration_s"] > AT_THE_EDGE
    if figures["kept_rps"] < KEPT * due and short and not generator["held"] and not figures["interrupted"]:
        found.append(f"THE GENERATOR DID NOT KEEP THE RATE: {figures['kept_rps']:,.1f} of {due:,.1f}/s left in time")
    return found


def _room(figures: Mapping[str, Any]) -> list[str]:
    held, unsent = figures["generator"]["held"], figures["requests"]["unsent"]
    if not held and not unsent:
        return []
    waited = f"{held:,} requests waited for room among those in flight"
    left = f", {unsent:,} found none until the end" if unsent else ""
    return [f"{waited}{left}: their wait is in the latency; the server is slower than the rate, or -c is too low"]


def _target(figures: Mapping[str, Any], outcome: Outcome) -> list[str]:
    found = []
    if outcome.trouble:
        at_s, label = outcome.trouble
        end = " and the target was not back by the end" if outcome.lost else ""
        found.append(f"the last error came {max(0.0, at_s):.1f} s into the run: {label}{end}")
    if figures["interrupted"]:
        found.append(f"interrupted after {figures['duration_s']:.1f} s: the figures cover what was sent until then")
    return found
