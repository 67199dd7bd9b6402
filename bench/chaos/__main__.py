"""Faults, struck again and again into a mesh of real processes → bench/results/chaos.json and .png.

Usage: python -m bench.chaos [--only kill,stop] [--repetitions 20] [--seed 0] [--more] [--source VIDEO]

One mesh per kind of fault: struck at a drawn moment, recovery awaited, every frame's line looked for, struck again;
at the end the edge is drained and recounted. All of them take about half an hour. --more adds the strikes to those
that the report has already. Exit status 1 if a frame is unaccounted for, a process fails or the cloud does not come
back.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path

from bench.chaos.faults import FAULTS
from bench.chaos.repeat import run_campaign
from bench.chaos.report import Report, draw, entry, merged, passed, setting

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(FAULTS), help="faults by name (default: all)")
    parser.add_argument("--repetitions", type=int, default=20, help="strikes of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws the moments (default %(default)s)")
    parser.add_argument("--more", action="store_true", help="add to what the report has of these faults")
    parser.add_argument("--policy", default="", help="of the edge (default: adaptive among splits without state)")
    parser.add_argument("--source", type=Path, help="video to play in a loop (default: a made-up clip)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "out" / "chaos", help="logs and lines (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the report")
    given = parser.parse_args()
    unknown = set(given.only.split(",")) - FAULTS.keys()
    if unknown:
        parser.error(f"no fault {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return given


def main() -> int:
    given = arguments()
    logging.getLogger("splitmesh").setLevel(logging.CRITICAL)  # the spy's own connection breaks too, as it should
    entries: dict[str, Report] = {}
    for name in given.only.split(","):
        work = given.work / name
        shutil.rmtree(work, ignore_errors=True)
        campaign = run_campaign(
            work, [name], given.repetitions, seed=given.seed, source=given.source, policy=given.policy
        )
        found = entries[name] = entry(campaign, name, given.seed)
        print(f"{name}: {found['skipped'] or found['counts'][0]}", *(f"FAULT {each}" for each in found["faults"]))
        write(given.out, name, found, more=given.more, policy=given.policy)
    return 0 if passed(entries.values()) else 1


def write(out: Path, name: str, found: Report, *, more: bool, policy: str) -> None:
    """Put `found` into the report, which keeps what it has of other faults."""
    path = out / "chaos.json"
    out.mkdir(parents=True, exist_ok=True)
    faults: dict[str, Report] = json.loads(path.read_text())["faults"] if path.exists() else {}
    faults[name] = merged(faults[name], found) if more and name in faults else found
    report = {**setting(policy), "faults": {each: faults[each] for each in FAULTS if each in faults}}
    path.write_text(json.dumps(report) + "\n")
    draw(report, out / "chaos.png")


if __name__ == "__main__":
    sys.exit(main())
