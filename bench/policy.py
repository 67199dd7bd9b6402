"""Policies over links, simulated → bench/results/{policy,recovery}.{json,png}. `make bench-policy`.

Two parts. *Comparison*: every policy over every link, at two speeds of the edge, against the best static choice in
hindsight and the horizon oracle. *Recovery*: policies with two bad seconds in each run, over steady links and some of
the others. Links are the traces in the folders that are given, each folder of files being a set, and without any the
presets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from splitmesh.cli.bench.policy_links import Links, links_named, links_of_folders
from splitmesh.cli.bench.policy_options import check, disturbed, names, plans_of
from splitmesh.cli.bench.policy_plan import bench_plan
from splitmesh.cli.bench.policy_plot import write_policy_plot
from splitmesh.cli.bench.policy_pool import spread_over, usable_cores
from splitmesh.cli.bench.policy_recovery_plot import write_recovery_plot
from splitmesh.cli.progress import progress_bar
from splitmesh.sim.compare import BEST_ORACLE, STATIC_BEST, Wanted, compare
from splitmesh.sim.plan import SimPlan
from splitmesh.sim.recovery import recover
from splitmesh.sim.recovery_document import recovery_document
from splitmesh.sim.scenario import Scenario
from splitmesh.sim.shift import Shift
from splitmesh.sim.spread import Spread

PARTS = ("policy", "recovery")
PRESETS = "lan,wifi,lte,3g,adsl,lab-default"
STEADY = "lan,adsl"
PER_SET = 2
"""So many traces of each set, evenly taken, have shifts put into them."""
RIVALS = "neurosurgeon,dads,dyno,ans,ans-discounted,awstream"
POLICIES = f"adaptive,local,cloud,{STATIC_BEST},{RIVALS},track,{BEST_ORACLE}"
SHAKEN = f"adaptive,local,{RIVALS}"
SLOWDOWNS = "4,10"
DURATION_S = 60.0


def steady_and_some(found: Links) -> Links:
    """Links of constant rate, and `PER_SET` of each set."""
    chosen = Links({}, {})
    for group in dict.fromkeys(found.sets.values()):
        members = [name for name, of in found.sets.items() if of == group]
        for name in members[:: max(1, len(members) // PER_SET)][:PER_SET]:
            chosen.traces[name], chosen.sets[name] = found.traces[name], group
    return links_named(names(STEADY), duration_s=DURATION_S).with_more(chosen)


def thinned(part: Any) -> Any:
    """`part` of a document to five places, without what is counted per operating point: that makes most of it."""
    match part:
        case dict():
            return {key: thinned(each) for key, each in part.items() if key not in ("decisions", "outcomes")}
        case list() | tuple():
            return [thinned(each) for each in part]
        case float():
            return round(part, 5)
    return part


def policy_report(wanted: Wanted, spread: Spread, progress: Callable[[float], None]) -> dict[str, Any]:
    return compare(wanted, clock=time.process_time, progress=progress, spread=spread).document()


def recovery_report(wanted: Wanted, spread: Spread, progress: Callable[[float], None]) -> dict[str, Any]:
    shift = Shift()
    found = recover(disturbed(wanted, shift), shift=shift, progress=progress, spread=spread)
    return recovery_document(found)


def wanted_of(part: str, arguments: argparse.Namespace, plan_of: Callable[[str], SimPlan]) -> Wanted:
    found = links_of_folders(arguments.traces)
    if part == "recovery":
        links = steady_and_some(found)
    else:
        links = found if arguments.traces else links_named(names(PRESETS), duration_s=DURATION_S)
    slowdowns = tuple(float(each) for each in names(arguments.edge_slowdown))
    policies = names(arguments.policies or (SHAKEN if part == "recovery" else POLICIES))
    scenario = Scenario(duration_s=DURATION_S)
    wanted = Wanted(plan_of, links.traces, policies, arguments.seeds, scenario, slowdowns, links.sets)
    check(wanted)
    return wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, action="append", default=[], metavar="DIR", help="may be given again")
    parser.add_argument("--edge-slowdown", default=SLOWDOWNS, metavar="K,…", help=f"default: {SLOWDOWNS}")
    parser.add_argument("--policies", metavar="NAME,…", help=f"default: {POLICIES}; of the recovery: {SHAKEN}")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each (default: 2)")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes (default: one per core)")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with progress_bar() as progress:
        bundle = bench_plan(None, progress)
        for part in (arguments.only,) if arguments.only else PARTS:
            report = recovery_report if part == "recovery" else policy_report
            wanted = wanted_of(part, arguments, plans_of(bundle))
            document = report(wanted, spread_over(arguments.jobs), partial(progress, part))
            text = json.dumps(thinned({"device": bundle.device, **document}), separators=(",", ":"), allow_nan=False)
            (arguments.out / f"{part}.json").write_text(text + "\n", encoding="utf-8")
            draw = write_recovery_plot if part == "recovery" else write_policy_plot
            draw(document, arguments.out / f"{part}.png")


if __name__ == "__main__":
    main()
