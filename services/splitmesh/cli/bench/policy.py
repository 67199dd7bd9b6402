"""Owns `splitmesh bench policy`: policies over links, simulated. Judges nothing itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import click

from splitmesh.cli.bench.policy_links import links_named, links_of_folders
from splitmesh.cli.bench.policy_plan import bench_plan
from splitmesh.cli.bench.policy_tables import show_policies
from splitmesh.cli.plan.tables import table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.errors import SettingsError
from splitmesh.plan.bundle.choice import points_for
from splitmesh.plan.bundle.draft import write_atomically
from splitmesh.plan.bundle.read import Bundle
from splitmesh.policy.baselines import make_policy
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.settings.units import parse_seconds
from splitmesh.sim.compare import STATIC_BEST, PolicyComparison, Wanted, compare
from splitmesh.sim.oracle import ORACLES
from splitmesh.sim.plan import SimPlan, sim_plan
from splitmesh.sim.scenario import Scenario

LINKS = "lab-default,lte,wifi,3g"
POLICIES = f"adaptive,local,cloud,{STATIC_BEST}"
_STAGE = "simulate"


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        return parse_seconds(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _milliseconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        return round(parse_seconds(value, bare="ms") * 1e3, 6)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


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
    callback=_seconds,
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
    callback=_milliseconds,
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
    help="Models run K times slower on the edge than the plan's profile says.",
)
@click.option(
    "--workers", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N", help="In the pool."
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
    edge_slowdown: float,
    workers: int,
    json_out: Path | None,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Compare policies over links, in simulation: the production policy code on a virtual clock.

    Utility is the mean over captured frames of hit × fidelity. Runs of one seed share their luck: what is in the
    picture, service times, and the place in the trace where they begin. Nothing is inferred and nothing is sent, so
    that a minute of video takes a second or so.

    \b
    Policies: adaptive, local, cloud, track, static:<operating point>, only:<beginning of points' names>, neurosurgeon
    and others after published ones; static-best: in hindsight the best operating point for that very trace;
    oracle-greedy and oracle-horizon, which know the link and all luck beforehand (some ten seconds a minute).

    \b
    Examples:
      splitmesh bench policy
      splitmesh bench policy --plan site.plan --traces traces/ --seeds 5 --json policy.json --plot policy.png
      splitmesh bench policy --links lte,satellite --policies adaptive,neurosurgeon,static-best --edge-slowdown 10
    """
    if plot is not None:
        from splitmesh.cli.bench.plot import check_name  # before the work: matplotlib may be missing

        check_name(plot)
    scenario = Scenario(
        duration_s=duration, fps=fps, deadline_ms=deadline, edge_slowdown=edge_slowdown, workers=workers
    )
    traces = _traces(folders, links, duration)
    with progress_bar(quiet=quiet) as progress:
        bundle = bench_plan(folder, progress)
        wanted = Wanted(_plans(bundle), traces, _names(policies), seeds, scenario)
        _check(wanted)
        comparison = compare(wanted, clock=time.perf_counter, progress=lambda share: progress(_STAGE, share))
    if json_out is not None:
        document = {"plan": str(bundle.folder), "device": bundle.device, **comparison.document()}
        write_atomically(json_out, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if plot is not None:
        _draw(comparison, plot)
    if not quiet:
        show_policies(table_console(), comparison)
        for path in (json_out, plot):
            if path is not None:
                click.echo(f"written: {path}")


def _draw(comparison: PolicyComparison, out: Path) -> None:
    from splitmesh.cli.bench.policy_plot import write_policy_plot

    write_policy_plot(comparison, out)


def _plans(bundle: Bundle) -> Callable[[str], SimPlan]:
    @cache
    def plan_of(name: str) -> SimPlan:
        if bundle.profile is None:
            raise SettingsError(f"plan {bundle.folder} has no times", key="plan")
        return sim_plan(points_for(name, bundle), bundle.plan, bundle.profile)

    return plan_of


def _check(wanted: Wanted) -> None:
    """A wrong name shall fail before the work. Raises SettingsError."""
    for name in wanted.policies:
        if name != STATIC_BEST and name not in ORACLES:
            make_policy(name, wanted.plan_of(name).points)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _traces(folders: tuple[Path, ...], links: str | None, duration_s: float) -> dict[str, LinkTrace]:
    named = links if links is not None or folders else LINKS
    found = links_of_folders(folders)
    return {**found, **links_named(_names(named or ""), duration_s=duration_s)}
