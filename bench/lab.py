"""The same lab scenario for every policy: adaptive, local-only, cloud-only and each static operating point.

`make bench-lab`; `bench.thin` runs the same for the preset "thin-uplink". Each run is a
`splitmesh lab` of its own; rounds go over all policies before the next round starts, so that a slow minute of the
machine does not hit one policy only. Writes bench/results/NAME.{json,png} and the table between the markers of that
name in README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from splitmesh.lab.display import Display
from splitmesh.lab.stages import gather
from splitmesh.settings.model import LabSettings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
SPARE_S = 240.0
OVERHEAD_S = 15.0
"""What a run takes besides streaming, before the first one has told."""
MEASURES = ("score", "deadline_hit", "inferred_hit", "fidelity", "uplink_bytes")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=60.0, help="seconds per run (default: 60)")
    parser.add_argument("--repeats", type=at_least_one, default=3, help="rounds over all policies (default: 3)")
    parser.add_argument("--name", default="lab", help="of result files and of the table's markers (default: lab)")
    parser.add_argument("--preset", help="the lab's preset; what follows wins over it")
    parser.add_argument("--source", help="video (default: the lab's)")
    parser.add_argument("--plan", help="plan folder (default: the model's own)")
    parser.add_argument("--link", help="link preset or trace (default: the lab's)")
    parser.add_argument("--deadline", help="as in 150ms (default: the lab's)")
    parser.add_argument("--edge-slowdown", help="default: the lab's")
    parser.add_argument("--outage", default="", help='extra outages, as in "5s@20s,2s@40s/cut"')
    parser.add_argument("--statics", type=int, default=16, help="at most so many static points (default: 16)")
    parser.add_argument("--policies", default="", help="comma-separated; default: all")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of NAME.json and NAME.png")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the markers")
    return parser.parse_args()


def at_least_one(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return count


def policies(statics: int, source: str | None, plan: str | None) -> list[str]:
    """All there are for the default model: the three named ones, then the plan's own points, evenly thinned."""
    settings = LabSettings(source=source, plan=Path(plan) if plan else None)
    bundle = gather(settings, Display(quiet=True, stream=sys.stderr)).bundle
    remote = [point.name for point in bundle.points if point.remote]
    if len(remote) > statics:
        step = (len(remote) - 1) / max(statics - 1, 1)
        remote = [remote[round(i * step)] for i in range(statics)]
    return ["adaptive", "local-only", "cloud-only", *(f"static:{name}" for name in remote)]


def passed_on(arguments: argparse.Namespace) -> list[str]:
    """The lab's own options that were given."""
    names = ("preset", "source", "plan", "link", "deadline", "edge_slowdown", "outage")
    given = {f"--{name.replace('_', '-')}": getattr(arguments, name) for name in names}
    return [word for flag, value in given.items() if value for word in (flag, value)]


