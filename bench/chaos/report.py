"""Owns what is written of a chaos run: bench/results/chaos.json, its table and its picture. Runs nothing."""

from __future__ import annotations

import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.chaos.faults import FAULTS
from bench.chaos.mesh import DEADLINE_MS, FPS
from bench.chaos.repeat import RECOVERY_LIMIT_S, Campaign, Repetition

Report = dict[str, Any]
_NEVER = f"over {RECOVERY_LIMIT_S:g}"


def entry(campaign: Campaign, name: str, seed: int) -> Report:
    """What `campaign`, which struck by `name` alone, has shown."""
    return summarised(
        {
            "about": FAULTS[name].about,
            "seeds": [seed],
            "skipped": campaign.skipped.get(name, ""),
            "repetitions": [row(made) for made in campaign.repetitions],
            "counts": [campaign.counts],
            "faults": campaign.faults,
        }
    )


def row(made: Repetition) -> Report:
    return {
        "held_s": round(made.held_s, 3),
        "recovery_s": None if made.recovery_s is None else round(made.recovery_s, 3),
        "frames": made.frames,
        "in_time": None if made.in_time is None else round(made.in_time, 4),
        "failed": made.failed,
        "outcomes": made.outcomes,
        "lost_lines": made.lost_lines,
        "load": round(made.load, 1),
        "notes": made.notes,
        "faults": made.faults,
    }


def merged(old: Report, new: Report) -> Report:
    """Both runs' repetitions as one entry."""
    lists = ("seeds", "repetitions", "counts", "faults")
    return summarised({**new, **{key: old[key] + new[key] for key in lists}})


def summarised(found: Report) -> Report:
    """`found` with the figures that follow from its repetitions."""
    rows = found["repetitions"]
    recoveries = [each["recovery_s"] for each in rows if each["recovery_s"] is not None]
    frames = sum(each["frames"] for each in rows)
    hits = sum(each["frames"] * each["in_time"] for each in rows if each["frames"])
    faulty = sum(bool(each["faults"]) for each in rows)
    return {
        **found,
        "struck": len(rows),
        "conserved": bool(rows) and not faulty and not found["faults"],
        "recovered": len(recoveries),
        "recovery_median_s": round(statistics.median(recoveries), 3) if recoveries else None,
        "recovery_worst_s": max(recoveries, default=None),
        "frames": frames,
        "in_time": round(hits / frames, 4) if frames else None,
        "failed": sum(each["failed"] for each in rows),
        "lost_lines": sum(each["lost_lines"] for each in rows),
    }


def setting(policy: str) -> Report:
    return {
        "fps": FPS,
        "deadline_ms": DEADLINE_MS,
        "policy": policy or "adaptive among splits without state",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def passed(entries: Iterable[Report]) -> bool:
    """Every strike conserved every frame and the cloud came back; what this machine can't do does not count."""
    return all(
        found["conserved"] and found["recovered"] == found["struck"] for found in entries if not found["skipped"]
    )


def table(report: Report) -> tuple[Sequence[str], list[tuple[str, ...]]]:
    """(head, rows) for docs/benchmarks.md."""
    head = (
        "fault",
        "strikes",
        "conserved",
        "recovery, median s",
        "worst s",
        "frames meanwhile",
        "in time",
        "no answer",
    )
    rows: list[tuple[str, ...]] = []
    for name in FAULTS:
        found = report["faults"].get(name)
        if found is None:
            continue
        if found["skipped"]:
            rows.append((found["about"], "–", found["skipped"], "–", "–", "–", "–", "–"))
            continue
        rows.append(
            (
                found["about"],
                str(found["struck"]),
                "every time" if found["conserved"] else "**no**",
                _seconds(found["recovery_median_s"]),
                _seconds(found["recovery_worst_s"]) if found["recovered"] == found["struck"] else _NEVER,
                str(found["frames"]),
                "–" if found["in_time"] is None else f"{found['in_time']:.1%}",
                str(found["failed"]),
            )
        )
    return head, rows


def totals(report: Report) -> str:
    """All frames of all runs, by outcome, in one sentence."""
    counts: Counter[str] = Counter()
    for found in report["faults"].values():
        for each in found["counts"]:
            counts.update(each)
    parts = ", ".join(f"{name} {count}" for name, count in counts.items() if name != "captured" and count)
    loads = [row["load"] for found in report["faults"].values() for row in found["repetitions"] if "load" in row]
    machine = f"{report['cores']} cores"
    if loads:
        machine += f", load average {statistics.median(loads):.1f} at the median strike, {max(loads):.1f} at most"
    return f"Frames captured in all: {counts['captured']}, that is {parts}. {machine}, Python {report['python']}."


def draw(report: Report, path: Path) -> None:
    """One dot per strike: recovery time by fault."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    entries = [(name, found) for name, found in report["faults"].items() if found["recovered"]]
    figure, axis = pyplot.subplots(figsize=(8, 0.5 * len(entries) + 1.2))
    for place, (_, found) in enumerate(entries):
        times = [each["recovery_s"] for each in found["repetitions"] if each["recovery_s"] is not None]
        axis.plot(times, [place] * len(times), "o", alpha=0.5, color="#06c")
        axis.plot([found["recovery_median_s"]], [place], "|", markersize=18, color="#c30")
    axis.set_yticks(range(len(entries)), [name for name, _ in entries])
    axis.invert_yaxis()
    axis.set_xlabel("s from the end of the fault to ten frames in a row answered by a worker in time (median in red)")
    axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
