"""Owns `splitmesh bench policy`: policies over links, simulated. Judges nothing itself."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from splitmesh.cli.bench.policy_links import Links, links_named, links_of_folders
from splitmesh.cli.bench.policy_options import check, disturbed, factors, milliseconds, names, plans_of, seconds
from splitmesh.cli.bench.policy_plan import bench_plan
from splitmesh.cli.bench.policy_pool import spread_over, usable_cores
from splitmesh.cli.bench.policy_tables import show_policies, show_recovery
from splitmesh.cli.plan.tables import table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.sim.compare import STATIC_BEST, Wanted, compare
from splitmesh.sim.recovery import recover
from splitmesh.sim.recovery_document import recovery_document
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.shift import Shift

LINKS = "lab-default,lte,wifi,3g"
POLICIES = f"adaptive,local,cloud,{STATIC_BEST}"
SHIFT = Shift()
_STAGE, _RECOVERY = "simulate", "simulate shifts"


@click.command("policy", short_help="Policies over links, on a virtual clock: utility, latency, bytes.")
@click.option(
    "--plan",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Whose operating points are chosen from, with its stored times. Default: the default model's.",
)
@click.option(
    "--traces",
    "folders",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    multiple=True,
    help="Every link trace below that folder; may be given again.",
)
@click.option(
    "--links", metavar="NAME,…", help=f"Presets or trace files. Default, where no --traces are given: {LINKS}."
)
@click.option(
    "--policies", default=POLICIES, show_default=True, metavar="NAME,…", help="The first is held against all."
)
@click.option(
    "--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, metavar="N", help="Runs of each."
)
@click.option(
    "--duration",
    callback=seconds,
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="Virtual time of a run.",
)
@click.option(
    "--fps", type=click.FloatRange(0.1, 240), default=25.0, show_default=True, metavar="N", help="Of the camera."
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
    "slowdowns",
    callback=factors,
    default="5",
    show_default=True,
    metavar="K,…",
    help="Models run K times slower on the edge than the plan's profile says. Several: each over every link.",
)
@click.option(
    "--workers", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N", help="In the pool."
)
@click.option(
    "--recovery",
    is_flag=True,
    help="Also: what two bad seconds cost each policy (edge, link, worker), and how soon it is back.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="Processes. Figures do not depend on it. Default: as many as there are cores.",
)
@click.option(
    "--json", "json_out", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT", help="Write figures there."
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT.png", help="Draw utilities.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
def policy(
    folder: Path | None,
    folders: tuple[Path, ...],
    links: str | None,
    policies: str,
    seeds: int,
    duration: float,
    fps: float,
    deadline: float,
    slowdowns: tuple[float, ...],
    workers: int,
    recovery: bool,
    jobs: int | None,
    json_out: Path | None,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Compare policies over links, in simulation: the production policy code on a virtual clock.

    Utility is the mean over captured frames of hit × fidelity. Runs of one seed share their luck: what is in the
    picture, service times, and the place in the trace where they begin. Nothing is inferred and nothing is sent, so
    that a minute of video takes a second or so. With several links, intervals are over links, not over runs: runs
    over one link share its dips.

    With --recovery every policy but static-best is run again over each link with two bad seconds in it: the edge four
    times slower, the uplink at 3 %, workers eight times slower. That needs the horizon oracle; name steady links and
    few policies. --plot draws it as OUT-recovery.png.

    \b
    Policies: adaptive, local, cloud, track, static:<operating point>, only:<beginning of points' names>, neurosurgeon
    and others after published ones; static-best: in hindsight the best operating point for that very trace;
    oracle-greedy and oracle-horizon, which know the link and all luck beforehand (some ten seconds a minute).

    \b
    Examples:
      splitmesh bench policy
      splitmesh bench policy --plan site.plan --traces traces/ --seeds 5 --json policy.json --plot policy.png
      splitmesh bench policy --links lte,satellite --policies adaptive,neurosurgeon,static-best --edge-slowdown 4,10
      splitmesh bench policy --links lan,adsl --policies adaptive,ans --recovery --plot policy.png
    """
    if plot is not None:
        from splitmesh.cli.bench.plot import check_name  # before the work: matplotlib may be missing

        check_name(plot)
    scenario = Scenario(
        duration_s=duration, fps=fps, deadline_ms=deadline, edge_slowdown=slowdowns[0], workers=workers
    )
    links_found = _links(folders, links, duration)
    spread = spread_over(jobs or usable_cores())
    with progress_bar(quiet=quiet) as progress:
        bundle = bench_plan(folder, progress)
        wanted = Wanted(
            plans_of(bundle), links_found.traces, names(policies), seeds, scenario, slowdowns, links_found.sets
        )
        check(wanted)
        shaken = disturbed(wanted, SHIFT) if recovery else None
        comparison = compare(
            wanted, clock=time.process_time, progress=lambda share: progress(_STAGE, share), spread=spread
        )
        recovered = None
        if shaken is not None:
            recovered = recover(shaken, shift=SHIFT, progress=lambda share: progress(_RECOVERY, share), spread=spread)
    document = {"plan": str(bundle.folder), "device": bundle.device, **comparison.document()}
    if recovered is not None:
        document["recovery"] = recovery_document(recovered)
    written = _write(document, json_out, plot)
    if not quiet:
        console = table_console()
        show_policies(console, document)
        if recovered is not None:
            show_recovery(console, document["recovery"])
        for path in written:
            click.echo(f"written: {path}")


def _write(document: dict[str, Any], json_out: Path | None, plot: Path | None) -> list[Path]:
    written = []
    if json_out is not None:
        write_atomically(json_out, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
        written.append(json_out)
    if plot is not None:
        from splitmesh.cli.bench.policy_plot import write_policy_plot
        from splitmesh.cli.bench.policy_recovery_plot import write_recovery_plot

        write_policy_plot(document, plot)
        written.append(plot)
        if "recovery" in document:
            beside = plot.with_stem(f"{plot.stem}-recovery")
            write_recovery_plot(document["recovery"], beside)
            written.append(beside)
    return written


def _links(folders: tuple[Path, ...], links: str | None, duration_s: float) -> Links:
    named = links if links is not None or folders else LINKS
    return links_of_folders(folders).with_more(links_named(names(named or ""), duration_s=duration_s))
