"""Owns what is written of a soak: trends of every process, faults, soak.json, its table and its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.soak_trend import BOUNDS, MIB, Trend, grows, steady, trend

Report = dict[str, Any]
Series = Mapping[str, Sequence[Mapping[str, float]]]
_SAID = {"rss_bytes": "resident memory", "threads": "threads", "fds": "file descriptors", "tasks": "asyncio tasks"}


def conclude(facts: Report, series: Series, faults: Sequence[str], out: Path) -> Report:
    """Write and return the report: `facts`, the trends of `series`, and `faults` with those that the trends add."""
    trends = trends_of(series)
    found = [*faults, *growth(trends)]
    for role in ("broker", "edge", "worker"):
        if not any(name.startswith(role) and "rss_bytes" in trends[name] for name in trends):
            found.append(f"too few samples to judge any {role}")
    rounded = {name: {what: _json(each) for what, each in found.items()} for name, found in trends.items()}
    report = {**facts, "faults": found, "trends": rounded, "series": series}
    out.mkdir(parents=True, exist_ok=True)
    (out / "soak.json").write_text(json.dumps(report) + "\n")
    draw(report, out / "soak.png")
    return report


def trends_of(series: Series) -> dict[str, dict[str, Trend]]:
    """Process → what is sampled → its trend after warm-up; without those that there are too few samples of."""
    found: dict[str, dict[str, Trend]] = {}
    for name, rows in series.items():
        each = {what: trend(steady([(row["at_s"], row[what]) for row in rows if what in row])) for what in BOUNDS}
        found[name] = {what: line for what, line in each.items() if line is not None}
    return found


def growth(trends: Mapping[str, Mapping[str, Trend]]) -> list[str]:
    """What grows, one sentence each."""
    return [
        f"{_SAID[what]} of {name} grow by {found.slope / (MIB if what == 'rss_bytes' else 1):.2f} a minute"
        for name, each in trends.items()
        for what, found in each.items()
        if grows(what, found)
    ]


def _json(found: Trend) -> dict[str, float | bool]:
    return {
        "slope_per_min": found.slope,
        "low": found.low,
        "high": found.high,
        "minutes": round(found.minutes, 2),
        "samples": found.samples,
        "within_noise": found.within_noise,
    }


def table(report: Report) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """(head, rows) for docs/benchmarks.md: one row per process that lived long enough."""
    head = ("process", "judged, min", "highest, MiB", "memory, MiB/min (95 %)", "threads", "descriptors", "tasks")
    rows = []
    for name, trends in report["trends"].items():
        memory = trends.get("rss_bytes")
        if memory is None:
            continue
        series = report["series"][name]
        low, slope, high = (memory[key] / MIB for key in ("low", "slope_per_min", "high"))
        spans = [_span([row[what] for row in series if what in row]) for what in ("threads", "fds", "tasks")]
        highest = max(row["rss_bytes"] for row in series) / MIB
        line = f"{slope:+.2f} ({low:+.2f} … {high:+.2f})"
        rows.append((name, f"{memory['minutes']:.1f}", f"{highest:.0f}", line, *spans))
    return head, rows


def totals(report: Report) -> str:
    """Length, load and frames of the run, in a sentence or two."""
    frames = ", ".join(f"{name} {count}" for name, count in report["counts"].items() if count)
    busy = ", ".join(f"{share:.0%}" for share in report["busy"])
    faults = "; ".join(report["faults"])
    verdict = f"Faults: {faults}." if faults else "Nothing grows beyond its bound and chance."
    run = f"{report['minutes']:g} minutes, {report['edges']} edges, {report['fps']:.0f} frames/s in all"
    return f"{run}; one worker after another computed for {busy} of its time. Frames: {frames}. {verdict}"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.0f} … {max(values):.0f}" if values else "–"


def draw(report: Report, path: Path) -> None:
    """Memory above, threads, descriptors and tasks below, over the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 6), sharex=True)
    for name, rows in report["series"].items():
        minutes = [row["at_s"] / 60 for row in rows]
        above.plot(minutes, [row["rss_bytes"] / MIB for row in rows], label=name)
        for what, style in (("threads", ":"), ("fds", "--"), ("tasks", "-")):
            known = [row for row in rows if what in row]
            below.plot([row["at_s"] / 60 for row in known], [row[what] for row in known], style, linewidth=0.8)
    above.set_ylabel("resident memory, MiB")
    above.set_ylim(bottom=0)
    above.legend(fontsize=7, ncols=3)
    below.set_ylabel("threads :   descriptors --   tasks —")
    below.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
