"""From a file without a manifest to a model that runs: real files, the real runtime, the command line."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto, helper, numpy_helper

from splitmesh.cli import main
from splitmesh.errors import ModelError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import open_session
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.graph.canonical import canonical_model
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.manifest import Manifest, check_signature, load_manifest, parse_manifest
from splitmesh.plan.manifest_toml import manifest_toml
from splitmesh.provision.guess import guess_file, made_up_picture
from splitmesh.provision.model import provide_model

RNG = np.random.default_rng(3)
FLOAT, HALF, BYTE, LONG = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64
Port = tuple[int, list]


def save(
    path: Path, nodes: list[NodeProto], inputs: dict[str, Port], outputs: dict[str, Port], weights: dict | None = None
) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [helper.make_tensor_value_info(name, *port) for name, port in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def kernel(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(dtype)


node = helper.make_node


def head(channels: int, dtype: type = np.float32, classes: int = 7) -> tuple[list[NodeProto], dict]:
    """Nodes from `picture` (1, C, h, w) to `out` (1, classes)."""
    nodes = [
        node("Conv", ["picture", "k"], ["c"], strides=[2, 2]),
        node("GlobalAveragePool", ["c"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w"], ["out"]),
    ]
    return nodes, {"k": kernel(8, channels, 3, 3, dtype=dtype), "w": kernel(8, classes, dtype=dtype)}


def half(path: Path) -> Path:
    nodes, weights = head(3, np.float16)
    return save(path, nodes, {"picture": (HALF, [1, 3, 40, 48])}, {"out": (HALF, [1, 7])}, weights)


def grey_bytes_last(path: Path) -> Path:
    nodes, weights = head(1)
    before = [node("Cast", ["x"], ["xf"], to=FLOAT), node("Transpose", ["xf"], ["picture"], perm=[0, 3, 1, 2])]
    return save(path, before + nodes, {"x": (BYTE, ["N", 28, 32, 1])}, {"out": (FLOAT, ["N", 7])}, weights)


def two_pictures_and_a_scale(path: Path) -> Path:
    nodes, weights = head(3)
    before = [
        node("Resize", ["right", "", "", "sizes"], ["grown"], mode="nearest"),
        node("Add", ["left", "grown"], ["sum"]),
        node("Mul", ["sum", "scale_factor"], ["picture"]),
    ]
    inputs = {
        "left": (FLOAT, [1, 3, 64, 64]),
        "right": (FLOAT, [1, 3, 32, 32]),
        "scale_factor": (FLOAT, ["N", 1, 1, 1]),
    }
    sizes = np.array([1, 3, 64, 64], np.int64)
    return save(path, before + nodes, inputs, {"out": (FLOAT, [1, 7])}, weights | {"sizes": sizes})


def token_ids(path: Path) -> Path:
    nodes = [node("Gather", ["table", "ids"], ["e"]), node("ReduceMean", ["e"], ["out"], axes=[1], keepdims=0)]
    return save(path, nodes, {"ids": (LONG, ["N", "L"])}, {"out": (FLOAT, ["N", 12])}, {"table": kernel(2, 12)})


def sound(path: Path) -> Path:
    nodes = [node("Conv", ["wave", "k"], ["out"], strides=[100])]
    return save(path, nodes, {"wave": (FLOAT, [1, 1, "T"])}, {"out": (FLOAT, [1, 4, "F"])}, {"k": kernel(4, 1, 400)})


def only_96(path: Path) -> Path:
    """Open sizes, of which the last weights allow one."""
    nodes = [
        node("Conv", ["x", "k"], ["c"], strides=[8, 8]),
        node("Flatten", ["c"], ["f"]),
        node("Gemm", ["f", "w"], ["out"]),
    ]
    weights = {"k": kernel(2, 3, 8, 8), "w": kernel(2 * 12 * 12, 5)}
    return save(path, nodes, {"x": (FLOAT, ["N", 3, "H", "W"])}, {"out": (FLOAT, ["N", 5])}, weights)


def bytes_last_without_batch_axis(path: Path) -> Path:
    nodes, weights = head(3)
    before = [
        node("Cast", ["x"], ["xf"], to=FLOAT),
        node("Unsqueeze", ["xf", "axes"], ["one"]),
        node("Transpose", ["one"], ["picture"], perm=[0, 3, 1, 2]),
    ]
    weights["axes"] = np.array([0], np.int64)
    return save(path, before + nodes, {"x": (BYTE, [24, 40, 3])}, {"out": (FLOAT, [1, 7])}, weights)


def without_batch_axis(path: Path) -> Path:
    nodes, weights = head(3)
    axes = np.array([0], np.int64)
    before = [node("Unsqueeze", ["x", "axes"], ["picture"])]
    return save(path, before + nodes, {"x": (FLOAT, [3, 24, 40])}, {"out": (FLOAT, [1, 7])}, weights | {"axes": axes})


FORMS: dict[Callable[[Path], Path], tuple[str, tuple[int, int], str]] = {
    half: ("NCHW", (40, 48), "classifier"),
    grey_bytes_last: ("NHWC", (28, 32), "classifier"),
    two_pictures_and_a_scale: ("NCHW", (64, 64), "classifier"),
    token_ids: ("flat", (8, 8), "classifier"),
    sound: ("flat", (14, 13), "tensor"),
    only_96: ("NCHW", (96, 96), "classifier"),
    without_batch_axis: ("NCHW", (24, 40), "classifier"),
    bytes_last_without_batch_axis: ("NHWC", (24, 40), "classifier"),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_models_of_all_forms_get_a_manifest_that_feeds_and_reads_them(
    tmp_path: Path, form: Callable[[Path], Path]
) -> None:
    path = form(tmp_path / "own.onnx")
    manifest, notes = guess_file(path)
    layout, size, kind = FORMS[form]
    assert (manifest.layout, (manifest.height, manifest.width), manifest.postprocess.kind) == (layout, size, kind)
    assert f"`{manifest.input}`" in notes[0]
    direct = open_session(path)
    check_signature(
        manifest,
        {name: shape for name, (shape, _) in direct.inputs.items()},
        {name: shape for name, (shape, _) in direct.outputs.items()},
    )
    (tmp_path / "canonical.onnx").write_bytes(canonical_model(load_model(path), manifest).SerializeToString())
    session = open_session(tmp_path / "canonical.onnx")
    assert list(session.inputs) == [manifest.input]
    rgb = RNG.integers(0, 255, (*size, 3), np.uint8)
    outputs = session.run({manifest.input: Normalizer.from_manifest(manifest).normalize(rgb)})
    answer = build_postprocess(manifest, None)(outputs)
    assert len(answer) or set(answer.tensors) == set(manifest.output_names)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_a_fixed_batch_is_one_picture_where_that_gives_the_same(tmp_path: Path, layout: str) -> None:
    nodes, weights = head(3)
    shape = [4, 3, 24, 32]
    if layout == "NHWC":
        nodes, shape = [node("Transpose", ["x"], ["picture"], perm=[0, 3, 1, 2]), *nodes], [4, 24, 32, 3]
    inputs = {"x" if layout == "NHWC" else "picture": (FLOAT, shape)}
    manifest, notes = guess_file(save(tmp_path / "own.onnx", nodes, inputs, {"out": (FLOAT, [4, 7])}, weights))
    assert (manifest.layout, manifest.height, manifest.width) == (layout, 24, 32)
    assert manifest.postprocess.kind == "classifier" and "one alone gave the same" in notes[-1]


@pytest.mark.parametrize("way", ["shape", "mixed"])
def test_a_fixed_batch_that_the_graph_needs_stays(tmp_path: Path, way: str) -> None:
    """Either its size is written into the graph, or its pictures see each other."""
    nodes, weights = head(3)
    weights["sizes"] = np.array([4, 8], np.int64)
    if way == "shape":
        nodes[2] = node("Reshape", ["g", "sizes"], ["f"])
    else:
        nodes[2:3] = [node("ReduceMean", ["g"], ["m"], axes=[0]), node("Sub", ["g", "m"], ["s"])]
        nodes.insert(4, node("Flatten", ["s"], ["f"]))
    path = save(tmp_path / "own.onnx", nodes, {"picture": (FLOAT, [4, 3, 24, 32])}, {"out": (FLOAT, [4, 7])}, weights)
    manifest, notes = guess_file(path)
    assert (manifest.layout, manifest.shape) == ("flat", (4, 3, 24, 32)) and "alone" not in notes[-1]


def test_a_file_is_run_in_the_form_that_a_plan_gives_it(tmp_path: Path) -> None:
    """The runtime could not load it as it is."""
    nodes, weights = head(3)
    nodes.insert(0, node("Cast", ["x"], ["picture"], to=FLOAT))
    path = save(
        tmp_path / "own.onnx", nodes, {"x": (TensorProto.BFLOAT16, [1, 3, 24, 32])}, {"out": (FLOAT, None)}, weights
    )
    model = load_model(path)
    model.ClearField("ir_version")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="IR version"):
        open_session(path)
    assert guess_file(path)[0].postprocess.kind == "classifier"


def test_a_file_that_does_not_load_is_refused_by_its_name(tmp_path: Path) -> None:
    nodes = [node("Deform", ["x"], ["out"], domain="my.company")]
    path = save(tmp_path / "own.onnx", nodes, {"x": (FLOAT, [1, 3, 24, 32])}, {"out": (FLOAT, [1, 7])})
    with pytest.raises(ModelError, match=r"own\.onnx can't be loaded: .*my\.company"):
        guess_file(path)


def test_a_picture_too_large_to_send_is_refused(tmp_path: Path) -> None:
    for side, says in ((5000, r"75000000 numbers"), (3000, "no payload carries a larger picture")):
        nodes = [node("GlobalAveragePool", ["x"], ["out"])]
        path = save(tmp_path / "own.onnx", nodes, {"x": (FLOAT, [1, 3, side, side])}, {"out": (FLOAT, [1, 3, 1, 1])})
        with pytest.raises(ModelError, match=says):
            guess_file(path)


@pytest.mark.parametrize(("grown", "side"), [(1, 640), (4, 256)])
def test_of_open_sizes_one_is_taken_whose_outputs_are_no_burden(tmp_path: Path, grown: int, side: int) -> None:
    nodes = [node("Resize", ["x", "", "by"], ["out"], mode="nearest")]
    weights = {"by": np.array([1, 1, grown, grown], np.float32)}
    path = save(
        tmp_path / "own.onnx", nodes, {"x": (FLOAT, [1, 3, "h", "w"])}, {"out": (FLOAT, [1, 3, "H", "W"])}, weights
    )
    manifest, notes = guess_file(path)
    assert (manifest.width, manifest.postprocess.kind) == (side, "tensor") and f"{side}×{side} runs" in notes[0]


@pytest.mark.parametrize(
    ("grown", "says"),
    [(40, r"`out` \(1, 3, 2560, 2560\), more than an answer can hold"), (256, "gives 3.2 GB for one picture")],
)
def test_outputs_that_no_answer_holds_are_refused(tmp_path: Path, grown: int, says: str) -> None:
    nodes = [node("Resize", ["x", "", "by"], ["out"], mode="nearest")]
    weights = {"by": np.array([1, 1, grown, grown], np.float32)}
    path = save(tmp_path / "own.onnx", nodes, {"x": (FLOAT, [1, 3, 64, 64])}, {"out": (FLOAT, None)}, weights)
    with pytest.raises(ModelError, match=says):
        guess_file(path)


def test_made_up_pictures_differ_and_are_always_the_same() -> None:
    first, second = made_up_picture(96, 128, 0), made_up_picture(96, 128, 1)
    assert first.shape == (96, 128, 3) and (first != second).mean() > 0.9
    assert hashlib.sha256(first.tobytes()).hexdigest()[:16] == "9076cc1fa519f41d"
    assert all(picture.std() > 30 for picture in (first, second))


def test_a_guess_follows_from_the_file_alone(tmp_path: Path) -> None:
    for folder in ("edge", "worker"):
        (tmp_path / folder).mkdir()
    path = two_pictures_and_a_scale(tmp_path / "edge" / "own.onnx")
    copy = Path(shutil.copy(path, tmp_path / "worker" / "own.onnx"))
    mine, theirs = provide_model(path), provide_model(str(copy))
    assert mine.manifest == theirs.manifest and mine.notes == theirs.notes and mine.sha256 == theirs.sha256
    assert mine.manifest.extra[0].shape == (1, 1, 1, 1)


def test_open_sizes_that_never_run_are_listed(tmp_path: Path) -> None:
    nodes = [node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "w"], ["out"])]
    inputs = {"x": (FLOAT, ["N", 3, "H", "W"])}
    path = save(tmp_path / "own.onnx", nodes, inputs, {"out": (FLOAT, [1, 5])}, {"w": kernel(17, 5)})
    with pytest.raises(ModelError, match=r"size of x open.*224×224, 256×256") as caught:
        guess_file(path)
    assert "width and height" in caught.value.advice


def test_a_model_that_gives_no_numbers_for_made_up_pictures_is_guessed_from_its_graph(tmp_path: Path) -> None:
    nodes = [node("Neg", ["x"], ["n"]), node("Log", ["n"], ["l"]), node("GlobalAveragePool", ["l"], ["out"])]
    path = save(tmp_path / "own.onnx", nodes, {"x": (FLOAT, [1, 3, 32, 32])}, {"out": (FLOAT, [1, 3, 1, 1])})
    manifest, notes = guess_file(path)
    assert manifest.postprocess.kind == "classifier" and "from the graph alone" in notes[-1]


def test_a_manifest_beside_the_file_or_given_is_not_guessed(tmp_path: Path) -> None:
    path = half(tmp_path / "own.onnx")
    guessed = provide_model(path)
    assert guessed.notes
    changed = guessed.manifest.model_copy(update={"licence": "ours"})
    (tmp_path / "other.toml").write_text(manifest_toml(changed), encoding="utf-8")
    given = provide_model(path, tmp_path / "other.toml")
    assert (given.licence, given.notes) == ("ours", ())
    (tmp_path / "own.toml").write_text(manifest_toml(changed), encoding="utf-8")
    assert provide_model(str(path)).licence == "ours"


def test_names_and_missing_files_go_their_own_way(tmp_path: Path) -> None:
    assert provide_model("coco-ssdlite").notes == ()
    with pytest.raises(ModelError, match="no built-in model"):
        provide_model("yolo")
    with pytest.raises(ModelError, match=r"absent\.onnx can't be read"):
        provide_model(tmp_path / "absent.onnx")


def test_a_guess_is_said_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = provide_model(half(tmp_path / "own.onnx"))
    assert [f"own.onnx: {note}" for note in found.notes] == caplog.messages
    assert "splitmesh models info own.onnx" in found.notes[-1]


def test_info_prints_a_manifest_to_save_and_correct(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = half(tmp_path / "own.onnx")
    saved = tmp_path / "own.toml"
    saved.touch()  # as the shell does for `> own.toml` before the command runs
    assert main.run(["models", "info", str(path)]) == 0
    text = capfd.readouterr().out
    found = provide_model(path)
    assert all(f"# {note}" in text for note in found.notes)
    saved.write_text(text, encoding="utf-8")
    assert load_manifest(saved) == found.manifest
    assert main.run(["models", "info", str(path)]) == 0
    assert "picture float" not in (out := capfd.readouterr().out) and "#" not in out.splitlines()[0]
    assert main.run(["models", "info", str(path), "--json"]) == 0
    assert '"notes": []' in capfd.readouterr().out


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SIZES = st.lists(st.integers(1, 5), max_size=3)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    number = st.floats(-1e6, 1e6, allow_nan=False).filter(bool)
    posts = [
        {"kind": "tensor", "outputs": draw(st.lists(TEXT, max_size=3))},
        {"kind": "detections", "output": draw(TEXT), "suppressed": draw(st.booleans())},
        {"kind": "ssd", "anchors": draw(TEXT), "coder_scales": [draw(number)] * 4},
    ]
    shape = draw(st.one_of(st.none(), SIZES))
    data = {
        "name": "m",
        "input": draw(TEXT),
        "width": 64,
        "height": 64,
        "layout": "NCHW" if shape is None else "flat",
        "shape": shape,
        "extra": [
            {"name": f"{draw(TEXT)}{i}", "value": draw(st.one_of(number, st.lists(number, max_size=3)))}
            for i in range(draw(st.integers(0, 2)))
        ],
        "scale": [draw(number)] * 3,
        "offset": [draw(number)] * 3,
        "labels": draw(st.lists(TEXT, min_size=1, max_size=30)),
        "licence": draw(TEXT),
        "source": draw(TEXT),
        "postprocess": draw(st.sampled_from(posts)),
    }
    return parse_manifest({key: value for key, value in data.items() if value is not None}, where="made up")


@given(manifests(), st.lists(TEXT, max_size=2))
def test_toml_reads_back_as_the_same_manifest(manifest: Manifest, notes: list[str]) -> None:
    assert parse_manifest(tomllib.loads(manifest_toml(manifest, notes)), where="read back") == manifest


@pytest.mark.parametrize(
    ("file", "kind", "color", "size", "said"),
    [
        ("yolox_nano", "yolox", "BGR", 416, "relative to their cells"),
        ("mobilenet_v2_imagenet", "classifier", "RGB", 224, "look like logits"),
        ("squeezenet11_fp16", "classifier", "BGR", 224, "sum to 1"),
        ("face_detection_yunet_2023mar", "yunet", "BGR", 640, "by their names"),
        ("coco_ssdlite_mobilenetv2_300", "tensor", "RGB", 300, "anchors"),
        ("mp_facemesh192", "tensor", "RGB", 192, "as they are"),
    ],
)
def test_real_models(shared: Path, file: str, kind: str, color: str, size: int, said: str) -> None:
    manifest, notes = guess_file(shared / "models" / f"{file}.onnx")
    assert (manifest.postprocess.kind, manifest.color, manifest.width, manifest.height) == (kind, color, size, size)
    assert any(said in note for note in notes)
    assert any("channel order can't be seen in a graph" in note for note in notes)
