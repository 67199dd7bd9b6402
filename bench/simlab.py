"""Does the simulator agree with the lab? → bench/results/simlab.json and .png. `make bench-simlab`.

Each policy × link runs once as `splitmesh lab`: real processes, real broker, emulated link. The scenario is then made
of what that run was (`bench.simlab_given`) and simulated under several seeds. They agree where the decision mix is
within 5 points at every place, the median latency within 10 %, and its 95th percentile within 20 % (`simlab_sides`).
Both cores of a small machine are the lab's: let nothing else run. `--again` simulates the lab runs that are there.

Without `--policies` and `--links` eight pairs run, some eleven minutes: the policy itself over four links, and what
each of its parts is by itself where that part is used most. With either, every policy runs over every link.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.lab import at_least_one
from bench.simlab_beyond import beyond_link_ms, quantiles
from bench.simlab_given import given
from bench.simlab_sides import draw, lab_side, middle, sim_side, table_rows, verdict
from bench.simlab_video import Video, video_of

from splitmesh.lab.commands import command_line
from splitmesh.lab.display import Display
from splitmesh.lab.records import read_jsonl, read_records
from splitmesh.lab.stages import Ingredients, gather
from splitmesh.plan.bundle.choice import points_for
from splitmesh.provision.link.presets import load_link
from splitmesh.settings.model import LabSettings
from splitmesh.settings.presets import PRESETS
from splitmesh.settings.resolve import resolve
from splitmesh.sim.plan import sim_plan
from splitmesh.sim.run import simulate

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
WORK = ROOT / "out" / "bench-simlab"
SPARE_S = 240.0
PAIRS = (
    ("lab-default", "adaptive"),
    ("lab-default", "local-only"),
    ("lab-default", "cloud-only"),
    ("lte", "adaptive"),
    ("wifi", "adaptive"),
    ("wifi", "only:split"),
    ("thin-uplink", "adaptive"),
    ("thin-uplink", "only:split"),
)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", help="comma-separated (default: adaptive; without --links eight pairs of both)")
    parser.add_argument("--links", help="links, or presets of the lab with all they set (default: lab-default)")
    parser.add_argument("--seconds", type=float, default=60.0, help="per lab run (default: 60)")
    parser.add_argument("--seeds", type=at_least_one, default=5, help="simulations per lab run (default: 5)")
    parser.add_argument("--source", help="video (default: the lab's)")
    parser.add_argument("--plan", help="plan folder (default: the model's own)")
    parser.add_argument("--outage", default="", help='as the lab\'s, as in "5s@20s,2s@40s/cut"')
    parser.add_argument("--kill-worker", help="as the lab's, as in 20s")
    parser.add_argument("--again", action="store_true", help="run no lab, take the runs below --work")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the lab runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of simlab.json and simlab.png")
    return parser.parse_args()


def wanted(policies: str | None, links: str | None) -> list[tuple[str, str]]:
    """(link, policy) of each run."""
    if policies is None and links is None:
        return list(PAIRS)
    return [
        (link, policy)
        for link in (links or "lab-default").split(",")
        for policy in (policies or "adaptive").split(",")
    ]


def lab_settings(link: str, policy: str, arguments: argparse.Namespace) -> LabSettings:
    """Of one run. Raises SettingsError."""
    flags = {
        "policy": policy,
        "preset" if link in PRESETS["lab"] else "link": link,
        "duration_s": arguments.seconds,
        "source": arguments.source,
        "plan": arguments.plan,
        "outage": arguments.outage or None,
        "kill_worker_s": arguments.kill_worker,
        "out": arguments.work / f"{link}-{policy}".replace("/", "-").replace(":", "-"),
        "no_video": True,
        "quiet": True,
        "web_port": None,
    }
    return resolve("lab", LabSettings, flags, config=Path(os.devnull), environ={}).settings


def run_lab(settings: LabSettings) -> None:
    """Leaves results.jsonl, link.jsonl and summary.json in its folder. Raises RuntimeError with its output's end."""
    command = command_line("lab", {name: getattr(settings, name) for name in settings.model_fields_set})
    done = subprocess.run(command, capture_output=True, text=True, timeout=settings.duration_s + SPARE_S)
    if done.returncode != 0:
        raise RuntimeError(
            f"{settings.policy} failed with {done.returncode}: {done.stdout[-900:]}\n{done.stderr[-900:]}"
        )


def compared(link: str, settings: LabSettings, ingredients: Ingredients, video: Video, seeds: int) -> dict[str, Any]:
    """One row: the lab run in the folder of `settings`, simulations of it, and the verdict."""
    folder = settings.out
    if folder is None or not (folder / "summary.json").exists():
        raise RuntimeError(f"no lab run of {settings.policy} over {link} in {folder}")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    records = read_records(folder / "results.jsonl").records
    bundle = ingredients.bundle
    if bundle.profile is None:
        raise RuntimeError(f"{bundle.folder} has no times of this machine")
    plan = sim_plan(points_for(settings.policy, bundle), bundle.plan, bundle.profile)
    trace = load_link(settings.link, duration_s=settings.duration_s, outages=settings.outage)
    known = given(plan, trace, records, summary, video)
    runs = [simulate(known.plan, settings.policy, trace, known.scenario, seed=seed) for seed in range(seeds)]
    lab = lab_side(records, summary, read_jsonl(folder / "link.jsonl"))
    sides = [sim_side(run) for run in runs]
    sim = middle(sides)
    return {
        "link": link,
        "policy": settings.policy,
        "deadline_ms": settings.deadline_ms,
        "given": known.document(),
        "beyond_link_ms": quantiles(
            beyond_link_ms(
                records, {point.name: point for point in plan.points}, trace, start_s=known.scenario.trace_start_s
            )
        ),
        "lab": asdict(lab),
        "sim": asdict(sim),
        "seeds": [asdict(side) for side in sides],
        "verdict": verdict(lab, sim).document(),
        "incidents": summary["incidents"],
    }


def main() -> int:
    arguments = parsed()
    rows = []
    videos: dict[tuple[Path, Path], Video] = {}
    for link, policy in wanted(arguments.policies, arguments.links):
        settings = lab_settings(link, policy, arguments)
        ingredients = gather(settings, Display(quiet=True, stream=sys.stderr))
        if not arguments.again:
            run_lab(settings)
        key = Path(ingredients.source), ingredients.bundle.folder
        if key not in videos:
            videos[key] = video_of(key[0], ingredients.bundle)
        row = compared(link, settings, ingredients, videos[key], arguments.seeds)
        rows.append(row)
        print(" | ".join(table_rows({"rows": [row]})[0]), flush=True)
        write(rows, arguments)
    if arguments.results == RESULTS:
        subprocess.run([sys.executable, "tools/doc_tables.py"], cwd=ROOT, check=True)
    return 0


def write(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """What has been compared so far: a run that fails later takes nothing along."""
    report = {
        "seconds": arguments.seconds,
        "seeds": arguments.seeds,
        "machine": f"{os.cpu_count()} cores {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "simlab.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    draw(report, arguments.results / "simlab.png")


if __name__ == "__main__":
    sys.exit(main())
