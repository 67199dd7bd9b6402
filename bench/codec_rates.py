"""Rate and fidelity of every codec on content that its tables were not fitted to.

Usage: python -m bench.codec_rates [--images DIR] [--media ../shared/media] [--only NAME …] [--frames 150]

Writes bench/results/codec_rates.{json,png}. Each fold measures one model on one video, or on the pictures of
--images, with a plan that was calibrated on all other clips there are: the built-in one and those of --media. Plans
are kept in out/bench-codec. Cuts are chosen by the plan's own figures. What is absent is left out, and said. In the
end come the promised figures, each beside its target.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.codec_claims import CLASSIFIERS, GOOD, MOVING, ROUGH, Fold, claims, fold_of

from splitmesh.cli.bench.plot import Panel, draw, save
from splitmesh.cli.bench.tables import show_comparison
from splitmesh.cli.plan.making import kept_or_made
from splitmesh.cli.plan.tables import table_console
from splitmesh.cli.progress import progress_bar
from splitmesh.errors import MeshError
from splitmesh.models.registry import default_clip
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage
from splitmesh.plan.rate_curve import RateCurve
from splitmesh.provision.codec_bench.measure import Wanted, compare_codecs
from splitmesh.provision.codec_bench.sweep import PROBED
from splitmesh.provision.footage import read_beginning, read_footage, read_pictures_of
from splitmesh.provision.model import provide_model
from splitmesh.provision.parts import plan_request

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
STATIC = "vtest.avi"
PICTURES = "photographs"
BOTH = f"{STATIC} and {PICTURES}"
"""Together, as the probe was measured whose figures the intra targets are set against."""
VIDEOS = (".mp4", ".avi", ".mkv")
CODECS = ("compact", "temporal", "video", "u8zstd")
SLOW_FRAMES = 60
"""Frames of a video that a slow model is measured on."""
PATIENCE = 2.0
FIT_RUNS = 3072
"""At most so many runs fit a table, as in `tools/ship_plan.py`: enough to tell 512 channels of a classifier apart."""


@dataclass(frozen=True, slots=True)
class Task:
    """A model on some content."""

    model: str
    content: str
    slow: bool = False

    @property
    def name(self) -> str:
        return f"{Path(self.model).stem} on {self.content}"


TASKS = (
    Task("coco-ssdlite", STATIC),
    Task("coco-ssdlite", MOVING),
    Task("coco-ssdlite", PICTURES),
    Task("coco-ssdlite", BOTH),
    Task("yolox_nano.onnx", STATIC, slow=True),
    Task("yolox_nano.onnx", PICTURES, slow=True),
    Task("mobilenet-v2", STATIC),
    Task("mobilenet-v2", PICTURES),
    Task("squeezenet11_fp16.onnx", STATIC),
    Task("squeezenet11_fp16.onnx", PICTURES),
)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of photographs to measure on as well")
    parser.add_argument("--media", type=Path, default=ROOT.parent / "shared" / "media", help="folder of videos")
    parser.add_argument("--models", type=Path, default=ROOT.parent / "shared" / "models", help="folder of ONNX files")
    parser.add_argument(
        "--only", action="append", default=[], help="only tasks whose name holds this; may be repeated"
    )
    parser.add_argument("--frames", type=int, default=150, help="first frames of a video (default: 150)")
    parser.add_argument(
        "--cuts", type=int, default=2, help="so many of each detector's best cuts; 0: all (default: 2)"
    )
    parser.add_argument(
        "--plans", type=Path, default=ROOT / "out" / "bench-codec", help="folder where plans are kept"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of codec_rates.json and .png")
    return parser.parse_args()


def main() -> int:
    given = parsed()
    tasks = [task for task in TASKS if not given.only or any(part in task.name for part in given.only)]
    known = {} if not given.only else earlier(given.out / "codec_rates.json")
    try:
        for task, document in measured(tasks, given):
            known[task.name] = document
            write(list(known.values()), given.out)
    except MeshError as error:
        print(error, file=sys.stderr)
        return 1
    if not known:
        print("nothing was measured", file=sys.stderr)
        return 1
    folds = [fold_of(document) for document in known.values()]
    for claim in claims(folds):
        print(claim)
    print(given.out / "codec_rates.json")
    return 0


def earlier(path: Path) -> dict[str, dict[str, Any]]:
    """The folds of an earlier run, by name, so that one of them can be measured again."""
    if not path.is_file():
        return {}
    return {fold["name"]: fold for fold in json.loads(path.read_text(encoding="utf-8"))["folds"]}


def measured(tasks: Sequence[Task], given: argparse.Namespace) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Each task that can be done, with its fold's document; says why one can't."""
    clips = {MOVING: default_clip(), **{p.name: p for p in sorted(given.media.glob("*")) if p.suffix in VIDEOS}}
    if not given.media.is_dir():
        print(f"{given.media} is not there: its videos are neither measured nor calibrated on", file=sys.stderr)
    for task in tasks:
        model = given.models / task.model if task.model.endswith(".onnx") else Path(task.model)
        parts = task.content.split(" and ")
        if PICTURES in parts and given.images is None:
            print(f"{task.name}: left out, no folder of pictures is given (--images)", file=sys.stderr)
            continue
        if not {*parts} <= {*clips, PICTURES} or (model.suffix and not model.is_file()):
            print(f"{task.name}: left out, the model or the video is not there", file=sys.stderr)
            continue
        print(f"\n{task.name}", file=sys.stderr)
        others = {name: path for name, path in clips.items() if name != task.content}
        if PICTURES in parts:  # the plan of the first fold serves
            others.pop(STATIC, None)
        if not others:
            print(f"{task.name}: left out, there is no other clip to calibrate on", file=sys.stderr)
            continue
        yield task, fold(task, str(model), clips.get(parts[0]), others, given)


