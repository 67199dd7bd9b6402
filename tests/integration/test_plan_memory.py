"""Planning in little memory: weights are read once, lie in one file, and one cut is loaded at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import plan_graphs
from plan_graphs import Builder

CODE = """
import json, sys
from pathlib import Path
from plan_graphs import classifier_manifest, moving_squares
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.plan.footage import Clip, Footage

def peak_bytes():
    said = Path("/proc/self/status").read_text()
    return 1024 * int(said.split("VmHWM:")[1].split()[0])

before = peak_bytes()
model, out = Path(sys.argv[1]), Path(sys.argv[2])
footage = Footage((Clip(tuple(moving_squares(4)), 100.0),))
bundle = make_plan(PlanRequest(model, classifier_manifest(), providers=("cpu",)), footage, out, lambda *_: None)
print(json.dumps({"before": before, "peak": peak_bytes(), "cuts": len(bundle.cuts)}))
"""


def test_planning_takes_little_more_than_three_times_the_model(tmp_path: Path) -> None:
    b = Builder(3)
    now = b.add("Relu", [b.conv("image", "c0", (32, 3), stride=2)], "r0")
    now, given = b.add("Flatten", [b.add("Relu", [b.conv(now, "c1", (32, 32), stride=2)], "r1")], "flat"), 4608
    for index, width in enumerate((3584, 3584)):
        weights = [b.weight(f"w{index}", given, width, gain=6.0), b.weight(f"b{index}", width)]
        now, given = b.add("Relu", [b.add("Gemm", [now, *weights], f"g{index}")], f"v{index}"), width
    b.add("Gemm", [now, b.weight("wl", given, 10, gain=6.0), b.weight("bl", 10)], "logits")
    model = plan_graphs.save(b.model({"logits": [1, 10]}), tmp_path / "big.onnx")
    size = model.stat().st_size
    assert size > 110_000_000
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model), str(tmp_path / "big.plan")],
        capture_output=True, text=True, check=True, timeout=300,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["cuts"] >= 1
    assert told["peak"] <= 3 * size + 1_000_000_000
    assert told["peak"] - told["before"] <= 3.75 * size, "the weights are held once too often"
    stored = sum(path.stat().st_size for path in (tmp_path / "big.plan" / "parts").iterdir())
    assert stored < 1.1 * size, "head, tail and whole must share their weights"
