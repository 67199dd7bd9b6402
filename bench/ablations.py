"""What each part of the adaptive policy is worth, simulated → bench/results/ablations.json. `make bench-ablations`.

The policy as it is, and with one part taken out each time (`bench.ablated`), over some traces of each folder that is
given and over the presets, at two speeds of the edge; and over a few of these links with something that befalls them.
What is lost is utility, run by run against the whole policy with the same luck; intervals are over links.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from bench.ablated import PARTS, without
from bench.policy import thinned

from splitmesh.cli.bench.policy_links import Links, links_named, links_of_folders
from splitmesh.cli.bench.policy_options import names, plans_of
from splitmesh.cli.bench.policy_plan import bench_plan
from splitmesh.cli.bench.policy_pool import spread_over, usable_cores
from splitmesh.cli.progress import progress_bar
from splitmesh.provision.link.trace import LinkTrace
from splitmesh.settings.units import Outage
from splitmesh.sim.errand import start_s
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.run import simulate
from splitmesh.sim.scenario import Burst, Loss, Scenario
from splitmesh.sim.shift import laid_out
from splitmesh.sim.spread import Spread
from splitmesh.sim.standing import interval95

SLOWDOWNS: Final = (4.0, 10.0)
PER_SET: Final = 3
"""So many traces of each set, evenly taken."""
PRESETS: Final = ("lte", "3g", "adsl", "lab-default")
CALM_S: Final = 30.0
PLAN_ERRS: Final = "h264 errs 2.5×"
HITS: Final = (
    "outage",
    "short stalls",
    "link at 3 %",
    "edge 4× slower",
    "worker 8× slower",
    "worker lost",
    PLAN_ERRS,
)
"""Each twice in a run, outages and losses for four seconds, the others for two; but stalls are many, and the content
that pictures by h264 keep less of than the plan says is there all the time."""
HIT_PRESETS: Final = ("lan", "adsl")
"""What is hit, beside one trace of each set."""
HIT_SLOWDOWN: Final = 6.0
HIT_S: Final = 20.0
_HIT_AT_S = (5.0, 13.0)
_STALLS = tuple(Outage(3.0 + 1.5 * number, 0.15) for number in range(11))
_EDGE_FACTOR, _WORKER_FACTOR, _LINK_SHARE = 4.0, 8.0, 0.03
_ERROR_RATIOS = {"h264": 2.5}
_THOUSANDTHS = 1e3


class Run(NamedTuple):
    """`hit`: one of HITS; "": nothing. `without`: a part of `bench.ablated.PARTS`; "": the whole policy."""

    link: str
    edge_slowdown: float
    hit: str
    without: str
    seed: int = 0


class Column(NamedTuple):
    """Runs whose losses are told together: every link of `links` at each of `slowdowns`."""

    name: str
    links: tuple[str, ...]
    slowdowns: tuple[float, ...]
    hit: str = ""


@dataclass(frozen=True, slots=True)
class Utility:
    """Called with a run: its utility, [0, 1]. Can be pickled."""

    plan: SimPlan
    traces: dict[str, LinkTrace]
    seeds: int = 1

    def __call__(self, run: Run) -> float:
        trace = self.traces[run.link]
        scenario = Scenario(
            duration_s=HIT_S if run.hit else CALM_S,
            edge_slowdown=run.edge_slowdown,
            trace_start_s=start_s(trace, run.seed, self.seeds),
        )
        trace, scenario = struck(run.hit, trace, scenario)
        with without(run.without, scenario):
            utilities = simulate(self.plan, "adaptive", trace, scenario, seed=run.seed).utilities
        return sum(utilities) / len(utilities)


def struck(hit: str, trace: LinkTrace, scenario: Scenario) -> tuple[LinkTrace, Scenario]:
    """The same run with `hit` in it, twice. Raises ValueError for one that is not of HITS, nor ""."""
    match hit:
        case "":
            return trace, scenario
        case "outage":
            outages = tuple(Outage(at_s, 4.0, cut=cut) for at_s, cut in zip(_HIT_AT_S, (False, True), strict=True))
            return trace, replace(scenario, outages=outages)
        case "short stalls":
            return trace, replace(scenario, outages=_STALLS)
        case "link at 3 %":
            for at_s in _HIT_AT_S:
                trace = laid_out(trace, scenario, collapse=Outage(at_s, 2.0), share=_LINK_SHARE)
                scenario = replace(scenario, trace_start_s=0.0)
            return trace, scenario
        case "edge 4× slower":
            return trace, replace(scenario, edge_bursts=tuple(Burst(at_s, 2.0, _EDGE_FACTOR) for at_s in _HIT_AT_S))
        case "worker 8× slower":
            bursts = tuple(Burst(at_s, 2.0, _WORKER_FACTOR) for at_s in _HIT_AT_S)
            return trace, replace(scenario, worker_bursts=bursts)
        case "worker lost":
            return trace, replace(scenario, losses=tuple(Loss(0, at_s, 4.0) for at_s in _HIT_AT_S))
        case _ if hit == PLAN_ERRS:
            return trace, replace(scenario, error_ratios=_ERROR_RATIOS)
    raise ValueError(f"nothing that befalls a run is called {hit!r}")


def columns(found: Links) -> list[Column]:
    """found: all links in the folders that were given; where there are none, presets stand alone."""
    few = (*HIT_PRESETS, *some(found, 1)) if found.traces else PRESETS
    return [
        *(Column(f"traces, {each:g}×", some(found, PER_SET), (each,)) for each in SLOWDOWNS if found.traces),
        Column("presets", PRESETS, SLOWDOWNS),
        *(Column(hit, few, (HIT_SLOWDOWN,), hit) for hit in HITS),
    ]


def some(found: Links, per_set: int) -> tuple[str, ...]:
    """Names of `per_set` links of each set, evenly taken."""
    sets = {group: [name for name, of in found.sets.items() if of == group] for group in found.sets.values()}
    return tuple(
        members[index * len(members) // count]
        for members in sets.values()
        for count in [min(per_set, len(members))]
        for index in range(count)
    )


def ablate(
    utility: Callable[[Run], float],
    wanted: Sequence[Column],
    parts: Sequence[str],
    spread: Spread,
    progress: Callable[[float], None],
    *,
    seeds: int = 1,
) -> dict[str, Any]:
    """Everything that `wanted` and `parts` ask for. Of each column the whole policy's utility, and by part what is
    lost without it (mean over links) and the 95 % interval of that; null for a single link."""
    runs = [
        Run(link, slowdown, column.hit, part, seed)
        for column in wanted
        for link in column.links
        for slowdown in column.slowdowns
        for part in ("", *parts)
        for seed in range(seeds)
    ]
    runs.sort(key=lambda run: run.edge_slowdown)  # the longest first
    done = iter(range(1, len(runs) + 1))
    found = dict(zip(runs, spread(utility, runs, lambda _: progress(next(done) / len(runs))), strict=True))
    return {
        "seeds": seeds,
        "columns": [
            {
                **column._asdict(),
                "utility": float(np.mean([np.mean(each) for each in _by_link(found, column, "", seeds)])),
            }
            for column in wanted
        ],
        "parts": {
            part: {
                "instead": PARTS[part].instead,
                "lost": {column.name: _lost(found, column, part, seeds) for column in wanted},
            }
            for part in parts
        },
    }


def _by_link(found: Mapping[Run, float], column: Column, part: str, seeds: int) -> list[list[float]]:
    """Utility of each run, for each link."""
    return [
        [found[Run(link, each, column.hit, part, seed)] for each in column.slowdowns for seed in range(seeds)]
        for link in column.links
    ]


def _lost(found: Mapping[Run, float], column: Column, part: str, seeds: int) -> dict[str, Any]:
    whole, left = (np.mean(_by_link(found, column, each, seeds), axis=1) for each in ("", part))
    lost = (whole - left).tolist()
    return {"mean": float(np.mean(lost)), "ci95": interval95(lost)}


# -- what is shown ------------------------------------------------------------------------------------------------


def table(report: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Head, and a row per part: thousandths of utility that are lost without it, ± half the 95 % interval; bold where
    that excludes zero. The first row is the whole policy's utility."""
    heads = [f"{column['name']} ({len(column['links'])})" for column in report["columns"]]
    rows: list[Sequence[str]] = [("*whole policy*", "", *(f"*{each['utility']:.3f}*" for each in report["columns"]))]
    for part, row in report["parts"].items():
        rows.append((part, row["instead"], *(_cell(row["lost"][each["name"]]) for each in report["columns"])))
    return ("taken out", "instead", *heads), rows


