"""What the mesh costs: frames/s of `splitmesh edge --policy local-only`, unpaced, against a bare loop doing the same.

`make bench-overhead`. The bare loop decodes with PyAV, scales with swscale, normalises, runs onnxruntime and the
model's NMS, and nothing else. Both run as processes of their own on the same cores, in turns, once on all cores, as
users run them (`ratio`: the edge decodes beside the model), and once squeezed onto one core, where every microsecond
that the mesh costs shows (`ratio_one_core`). Each is the median of the neighbours' ratios; 1.0: the mesh is free.
Writes bench/results/overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from splitmesh.inference.session import open_session
from splitmesh.lab.artifacts import versions
from splitmesh.lab.display import Display
from splitmesh.lab.records import read_records
from splitmesh.lab.stages import gather
from splitmesh.plan.bundle.read import read_bundle
from splitmesh.settings.model import LabSettings

RESULTS = Path(__file__).resolve().parent / "results"
WARM_UP_FRAMES = 20
SPARE_S = 120.0


def bare_loop(plan: Path, source: str, frames: int, threads: int) -> float:
    """Frames per second of the loop one would write by hand, warm-up left out."""
    bundle = read_bundle(plan)
    manifest = bundle.manifest
    session = open_session(bundle.full_path, threads=threads)
    postprocess = bundle.postprocess()
    scale = np.asarray(manifest.scale, np.float32)[:, None, None]
    offset = np.asarray(manifest.offset, np.float32)[:, None, None]
    done, began_s = 0, 0.0
    while done < frames + WARM_UP_FRAMES:
        with av.open(source) as container:
            container.streams.video[0].thread_count = 1
            for picture in container.decode(video=0):
                rgb = fitted(picture, manifest)
                if manifest.color == "BGR":
                    rgb = rgb[..., ::-1]
                tensor = np.ascontiguousarray(rgb.transpose(2, 0, 1), np.float32) * scale + offset
                postprocess(session.run({manifest.input: tensor[None]}))
                done += 1
                if done == WARM_UP_FRAMES:
                    began_s = time.perf_counter()
                if done == frames + WARM_UP_FRAMES:
                    break
    return frames / (time.perf_counter() - began_s)


def fitted(picture: av.VideoFrame, manifest: Any) -> np.ndarray:
    """(h, w, 3) uint8 RGB at model size, stretched or letterboxed."""
    if manifest.fit == "stretch":
        return picture.reformat(manifest.width, manifest.height, "rgb24").to_ndarray()
    share = min(manifest.width / picture.width, manifest.height / picture.height)
    width, height = round(picture.width * share), round(picture.height * share)
    canvas = np.full((manifest.height, manifest.width, 3), manifest.pad_value, np.uint8)
    top, left = (manifest.height - height) // 2, (manifest.width - width) // 2
    canvas[top : top + height, left : left + width] = picture.reformat(width, height, "rgb24").to_ndarray()
    return canvas


def run_bare(plan: Path, source: str, frames: int, threads: int, cores: str) -> float:
    """The bare loop as a process of its own, so that both sides start equally cold."""
    command = [sys.executable, __file__, "--bare", str(plan), source, str(frames), str(threads), cores]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SPARE_S)
    return float(done.stdout.strip().splitlines()[-1])


def run_edge(plan: Path, source: str, seconds: float, threads: int, cores: str, folder: Path) -> float:
    """Frames per second of the edge, from the results it wrote, warm-up left out. Raises RuntimeError."""
    results = folder / "results.jsonl"
    command = [
        sys.executable, "-m", "splitmesh.cli.main", "edge", "--config", os.devnull, "--policy", "local-only",
        "--source", source, "--no-pace", "--loop", "--duration", f"{seconds:g}s", "--plan", str(plan),
        "--threads", str(threads), "--cpu", cores, "--results", str(results), "--web-port", "off",
        "--deadline", "10s", "--trace-ratio", "0.1", "--span-log", str(folder / "spans"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=SPARE_S)
    run = read_records(results)
    if done.returncode or not run.conserved or len(run.records) <= 2 * WARM_UP_FRAMES:
        raise RuntimeError(f"the edge failed with {done.returncode}: {run.faults()}\n{done.stderr[-2000:]}")
    if any(record.outcome.value != "local" for record in run.records):
        raise RuntimeError(f"local-only did something else: {run.counts()}")
    ends = [record.captured_ns / 1e9 + (record.latency_ms or 0.0) / 1e3 for record in run.records]
    return (len(ends) - WARM_UP_FRAMES) / (max(ends) - sorted(ends)[WARM_UP_FRAMES - 1])


def median_ratio(rows: list[dict[str, float]]) -> float:
    return round(statistics.median(row["ratio"] for row in rows), 4)


def main() -> int:
    if sys.argv[1:2] == ["--bare"]:
        folder_text, clip, frames, threads, pinned = sys.argv[2:]
        os.sched_setaffinity(0, {int(core) for core in pinned.split(",")})
        print(bare_loop(Path(folder_text), clip, int(frames), int(threads)))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: 5)")
    parser.add_argument("--frames", type=int, default=250, help="frames per run (default: 250)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    ingredients = gather(LabSettings(threads=arguments.threads), Display(stream=sys.stderr))
    plan, source = ingredients.bundle.folder, ingredients.source
    with av.open(source) as container:
        fps = float(container.streams.video[0].average_rate or 25)
    available = sorted(os.sched_getaffinity(0))
    all_cores = ",".join(map(str, available))
    layouts = {"all cores": all_cores, "one core": str(available[0])}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in layouts}
    for round_ in range(arguments.rounds):
        for name, cores in layouts.items():
            bare = run_bare(plan, source, arguments.frames, arguments.threads, cores)
            with tempfile.TemporaryDirectory(prefix="bench-overhead-") as folder:
                seconds = (arguments.frames + WARM_UP_FRAMES) / fps
                edge = run_edge(plan, source, seconds, arguments.threads, cores, Path(folder))
            row = {"bare_fps": round(bare, 2), "edge_fps": round(edge, 2), "ratio": round(edge / bare, 4)}
            rows[name].append(row)
            told = f"bare {bare:.1f} fps, edge {edge:.1f} fps, ratio {edge / bare:.3f}"
            print(f"{round_ + 1}/{arguments.rounds} {name}: {told}", flush=True)
    one_core_fps = [row["bare_fps"] for row in rows["one core"]]
    report = {
        "ratio": median_ratio(rows["all cores"]),
        "ratio_one_core": median_ratio(rows["one core"]),
        "neighbour_noise": round((max(one_core_fps) - min(one_core_fps)) / statistics.median(one_core_fps), 4),
        "rounds": rows,
        "frames": arguments.frames,
        "threads": arguments.threads,
        "cores": all_cores,
        "model": ingredients.model.manifest.name,
        "source": ingredients.shown_source,
        "what": "splitmesh edge --policy local-only, unpaced, web off, 10 % tracing, results written / bare loop",
        "versions": versions(),
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "overhead.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    print(f"ratio {report['ratio']} on all cores, {report['ratio_one_core']} on one")
    return 0


if __name__ == "__main__":
    sys.exit(main())
