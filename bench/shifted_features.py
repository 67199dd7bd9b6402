"""How much of a cut's features earlier ones foretell when the picture moves → bench/results/shifted_features.json.

Usage: python -m bench.shifted_features [--frames 16] [--out bench/results]

Frames of the built-in clip, each a little larger than the model's input, are seen through two windows that lie some
pixels apart: a camera that turns, and nothing else happens. The features of one window are moved by the same way,
linearly between cells, as `temporal` does; what they leave of the other's energy (in the metric of the answer) is
what even perfect motion search can't foretell. Beside it: what features that are not moved leave.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import open_session
from splitmesh.media.prepare import Preparer
from splitmesh.media.source import open_source
from splitmesh.models.registry import default_clip, resolve_model
from splitmesh.provision.shipped import shipped_plan

F32 = npt.NDArray[np.float32]
ROOT = Path(__file__).resolve().parent.parent
CUT: Final = "n37-64x19x19"
STRIDE: Final = 16
"""Pixels of the model's input to a cell at `CUT`."""
SHIFTS: Final = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32)
EVERY: Final = 12
"""Frames of the clip from one that is looked at to the next."""


def wide_frames(width: int, height: int, count: int) -> Iterator[npt.NDArray[np.uint8]]:
    """(height, width, 3) RGB of the built-in clip."""
    preparer = Preparer(width, height)
    taken = 0
    with open_source(default_clip(), pace=False) as source:
        while taken < count * EVERY and (captured := source.next()) is not None:
            if captured.picture is None:
                continue
            if taken % EVERY == 0:
                prepared = preparer.prepare(captured.picture)
                yield prepared.rgb.copy()
                prepared.release()
            taken += 1


def moved(planes: F32, cells: float) -> F32:
    """Planes (K, H, W) seen `cells` further to the right, linearly between cells; past the border the border."""
    last = planes.shape[2] - 1
    at = np.clip(np.arange(last + 1) + cells, 0, last)
    left = np.minimum(at.astype(np.int64), last - 1)
    share = (at - left).astype(np.float32)
    seen: F32 = planes[:, :, left] * (1 - share) + planes[:, :, left + 1] * share
    return seen


def measure(count: int) -> dict[str, Any]:
    """Raises ModelError, SourceError."""
    model = resolve_model()
    bundle = shipped_plan(model, threads=1, providers=("cpu",), progress=lambda stage, share: None)
    if bundle is None:
        raise SystemExit("no plan ships with the default model")
    table = bundle.table(CUT)
    if table is None:
        raise SystemExit(f"the plan that ships has no table of cut {CUT}")
    manifest, tensor = bundle.manifest, table.tensors[0]
    head = open_session(bundle.head_path(CUT), threads=1, providers=("cpu",))
    normalizer = Normalizer.from_manifest(manifest)
    inside = tensor.width - 1 - max(SHIFTS) // STRIDE
    left: dict[int, list[tuple[float, float]]] = {shift: [] for shift in SHIFTS}
    for wide in wide_frames(manifest.width + max(SHIFTS), manifest.height, count):
        seen = {}
        for shift in SHIFTS:
            window = np.ascontiguousarray(wide[:, shift : shift + manifest.width])
            features = head.run({manifest.input: normalizer.normalize(window)})[tensor.name]
            seen[shift] = tensor.forward(features)
        for shift in SHIFTS:
            now = seen[shift][:, :, 1:inside]
            energy = float(np.square(now).sum())
            still, best = (
                float(np.square(now - before[:, :, 1:inside]).sum()) / energy
                for before in (seen[0], moved(seen[0], shift / STRIDE))
            )
            left[shift].append((still, best))
    rows = [
        {"pixels": shift, "unmoved": round(float(still), 4), "moved": round(float(best), 4)}
        for shift, (still, best) in ((shift, np.mean(found, axis=0)) for shift, found in left.items())
    ]
    return {"model": manifest.name, "cut": CUT, "stride": STRIDE, "frames": len(left[0]), "rows": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16, help="frames looked at (default: 16)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the JSON")
    given = parser.parse_args()
    report = measure(given.frames)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "shifted_features.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in report["rows"]:
        print(f"{row['pixels']:3d} pixels: {row['unmoved']:6.1%} unmoved, {row['moved']:6.1%} moved", file=sys.stderr)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
