"""The weight tools, run as a developer runs them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / tool), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def graph_model(tmp_path: Path) -> Path:
    """relu(conv1x1(x, kernel)) as a TensorFlow.js folder."""
    kernel = np.arange(6, dtype="<f4").reshape(1, 1, 3, 2) - 2
    ones = {"list": {"i": ["1", "1", "1", "1"]}}
    nodes = [
        {"name": "x", "op": "Placeholder"},
        {"name": "k", "op": "Const"},
        {"name": "c", "op": "Conv2D", "input": ["x", "k"], "attr": {"strides": ones, "padding": {"s": "U0FNRQ=="}}},
        {"name": "y", "op": "Relu", "input": ["c"], "attr": {}},
    ]
    weights = [{"paths": ["w.bin"], "weights": [{"name": "k", "shape": [1, 1, 3, 2], "dtype": "float32"}]}]
    (tmp_path / "w.bin").write_bytes(kernel.tobytes())
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"modelTopology": {"node": nodes}, "weightsManifest": weights}))
    return path


def test_import_writes_a_model_that_computes_the_same(graph_model: Path, tmp_path: Path) -> None:
    out, kernel = tmp_path / "out.onnx", tmp_path / "k.npy"
    flags = ["--input", "x=image:1,2,2,3", "--output", "y=features", "--weight", f"k={kernel}", "-o", out]
    done = run("import_tfjs.py", graph_model, *flags)
    assert done.returncode == 0, done.stderr
    x = np.random.default_rng(0).standard_normal((1, 3, 2, 2)).astype(np.float32)
    (found,) = ReferenceEvaluator(onnx.load(str(out))).run(None, {"image": x})
    weights = np.load(kernel)[0, 0]
    np.testing.assert_allclose(found, np.maximum(np.einsum("nchw,co->nhwo", x, weights), 0), rtol=1e-5, atol=1e-6)
    first = out.read_bytes()
    assert run("import_tfjs.py", graph_model, *flags).returncode == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--input", "x=image:1,2,2,3", "--output", "z=out"], "no node 'z'"),
        (["--input", "x=image:1,2,2", "--output", "y=out"], "TENSOR=NAME:N,H,W,C"),
        (["--input", "x=image:1,2,2,3", "--output", "y"], "TENSOR=NAME"),
        (["--input", "x=image:1,2,2,3", "--output", "y=out", "--weight", "q=q.npy"], "no weight 'q'"),
    ],
)
def test_import_says_what_is_wrong(graph_model: Path, tmp_path: Path, flags: list[str], says: str) -> None:
    done = run("import_tfjs.py", graph_model, *flags, "-o", tmp_path / "out.onnx")
    assert done.returncode != 0
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_weight_files_outside_the_folder_are_not_read(graph_model: Path, tmp_path: Path) -> None:
    graph_model.write_text(graph_model.read_text().replace("w.bin", "../w.bin"))
    done = run(
        "import_tfjs.py", graph_model, "--input", "x=i:1,2,2,3", "--output", "y=o", "-o", tmp_path / "out.onnx"
    )
    assert done.returncode == 1 and "'../w.bin' is not beside model.json" in done.stderr


def test_check_weights_refuses_another_package(tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"not it")
    done = run("check_weights.py", "--archive", tmp_path / "other.tgz")
    assert done.returncode == 1
    assert "check-weights: the package archive has sha256" in done.stderr
