"""Owns `splitmesh bench fleet`: many edges on shared uplinks and one pool, simulated. Judges nothing itself."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from splitmesh.cli.bench.fleet_tables import show_fleet
from splitmesh.cli.bench.policy_options import milliseconds, names, plans_of, seconds
from splitmesh.cli.bench.policy_plan import bench_plan
from splitmesh.cli.plan.tables import table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.policy.baselines import make_policy
from splitmesh.provision.link.presets import load_link
from splitmesh.sim.fleet import Fleet, simulate_fleet
from splitmesh.sim.scenario import Scenario

VERSION = 1
_STAGE = "simulate"


@click.command("fleet", short_help="Many edges on shared uplinks and one pool of workers, on a virtual clock.")
@click.option(
    "--plan",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Whose operating points are chosen from, with its stored times. Default: the default model's.",
)
@click.option("--edges", type=click.IntRange(1, 100_000), default=100, show_default=True, metavar="N", help="In all.")
@click.option(
    "--per-uplink",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    metavar="G",
    help="Edges that share an uplink.",
)
@click.option(
    "--workers", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="W", help="In the pool."
)
@click.option(
    "--slots",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    metavar="S",
    help="Requests that a worker serves at a time.",
)
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    metavar="M",
    help="Simulate M edges over their share of uplinks and workers, for all N.",
)
@click.option("--policy", default="adaptive", show_default=True, metavar="NAME", help="Of every edge.")
@click.option(
    "--links", default="lte", show_default=True, metavar="NAME,…", help="Presets or trace files: uplinks take turns."
)
@click.option(
    "--duration", callback=seconds, default="60s", show_default=True, metavar="DURATION", help="Virtual time."
)
@click.option(
    "--fps", type=click.FloatRange(0.1, 240), default=1.0, show_default=True, metavar="N", help="Of each camera."
)
@click.option(
    "--deadline",
    callback=milliseconds,
    default="150ms",
    show_default=True,
    metavar="DURATION",
    help="From capture to answer.",
)
@click.option(
    "--edge-slowdown",
    type=click.FloatRange(0.01, 1000),
    default=5.0,
    show_default=True,
    metavar="K",
    help="Models run K times slower on the edges than the plan's profile says.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Another one is other luck."
)
@click.option(
    "--json", "json_out", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT", help="Write figures there."
)
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def fleet(
    folder: Path | None,
    edges: int,
    per_uplink: int,
    workers: int,
    slots: int,
    sample: int | None,
    policy: str,
    links: str,
    duration: float,
    fps: float,
    deadline: float,
    edge_slowdown: float,
    seed: int,
    json_out: Path | None,
    quiet: bool,
) -> None:
    """Simulate a fleet: every edge runs the production policy; uplinks and workers are what they compete for.

    Each edge has its own camera, scene, device and policy. Uplinks begin at places spread over their trace. The
    broker hands requests to workers by chance, as the real one does; a worker serves by earliest deadline, refuses
    what can't make it and holds a limited number of streams.

    A simulated frame takes some half a millisecond of one core, so a hundred edges at one frame a second for ten
    minutes take about half a minute. With --sample a part of the edges, with all that share their uplinks, runs over
    the same part of the workers, 5 at least, and stands for the whole; docs/architecture.md says how well.

    \b
    Examples:
      splitmesh bench fleet --edges 100 --per-uplink 10 --workers 4
      splitmesh bench fleet --edges 200 --workers 10 --slots 2 --fps 5 --policy cloud --links lte,wifi
      splitmesh bench fleet --edges 10000 --per-uplink 10 --workers 200 --sample 250 --duration 10m --json fleet.json
    """
    scenario = Scenario(
        duration_s=duration,
        fps=fps,
        deadline_ms=deadline,
        edge_slowdown=edge_slowdown,
        workers=workers,
        slots=slots,
    )
    wanted = Fleet(edges, per_uplink)
    if sample is not None:
        wanted.sample(sample, scenario)  # before the work: it may not fit
    named = names(links)
    traces = [load_link(name, duration_s=duration) for name in named]
    with progress_bar(quiet=quiet) as progress:
        bundle = bench_plan(folder, progress)
        plan = plans_of(bundle)(policy)
        make_policy(policy, plan.points)
        began_s = time.process_time()
        result = simulate_fleet(
            plan,
            policy,
            traces,
            scenario,
            wanted,
            seed=seed,
            sample=sample,
            progress=lambda share: progress(_STAGE, share),
        )
        took_s = time.process_time() - began_s
    document = {
        "version": VERSION,
        "plan": str(bundle.folder),
        "device": bundle.device,
        "policy": policy,
        "links": list(named),
        "seed": seed,
        "scenario": asdict(scenario),
        "fleet": {"edges": edges, "per_uplink": per_uplink, "sample": sample},
        "us_per_frame": round(1e6 * took_s / result.frames, 1),
        **result.document(),
    }
    if json_out is not None:
        write_atomically(json_out, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if not quiet:
        show_fleet(table_console(), document)
        if json_out is not None:
            click.echo(f"written: {json_out}")
