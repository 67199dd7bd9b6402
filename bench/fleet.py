"""What a simulated fleet costs, and how well a sample stands for the whole → bench/results/fleet.json.

Cost: processor time per simulated frame at one frame a second, of one edge and of a hundred, by policy. Nothing is
profiled apart: policy, simulator and scheduling code together.

Agreement: 200 edges in groups of five over 20 workers, each figure as a mean over seeds beside that of samples of a
twentieth, a tenth, a quarter and a half of them. `sim.fleet.Fleet.sample` refuses the first two, which keep one and
two workers: here they are made by hand, to show why.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splitmesh.cli.bench.policy_plan import bench_plan
from splitmesh.plan.bundle.choice import points_for
from splitmesh.plan.bundle.read import Bundle
from splitmesh.provision.link.presets import load_link
from splitmesh.sim.fleet import Fleet, simulate_fleet
from splitmesh.sim.fleet_result import FleetResult
from splitmesh.sim.plan import SimPlan, sim_plan
from splitmesh.sim.scenario import Scenario

POLICIES = ("local", "cloud", "adaptive")
SIZES = ((1, 1), (100, 5))
"""Edges, workers."""
WHOLE, WORKERS, PER_UPLINK = Fleet(200, 5), 20, 5
SAMPLES = (10, 20, 50, 100)
FIGURES = (
    "utility",
    "utility_worst",
    "utilisation",
    "pool_wait_ms",
    "pool_wait_p95_ms",
    "refused",
    "bytes_per_frame",
)
SEEDS = 2
"""Of the whole; samples have more, so that about as many edges are seen, but no more than `MOST_SEEDS`."""
MOST_SEEDS = 8


@dataclass(frozen=True)
class Case:
    """How much the edges ask of pool and links."""

    name: str
    policy: str
    link: str
    scenario: Scenario


CASES = (
    Case("idle", "adaptive", "lte", Scenario(duration_s=30, fps=1, workers=WORKERS)),
    Case("busy", "cloud", "wifi", Scenario(duration_s=8, fps=4, workers=WORKERS)),
    Case("too much", "cloud", "wifi", Scenario(duration_s=5, fps=7, workers=WORKERS)),
    Case("streams", "adaptive", "wifi", Scenario(duration_s=8, fps=5, workers=WORKERS, edge_slowdown=20)),
)


def plan_of(bundle: Bundle, policy: str) -> SimPlan:
    if bundle.profile is None:
        raise SystemExit("the default plan has no times")
    return sim_plan(points_for(policy, bundle), bundle.plan, bundle.profile)


def cost(bundle: Bundle, policy: str, edges: int, workers: int, frames: int) -> dict[str, Any]:
    """frames: to simulate in all, about."""
    scenario = Scenario(duration_s=max(20.0, frames / edges), fps=1, workers=workers)
    plan, link = plan_of(bundle, policy), load_link("lte", duration_s=60)
    began_s = time.process_time()
    result = simulate_fleet(plan, policy, [link], scenario, Fleet(edges, 10), seed=0)
    us = 1e6 * (time.process_time() - began_s) / result.frames
    return {
        "policy": policy,
        "edges": edges,
        "workers": workers,
        "frames": result.frames,
        "us_per_frame": round(us, 1),
    }


def agreement(bundle: Bundle, case: Case) -> list[dict[str, Any]]:
    plan, link = plan_of(bundle, case.policy), load_link(case.link, duration_s=60)

    def means(edges: int) -> dict[str, float]:
        scenario = replace(case.scenario, workers=WORKERS * edges // WHOLE.edges)
        runs: list[FleetResult] = [
            simulate_fleet(plan, case.policy, [link], scenario, Fleet(edges, PER_UPLINK), seed=seed)
            for seed in range(min(MOST_SEEDS, SEEDS * WHOLE.edges // edges))
        ]
        figures = [asdict(run.figures) for run in runs]
        return {name: float(np.mean([each[name] for each in figures])) for name in FIGURES}

    whole = means(WHOLE.edges)
    rows = [{"case": case.name, "edges": WHOLE.edges, "workers": WORKERS, **whole}]
    for edges in SAMPLES:
        rows.append({"case": case.name, "edges": edges, "workers": WORKERS * edges // WHOLE.edges, **means(edges)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=6000, help="simulated for each cost of a fleet (default: 6000)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    bundle = bench_plan(None, lambda _stage, _share: None)
    costs, samples = [], []
    for policy in POLICIES:
        for edges, workers in SIZES:
            frames = arguments.frames if edges > 1 else arguments.frames // 5
            costs.append(row := cost(bundle, policy, edges, workers, frames))
            print(f"{policy:8} {edges:3} edges, {workers} workers: {row['us_per_frame']:.0f} µs a frame", flush=True)
    for case in CASES:
        samples += (rows := agreement(bundle, case))
        for row in rows:
            told = ", ".join(f"{name} {row[name]:.4g}" for name in FIGURES)
            print(f"{case.name:8} {row['edges']:3} edges, {row['workers']:2} workers: {told}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": bundle.device,
        "cost": costs,
        "samples": samples,
    }
    (arguments.out / "fleet.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