def run_once(policy: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One lab run's summary. Raises RuntimeError with the end of its output when it fails."""
    with tempfile.TemporaryDirectory(prefix="bench-lab-") as folder:
        out = Path(folder) / "summary.json"
        command = [
            sys.executable, "-m", "splitmesh.cli.main", "lab", "--config", os.devnull, "--no-video", "--quiet",
            "--web-port", "off", "--policy", policy, "--duration", f"{arguments.duration:g}s", "--seed", str(seed),
            "--out", f"{folder}/run", "--json", str(out), *passed_on(arguments),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=arguments.duration + SPARE_S)
        if not out.exists():
            said = f"{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
            raise RuntimeError(f"{policy} failed with {done.returncode}:\n{said}")
        summary: dict[str, Any] = json.loads(out.read_text())
        return summary


def median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def condense(policy: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row: medians over the repeats, and the span of the score."""
    scores = [run["score"] for run in runs if run["score"] is not None]
    return {
        "policy": policy,
        **{measure: median([run[measure] for run in runs]) for measure in MEASURES},
        "score_min": min(scores, default=None),
        "score_max": max(scores, default=None),
        "p50_ms": median([run["latency_ms"]["p50"] for run in runs]),
        "p95_ms": median([run["latency_ms"]["p95"] for run in runs]),
        "conserved": all(run["conserved"] for run in runs),
        "captured": [run["frames"]["captured"] for run in runs],
        "incidents": [incident for run in runs for incident in run["incidents"]],
    }


def shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def table(report: dict[str, Any]) -> str:
    """The markdown that goes into the README."""
    head = (
        "| policy | score | in time | in time, by a model | fidelity (F1) | p50 / p95 ms | uplink MB |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    lines = [head]
    for row in report["rows"]:
        name = f"**{row['policy']}**" if row["policy"] == "adaptive" else f"`{row['policy']}`"
        lines.append(
            f"| {name} | {shown(row['score'], '{:.3f}')} | {shown(row['deadline_hit'], '{:.1%}')} "
            f"| {shown(row['inferred_hit'], '{:.1%}')} | {shown(row['fidelity'], '{:.3f}')} "
            f"| {shown(row['p50_ms'], '{:.0f}')} / {shown(row['p95_ms'], '{:.0f}')} "
            f"| {shown(row['uplink_bytes'] and row['uplink_bytes'] / 1e6, '{:.2f}')} |"
        )
    s = report["scenario"]
    lines.append(
        f"\nMedians of {s['repeats']} run(s) of {s['duration_s']:g} s each: link `{s['link']}`, deadline "
        f"{s['deadline_ms']:g} ms, edge slowed ×{s['edge_slowdown']:g}, default model, {Path(s['source']).name}, "
        f"{s['machine']}, {s['date']}. Score = in time × fidelity; dropped frames count as misses. "
        f"{s['emulation']}"
    )
    return "\n".join(lines)


def put_between_markers(readme: Path, name: str, text: str) -> bool:
    """Replace what stands between the markers of that name; False if there are none."""
    if not readme.exists():
        return False
    before, begin, rest = readme.read_text(encoding="utf-8").partition(f"<!-- bench-{name}:begin -->")
    _, end, after = rest.partition(f"<!-- bench-{name}:end -->")
    if not begin or not end:
        return False
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
    return True


def draw(report: dict[str, Any], path: Path) -> None:
    """Score per policy as bars, with the span over the repeats."""
    rows = [row for row in report["rows"] if row["score"] is not None][::-1]
    figure = Figure(figsize=(9.0, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    best = max((row["score"] for row in rows), default=None)
    colours = ["#2a9d5c" if row["score"] == best else "#b8c4d4" for row in rows]
    axes.barh([row["policy"] for row in rows], [row["score"] for row in rows], color=colours)
    for place, row in enumerate(rows):
        axes.plot([row["score_min"], row["score_max"]], [place, place], color="#24292f", linewidth=1.4)
        axes.annotate(
            f"{row['score']:.3f}",
            (row["score_max"], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color="#24292f",
        )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlim(0.0, 1.08 * max([row["score_max"] for row in rows], default=1.0))
    scenario = report["scenario"]
    axes.set_xlabel("score = answered in time × agreement with the full model", fontsize=9)
    axes.set_title(
        f"link {scenario['link']}, deadline {scenario['deadline_ms']:g} ms, edge slowed "
        f"×{scenario['edge_slowdown']:g}, {scenario['repeats']} × {scenario['duration_s']:g} s",
        fontsize=10,
        loc="left",
    )
    figure.savefig(path, dpi=130)


class Progress:
    """Says after each run how it went and when all will be done."""

    def __init__(self, total: int, duration_s: float) -> None:
        self._total, self._done = total, 0
        self._began_s = time.monotonic()
        minutes = total * (duration_s + OVERHEAD_S) / 60
        print(f"{total} runs of {duration_s:g} s: about {minutes:.0f} min", flush=True)

    def ran(self, policy: str, summary: dict[str, Any]) -> None:
        self._done += 1
        left_s = (time.monotonic() - self._began_s) / self._done * (self._total - self._done)
        end = time.strftime("%H:%M", time.localtime(time.time() + left_s))
        print(
            f"{self._done:3d}/{self._total} {policy:32s} score {shown(summary['score'], '{:.3f}')}  "
            f"in time {shown(summary['deadline_hit'], '{:.1%}')}  "
            f"by a model {shown(summary['inferred_hit'], '{:.1%}')}  conserved {summary['conserved']}  "
            f"{left_s / 60:.0f} min left, done at {end}",
            flush=True,
        )


def main() -> int:
    arguments = parsed()
    names = [n for n in arguments.policies.split(",") if n] or policies(
        arguments.statics, arguments.source, arguments.plan
    )
    progress = Progress(len(names) * arguments.repeats, arguments.duration)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repeat in range(arguments.repeats):
        for name in names:
            summary = run_once(name, repeat, arguments)
            runs[name].append(summary)
            progress.ran(name, summary)
    rows = sorted((condense(name, runs[name]) for name in names), key=lambda row: -(row["score"] or 0.0))
    some = next(iter(runs.values()))[0]
    report = {
        "scenario": {
            "link": some["link"],
            "deadline_ms": some["deadline_ms"],
            "edge_slowdown": some["edge_slowdown"],
            "outages": some["outages"],
            "duration_s": arguments.duration,
            "repeats": arguments.repeats,
            "model": some["model"],
            "source": some["source"],
            "machine": f"{os.cpu_count()} cores {platform.machine()}",
            "date": time.strftime("%Y-%m-%d"),
            "emulation": some["emulation"],
            "versions": some["versions"],
        },
        "rows": rows,
        "runs": runs,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / f"{arguments.name}.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report, arguments.results / f"{arguments.name}.png")
    text = table(report)
    print(text)
    if not put_between_markers(arguments.readme, arguments.name, text):
        print(f"{arguments.readme.name} has no markers of bench-{arguments.name}: no table inserted", file=sys.stderr)
    return 0 if all(row["conserved"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
