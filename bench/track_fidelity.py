"""Fidelity of carried-on answers by age → bench/results/track_fidelity.{json,png}.

Usage: python -m bench.track_fidelity [--frames 240] [--clip FILE ...] [--out bench/results]

The default detector runs on every frame; that is the reference. Then only every k-th answer (k = 1, 3, 5) is shown
to the tracker, which predicts the next ten frames; F1@IoU0.5 against the reference is compared with repeating the
last answer as it is. Clips: the built-in street clip, and those of ../shared/media where that folder is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from splitmesh.errors import MeshError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import f1_at_iou
from splitmesh.frames.track import Tracker
from splitmesh.inference.session import open_session
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.registry import default_clip, resolve_model
from splitmesh.plan.answers.postprocess import build_postprocess

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
SHARED_CLIPS = ("vtest.avi", "bottle-detection.mp4", "asl_book.mkv", "pose_squats.mp4")
STRIDES = (1, 3, 5)
AGES = range(1, 11)
WARM_UP = 5
"""Answers shown before the first prediction counts."""

Timed = list[tuple[int, Answer]]
"""(pts_ns, the detector's answer) of consecutive frames."""


def reference_answers(clip: Path, limit: int) -> Timed:
    """The default detector's answer to each of the first `limit` frames."""
    model = resolve_model()
    session = open_session(model.path)
    preparer = Preparer.from_manifest(model.manifest)
    postprocess = build_postprocess(model.manifest, model.anchors)
    answers: Timed = []
    with open_source(clip, pace=False) as source:
        while len(answers) < limit and (captured := source.next()) is not None:
            if captured.picture is None:
                continue
            prepared = preparer.prepare(captured.picture)
            answer = postprocess(session.run({model.manifest.input: prepared.tensor}))
            prepared.release()
            sure = answer.scores >= 0.3
            answers.append((captured.pts_ns, Answer(answer.boxes[sure], answer.scores[sure], answer.classes[sure])))
    return answers


def by_age(answers: Timed, stride: int) -> dict[str, list[float]]:
    """Mean F1 at each age of AGES, in frames: `{"tracked": […], "repeated": […]}`."""
    scores: dict[str, list[list[float]]] = {"tracked": [[] for _ in AGES], "repeated": [[] for _ in AGES]}
    tracker = Tracker()
    for shown, at in enumerate(range(0, len(answers), stride)):
        pts_ns, answer = answers[at]
        tracker.observe(answer, pts_ns)
        if shown < WARM_UP:
            continue
        for slot, age in enumerate(AGES):
            if at + age < len(answers):
                ahead_ns, reference = answers[at + age]
                scores["tracked"][slot].append(f1_at_iou(tracker.predict(ahead_ns), reference))
                scores["repeated"][slot].append(f1_at_iou(answer, reference))
    return {way: [round(float(np.mean(s)), 4) for s in slots] for way, slots in scores.items()}


def predict_us(answers: Timed) -> float:
    """Median microseconds of one prediction, on the answers of a real clip."""
    tracker = Tracker()
    spent = []
    for at_ns, answer in answers:
        tracker.observe(answer, at_ns)
        start = time.perf_counter()
        tracker.predict(at_ns + 200_000_000)
        spent.append(time.perf_counter() - start)
    return round(float(np.median(spent)) * 1e6, 1)


def measure(clips: Sequence[tuple[str, Path]], limit: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, clip in clips:
        print(f"{name}: the detector on up to {limit} frames …", file=sys.stderr)
        answers = reference_answers(clip, limit)
        if len(answers) <= WARM_UP * max(STRIDES) + max(AGES):
            print(f"{name}: left out, {len(answers)} frames are too few", file=sys.stderr)
            continue
        boxes = float(np.mean([len(a) for _, a in answers]))
        base = {
            "clip": name,
            "frames": len(answers),
            "boxes": round(boxes, 2),
            "predict_us": predict_us(answers),
        }
        rows += [{**base, "every": stride, **by_age(answers, stride)} for stride in STRIDES]
    return rows


def usual_clips() -> list[tuple[str, Path]]:
    """The built-in clip, and those of the shared folder that are there. Raises ModelError."""
    folder = ROOT.parent / "shared" / "media"
    return [
        ("built-in street clip", default_clip()),
        *((n, folder / n) for n in SHARED_CLIPS if (folder / n).is_file()),
    ]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One panel per clip: F1 against age, tracked and repeated, every third answer shown."""
    shown = [row for row in rows if row["every"] == 3]
    figure, panels = pyplot.subplots(1, len(shown), figsize=(3.2 * len(shown), 3), sharey=True, squeeze=False)
    for panel, row in zip(panels[0], shown, strict=True):
        panel.plot(list(AGES), row["tracked"], marker=".", label="tracked")
        panel.plot(list(AGES), row["repeated"], marker=".", linestyle="--", label="repeated")
        panel.set(title=row["clip"], xlabel="age, frames", ylim=(0, 1.02))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("F1@IoU0.5 against the detector")
    panels[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> int:
    arguments = argparse.ArgumentParser(description="Carrying answers forward against repeating the last one.")
    arguments.add_argument("--frames", type=int, default=240, help="frames per clip (default %(default)s)")
    arguments.add_argument("--clip", type=Path, action="append", help="measure on this clip (may be repeated)")
    arguments.add_argument(
        "--out", type=Path, default=ROOT / "bench" / "results", help="folder (default %(default)s)"
    )
    given = arguments.parse_args()
    try:
        rows = measure([(p.name, p) for p in given.clip] if given.clip else usual_clips(), given.frames)
    except MeshError as error:
        print(error, file=sys.stderr)
        return 1
    if not rows:
        print("no clip was long enough to measure", file=sys.stderr)
        return 1
    print(f"{'clip':<24}{'answer every':<14}{'tracked':>9}{'repeated':>10}{'gain':>8}   mean F1 over ages 1..10")
    for row in rows:
        tracked, repeated = float(np.mean(row["tracked"])), float(np.mean(row["repeated"]))
        print(f"{row['clip']:<24}{row['every']:<14}{tracked:>9.3f}{repeated:>10.3f}{tracked - repeated:>+8.3f}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "track_fidelity.json").write_text(
        json.dumps({"ages_frames": list(AGES), "rows": rows}, indent=1) + "\n"
    )
    draw(rows, given.out / "track_fidelity.png")
    print(f"{given.out / 'track_fidelity.json'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
