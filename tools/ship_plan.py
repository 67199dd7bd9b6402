"""Makes the figures of the plan that ships with a built-in model: cuts, rates and fidelities, no weights, no times.

python tools/ship_plan.py                # coco-ssdlite, on the built-in clip and the videos of ../shared/media
python tools/ship_plan.py --media DIR    # on other videos beside the built-in clip
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from splitmesh.errors import MeshError
from splitmesh.inference.planning.make import make_plan
from splitmesh.models.catalogue import read_catalogue
from splitmesh.models.registry import default_clip, resolve_model
from splitmesh.plan.bundle.format import plan_json
from splitmesh.plan.bundle.schema import PlanFile
from splitmesh.provision.footage import read_footage
from splitmesh.provision.parts import plan_request

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "services" / "splitmesh" / "models" / "data"
VIDEOS = (".mp4", ".avi", ".mkv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="coco-ssdlite", help="a built-in model")
    parser.add_argument("--media", type=Path, default=ROOT.parent / "shared" / "media", help="folder of videos")
    options = parser.parse_args()
    try:
        name = read_catalogue().find_model(options.model).plan
        if not name:
            raise MeshError(f"the catalogue names no plan for {options.model}")
        data = plan_json(make(options.model, options.media))
    except MeshError as exc:
        print(f"ship-plan: {exc}", file=sys.stderr)
        return 1
    (DATA / name).write_bytes(data + b"\n")
    print(f"{name}: {len(data):,} bytes")
    return 0


def make(name: str, media: Path) -> PlanFile:
    """The plan file of a real plan, its list of files emptied. Raises MeshError."""
    model = resolve_model(name)
    videos = [default_clip(), *sorted(path for path in media.glob("*") if path.suffix in VIDEOS)]
    print(f"calibrating on {', '.join(path.name for path in videos)}", file=sys.stderr)
    footage = read_footage([str(path) for path in videos], [], model.manifest, told)
    with tempfile.TemporaryDirectory() as folder:
        request = plan_request(model, threads=1, providers=("cpu",))
        return make_plan(request, footage, Path(folder) / "ship.plan", told).plan.model_copy(update={"files": {}})


def told(stage: str, share: float) -> None:
    if share in (0.0, 1.0):
        print(f"{stage} {'begins' if share == 0.0 else 'is done'}", file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