def fold(
    task: Task, model: str, video: Path | None, others: dict[str, Path], given: argparse.Namespace
) -> dict[str, Any]:
    """Calibrate on `others`, measure on `video` (None: on the pictures)."""
    with progress_bar() as progress:
        bundle = calibrated(model, list(others.values()), given.plans, "+".join(others), progress)
        if video is None:
            footage = read_pictures_of(given.images, bundle.manifest)
        elif task.content == BOTH:
            footage = read_footage([str(video)], [given.images], bundle.manifest, progress)
        else:
            frames = min(given.frames, SLOW_FRAMES) if task.slow else given.frames
            footage = read_beginning(str(video), None, bundle.manifest, frames=frames, progress=progress)
        comparison = compare_codecs(
            bundle,
            footage,
            Wanted(
                promising(bundle, 0 if bundle.manifest.name in CLASSIFIERS else given.cuts),
                CODECS,
                ROUGH if task.content == MOVING else PROBED[0],
            ),
            source={"content": task.content, "calibrated_on": ", ".join(others)},
            calibrated_on_this_footage=False,
            progress=progress,
        )
    show_comparison(table_console(), comparison)
    return {"name": task.name, **comparison.document()}


def calibrated(model: str, videos: Sequence[Path], folder: Path, label: str, progress: Any) -> Bundle:
    """The plan of `model`, calibrated on `videos`; one that is there and still holds is kept."""
    found = provide_model(model, None, progress)
    footage: Footage = read_footage([str(video) for video in videos], [], found.manifest, progress)
    request = replace(
        plan_request(found, threads=1, providers=("cpu",)), int8=False, patience=PATIENCE, fit_runs=FIT_RUNS
    )
    out = folder / f"{found.manifest.name}-{footage.sha256[:10]}.plan"
    return kept_or_made(request, footage, out, force=False, progress=progress)


def promising(bundle: Bundle, count: int) -> tuple[str, ...]:
    """The `count` cuts that send least for good answers, by the plan's own figures, which are of other content too.

    () for all of them.
    """
    sizes = {}
    for cut in bundle.cuts:
        curve = RateCurve.of(bundle.plan.rows, cut=cut.name, codec="compact")
        good = curve.keeping(GOOD) if curve else None
        sizes[cut.name] = good.payload_bytes if good else math.inf
    return tuple(sorted(sizes, key=lambda name: sizes[name])[:count])


def write(documents: Sequence[dict[str, Any]], out: Path) -> None:
    """JSON and picture of all folds so far."""
    folds = [fold_of(document) for document in documents]
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    told = [claim.document() for claim in claims(folds)]
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**machine, "claims": told, "folds": list(documents)}, indent=1) + "\n"
    (out / "codec_rates.json").write_text(text, encoding="utf-8")
    panels = [panel_of(fold) for fold in folds if fold.best_cut]
    if panels:
        title = "The same answer in how many bytes? Each model at its best cut, tables fitted to other content"
        save(draw(panels, title), out / "codec_rates.png")


def panel_of(fold: Fold) -> Panel:
    comparison = fold.comparison
    count = comparison.frames["video"] + comparison.frames["images"]
    return Panel(comparison, fold.best_cut, f"{comparison.model} on {fold.content} ({count}), {fold.best_cut}")


if __name__ == "__main__":
    raise SystemExit(main())
