"""Owns how a run looks on a terminal: a report that is read at once, a line while it goes on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = {
    "mean": "mean",
    "p50": "p50",
    "p90": "p90",
    "p99": "p99",
    "p999": "p99.9",
    "p9999": "p99.99",
    "max": "max",
}
_SPARK_WIDTH = 60


def report(figures: Mapping[str, Any]) -> str:
    """The report of a document that `results.document_of` made."""
    lines = [
        f"Run of {figures['duration_s']:g} s @ {figures['target']}",
        f"  {figures['described']}",
        f"  {figures['load']}",
        f"  payload: {figures['payload']}",
        "",
        *_rates(figures),
        "",
        f"  {'':<12}" + "".join(f"{title:>10}" for title in _COLUMNS.values()),
        _row("Latency ms", figures["latency_ms"]),
        _row("Service ms", figures["service_ms"]),
    ]
    if figures["server_ms"]["p50"] is not None:
        lines.append(_row("Server ms", figures["server_ms"]))
    lines += ["", *_counts(figures), "", *_sparks(figures["timeline"])]
    lines += [f"  ! {note}" for note in figures["notes"]]
    return "\n".join(lines)


def _rates(figures: Mapping[str, Any]) -> list[str]:
    asked = figures["asked_rps"]
    sent = f"kept {figures['kept_rps']:,.1f}/s"
    told = f"asked {asked:,.1f}/s, {sent}" if asked else f"sent {figures['kept_rps']:,.1f}/s"
    goodput = f", goodput {figures['goodput_rps']:,.1f}/s" if figures["deadline_ms"] else ""
    lines = [f"  {'Rate':<12}{told}, answered {figures['achieved_rps']:,.1f}/s{goodput}"]
    if figures["deadline_ms"]:
        within = figures["deadline_ms"]
        limit = f"{within:g} ms" if isinstance(within, float | int) else f"{within[0]:g} to {within[1]:g} ms"
        lines.append(f"  {'Deadline':<12}{percent(figures['hit'])} answered within {limit} of the intended send")
    lines += [
        f"  {'  ' + name:<12}{percent(share['hit'])} of {share['requests']:,}, "
        f"p50 {amount(share['p50_ms'])} ms, p99 {amount(share['p99_ms'])} ms"
        for name, share in figures["tenants"].items()
    ]
    return lines


def _counts(figures: Mapping[str, Any]) -> list[str]:
    requests = figures["requests"]
    terms = [f"{requests[name]:,} {name}" for name in ("ok", "refused", "error", "timeout", "unsent")]
    lines = [f"  {'Requests':<12}{requests['offered']:,} = {' + '.join(terms)}"]
    for title, found in (("Refused", figures["refused"]), ("Errors", figures["errors"])):
        if found:
            told = ", ".join(f"{label} {n:,}" for label, n in sorted(found.items(), key=lambda item: -item[1]))
            lines.append(f"  {title:<12}{told}")
    moved, generator = figures["bytes"], figures["generator"]
    lines.append(f"  {'Bytes':<12}sent {size(moved['sent'])}, received {size(moved['received'])}")
    lag = amount(generator["lag_ms_p99"])
    cpus = " + ".join(f"{share:.0%}" for share in generator["cpus"])
    lines.append(f"  {'Generator':<12}own lag p99 {lag} ms, CPU {cpus} of a core")
    return lines


def _row(title: str, spread: Mapping[str, float | None]) -> str:
    return f"  {title:<12}" + "".join(f"{amount(spread[key]):>10}" for key in _COLUMNS)


def _sparks(timeline: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(timeline) < 2:
        return []
    rows = []
    for title, key in (("answered/s", "completed"), ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms")):
        values = [row[key] for row in timeline]
        known = [value for value in values if value is not None]
        if known:
            least, most = min(known), max(known)
            rows.append(f"  {title:<12}{spark(values)}  {amount(least)} to {amount(most)}")
    return [f"  by second, {len(timeline)} s:", *rows, ""]


def spark(values: Sequence[float | None], width: int = _SPARK_WIDTH) -> str:
    """Bars from 0 to the largest of `values`; of more than `width` the largest of each group is shown; " ": None."""
    if len(values) > width:
        bounds = [round(i * len(values) / width) for i in range(width + 1)]
        groups = [values[a:b] for a, b in pairwise(bounds)]
        values = [max((v for v in group if v is not None), default=None) for group in groups]
    top = max((value for value in values if value is not None), default=0.0)
    if top <= 0:
        return "".join(" " if value is None else _BARS[0] for value in values)
    last = len(_BARS) - 1
    return "".join(" " if value is None else _BARS[round(max(0.0, value) / top * last)] for value in values)


def progress(tick: Mapping[str, Any], *, length_s: float) -> str:
    """One line on a run that goes on."""
    at_s = tick["at_s"]
    if at_s < 0:
        return f"warming up, {-at_s:.0f} s to go"
    failed = f"   failed {tick['failed']:,}" if tick["failed"] else ""
    return (
        f"{at_s:5.0f} of {length_s:g} s   {tick['last_rps']:,}/s   p50 {amount(tick['p50_ms'])} ms   "
        f"p99 {amount(tick['p99_ms'])} ms   in flight {tick['in_flight']:,}{failed}"
    )


def amount(value: float | None) -> str:
    """Three significant digits or so; "–" for what there is none of."""
    if value is None:
        return "–"
    for least, digits in ((1000, 0), (100, 1), (1, 2)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.3f}"


def percent(share: float | None) -> str:
    """ "99.95 %": so many digits that misses can be told from none."""
    if share is None:
        return "–"
    return f"{100 * share:.3f} %" if 0.99 < share < 1 else f"{100 * share:.1f} %"


def size(value: float) -> str:
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.2f} {unit}"
    return f"{value:.0f} B"
