"""Runs a long lab and fails when a frame is lost or a process keeps growing.

Resident memory of each process of the mesh is sampled while frames flow. The first part of the run is warm-up; of the
rest, the median of the last third may exceed that of the first third by a tenth or by 32 MiB, whichever is more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from splitmesh.errors import SettingsError
from splitmesh.settings.units import parse_seconds

ROOT = Path(__file__).resolve().parent.parent
EVERY_S = 1.0
WARM_UP = 0.25
"""Share of the samples that belong to loading, planning and filling caches."""
ALLOWED_BYTES = 32 * 2**20
ALLOWED_SHARE = 0.10
LEAST_SAMPLES = 24

Sample = tuple[float, int]
"""Seconds since the start, resident bytes."""


def role(command: Sequence[str]) -> str | None:
    """What a process of the mesh is, by its command line; None for anything else and for the lab itself."""
    if command and Path(command[0]).name.startswith("nats-server"):
        return "broker"
    for name in ("edge", "cloud", "link"):
        if "splitmesh.cli.main" in command and name in command:
            return name
    return None


def sample(lab: psutil.Process, since_s: float, series: dict[tuple[str, int], list[Sample]]) -> None:
    """Add one sample per living process of the mesh, keyed by role and process id: a restart is a new series."""
    for process in lab.children(recursive=True):
        try:
            name = role(process.cmdline())
            if name is not None:
                series.setdefault((name, process.pid), []).append((since_s, process.memory_info().rss))
        except psutil.Error:
            continue


def growth_bytes(samples: Sequence[Sample]) -> int | None:
    """By how much the last third exceeds the first after warm-up, by medians; None if there is too little to say."""
    steady = [rss for _, rss in samples[int(len(samples) * WARM_UP) :]]
    if len(steady) < LEAST_SAMPLES:
        return None
    third = len(steady) // 3
    return int(statistics.median(steady[-third:]) - statistics.median(steady[:third]))


def allowed_bytes(samples: Sequence[Sample]) -> int:
    return max(ALLOWED_BYTES, int(ALLOWED_SHARE * statistics.median(rss for _, rss in samples)))


def verdicts(series: dict[tuple[str, int], list[Sample]]) -> tuple[list[str], list[str]]:
    """(lines to print, faults)."""
    lines, faults = [], []
    for (name, pid), samples in sorted(series.items()):
        growth = growth_bytes(samples)
        highest = max(rss for _, rss in samples) / 2**20
        if growth is None:
            lines.append(f"{name:<7} {pid:>7}  highest {highest:7.1f} MiB  too few samples to judge ({len(samples)})")
            continue
        lines.append(f"{name:<7} {pid:>7}  highest {highest:7.1f} MiB  growth {growth / 2**20:+7.2f} MiB")
        if growth > allowed_bytes(samples):
            faults.append(f"{name} (process {pid}) grew by {growth / 2**20:.1f} MiB after warm-up")
    return lines, faults


def conservation_faults(summary: dict[str, Any]) -> list[str]:
    """What the lab's summary says against the conservation law."""
    faults = [f"records: {fault}" for fault in summary.get("faults") or []]
    if summary.get("conserved") is not True:
        faults.append(f"frames were lost or counted twice: {summary.get('frames')}")
    return faults


def main() -> int:
    arguments = argparse.ArgumentParser(description="Run a long lab; fail on a lost frame or on growing memory.")
    arguments.add_argument("--duration", default="1h", help='length such as "90s", "1h" (default %(default)s)')
    arguments.add_argument("--out", type=Path, default=ROOT / "out" / "soak", help="folder (default %(default)s)")
    given, more = arguments.parse_known_args()
    try:
        duration_s = parse_seconds(given.duration)
    except (SettingsError, ValueError) as error:
        arguments.error(f"--duration {given.duration}: {error}")
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"soak: a lab of {duration_s:g} s in {given.out}, lab options {more or 'default'}", file=sys.stderr)
    command = [sys.executable, "-m", "splitmesh.cli.main", "lab", "--duration", f"{duration_s:g}s"]
    command += ["--out", str(given.out), "--no-video", "--quiet", *more]
    series: dict[tuple[str, int], list[Sample]] = {}
    start_s = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT) as lab:
        watched = psutil.Process(lab.pid)
        while lab.poll() is None:
            sample(watched, time.monotonic() - start_s, series)
            try:
                lab.wait(EVERY_S)
            except subprocess.TimeoutExpired:
                continue
    return conclude(given.out, lab.returncode, series)


def conclude(out: Path, lab_status: int, series: dict[tuple[str, int], list[Sample]]) -> int:
    """Print and write what was found; the exit status."""
    lines, faults = verdicts(series)
    if lab_status:
        faults.append(f"the lab ended with status {lab_status}")
    summary_path = out / "summary.json"
    frames: object = None
    if summary_path.is_file():
        summary = json.loads(summary_path.read_text())
        frames = summary.get("frames")
        faults += conservation_faults(summary)
    else:
        faults.append("the lab left no summary.json")
    if not any(name == "edge" for name, _ in series):
        faults.append("no edge process was seen")
    print(f"frames: {frames}", *lines, *(f"FAULT {fault}" for fault in faults), sep="\n")
    memory = {f"{name}.{pid}": [[round(t, 1), rss] for t, rss in rows] for (name, pid), rows in series.items()}
    (out / "soak.json").write_text(json.dumps({"frames": frames, "faults": faults, "rss_bytes": memory}) + "\n")
    print(f"soak {'failed' if faults else 'passed'}; {out / 'soak.json'}")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
