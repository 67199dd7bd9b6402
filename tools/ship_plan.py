"""Makes the figures of the plan that ships with a built-in model: cuts, rates, fidelities, calibration tables.

It holds no weights and no times. Benchmarks measure on vtest.avi, which is therefore left out here.

python tools/ship_plan.py                # coco-ssdlite, on the built-in clip and the other videos of ../shared/media
python tools/ship_plan.py --media DIR    # on other videos beside the built-in clip
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from splitmesh.codec.registry import CODECS
from splitmesh.errors import MeshError
from splitmesh.inference.planning.make import make_plan
from splitmesh.models.catalogue import read_catalogue, shipped_table
from splitmesh.models.registry import default_clip, resolve_model
from splitmesh.plan.bundle.format import plan_json
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.bundle.schema import PlanFile
from splitmesh.plan.rate_curve import RateCurve
from splitmesh.provision.footage import read_footage
from splitmesh.provision.parts import plan_request
from splitmesh.provision.pictures import picture_kinds

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "services" / "splitmesh" / "models" / "data"
VIDEOS = (".mp4", ".avi", ".mkv")
MEASURED_ON = ("vtest.avi",)
TABLE_BYTES = 200_000
"""Of all tables together; cuts that serve a thin link least go without."""
PATIENCE = 4.0
FIT_RUNS = 3072
"""What ships is measured once and used by many."""
TABLE_FIDELITY = 0.95
"""Cuts are compared by what "compact" sends to keep it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="coco-ssdlite", help="a built-in model")
    parser.add_argument("--media", type=Path, default=ROOT.parent / "shared" / "media", help="folder of videos")
    options = parser.parse_args()
    try:
        name = read_catalogue().find_model(options.model).plan
        if not name:
            raise MeshError(f"the catalogue names no plan for {options.model}")
        plan, tables = make(options.model, options.media)
    except MeshError as exc:
        print(f"ship-plan: {exc}", file=sys.stderr)
        return 1
    for stale in DATA.glob(shipped_table(name, "*")):
        stale.unlink()
    files = {name: plan_json(plan) + b"\n"} | {shipped_table(name, cut): data for cut, data in tables.items()}
    for file_name, data in files.items():
        (DATA / file_name).write_bytes(data)
        print(f"{file_name}: {len(data):,} bytes")
    return 0


def make(name: str, media: Path) -> tuple[PlanFile, dict[str, bytes]]:
    """The plan file of a real plan, its list of files emptied, and tables by cut. Raises MeshError."""
    model = resolve_model(name)
    known = sorted(path for path in media.glob("*") if path.suffix in VIDEOS and path.name not in MEASURED_ON)
    videos = [default_clip(), *known]
    print(f"calibrating on {', '.join(path.name for path in videos)}", file=sys.stderr)
    footage = read_footage([str(path) for path in videos], [], model.manifest, told)
    with tempfile.TemporaryDirectory() as folder:
        request = plan_request(model, threads=1, providers=("cpu",), pictures=picture_kinds())
        request = replace(request, patience=PATIENCE, fit_runs=FIT_RUNS)
        return shippable(make_plan(request, footage, Path(folder) / "ship.plan", told))


def shippable(bundle: Bundle) -> tuple[PlanFile, dict[str, bytes]]:
    """The plan without files, and as many of its tables as fit; rows of codecs whose table stays behind go."""
    plan = bundle.plan

    def sends(cut: str) -> float:
        curve = RateCurve.of(plan.rows, cut=cut, codec="compact")
        rate = curve.keeping(TABLE_FIDELITY) if curve else None
        return rate.payload_bytes if rate else math.inf

    tables: dict[str, bytes] = {}
    for cut in sorted(plan.cuts, key=lambda cut: (sends(cut.name), cut.name)):
        table = bundle.table(cut.name)
        if table and sum(map(len, tables.values())) + len(table.to_bytes()) <= TABLE_BYTES:
            tables[cut.name] = table.to_bytes()
    cuts = tuple(cut if cut.name in tables else cut.model_copy(update={"table_id": ""}) for cut in plan.cuts)
    rows = tuple(row for row in plan.rows if not (row.codec and CODECS[row.codec].table) or row.cut in tables)
    return plan.model_copy(update={"files": {}, "cuts": cuts, "rows": rows}), tables


def told(stage: str, share: float) -> None:
    if share in (0.0, 1.0):
        print(f"{stage} {'begins' if share == 0.0 else 'is done'}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