def idle(report: Mapping[str, Any]) -> list[str]:
    """Parts that are clearly worth something in no column."""
    return [
        part
        for part, row in report["parts"].items()
        if not any(_clearly(each) and each["mean"] > 0 for each in row["lost"].values())
    ]


def _clearly(lost: Mapping[str, Any]) -> bool:
    """It is not nothing: the interval excludes zero."""
    return lost["ci95"] is not None and (lost["ci95"][0] > 0 or lost["ci95"][1] < 0)


def _cell(lost: Mapping[str, Any]) -> str:
    mean, interval = _THOUSANDTHS * lost["mean"], lost["ci95"]
    if interval is None:
        return f"{mean:.1f}"
    if mean == interval[0] == interval[1] == 0:
        return "0"
    text = f"{mean:.1f} ± {_THOUSANDTHS * (interval[1] - interval[0]) / 2:.1f}"
    return f"**{text}**" if _clearly(lost) else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, action="append", default=[], metavar="DIR", help="may be given again")
    parser.add_argument("--parts", metavar="NAME,…", help="default: all")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default: 1)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes (default: one per core)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    parts = names(arguments.parts) if arguments.parts else tuple(PARTS)
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    found = links_of_folders(arguments.traces)
    wanted = columns(found)
    traces = links_named((*PRESETS, *HIT_PRESETS), duration_s=CALM_S).with_more(found).traces
    with progress_bar() as progress:
        bundle = bench_plan(None, progress)
        utility, told = Utility(plans_of(bundle)("adaptive"), traces, arguments.seeds), partial(progress, "ablations")
        report = ablate(utility, wanted, parts, spread_over(arguments.jobs), told, seeds=arguments.seeds)
    text = json.dumps(thinned({"device": bundle.device, **report}), separators=(",", ":"), allow_nan=False)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "ablations.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
