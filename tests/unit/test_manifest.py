"""Manifests: what loads, and errors that name the file, the key and the rule."""

from pathlib import Path

import pytest

from splitmesh.errors import ModelError
from splitmesh.plan.manifest import Manifest, check_signature, load_manifest, parse_manifest
from splitmesh.plan.manifest_kinds import ClassifierPostprocess, SsdPostprocess, YoloxPostprocess

TEXT = """
name = "street-boxes"
input = "images"
width = 416
height = 320
color = "BGR"
scale = [1.0, 1.0, 1.0]
offset = [0.0, 0.0, 0.0]
fit = "letterbox"
labels = ["person", "car"]
licence = "Apache-2.0"
source = "trained here"

[postprocess]
kind = "yolox"
score_threshold = 0.4
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "model.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_loads_with_defaults_filled_in(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path, TEXT))
    assert (manifest.name, manifest.width, manifest.height, manifest.color) == ("street-boxes", 416, 320, "BGR")
    assert manifest.pad_value == 114
    assert manifest.postprocess == YoloxPostprocess(kind="yolox", score_threshold=0.4)
    assert manifest.output_names == ("output",)
    assert (manifest.label(1), manifest.label(2)) == ("car", "#2")


def test_json_round_trip(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path, TEXT))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    ("old", "new", "key", "rule"),
    [
        ("width = 416", "width = 0", "width", "greater than or equal to 8"),
        ("width = 416", 'width = "416px"', "width", "valid integer"),
        ('input = "images"\n', "", "input", "required"),
        ('color = "BGR"', 'color = "GREY"', "color", "'RGB' or 'BGR'"),
        ("scale = [1.0, 1.0, 1.0]", "scale = [1.0, 1.0]", "scale.2", "required"),
        ("scale = [1.0, 1.0, 1.0]", "scale = [1.0, 0.0, 1.0]", "manifest", "must not be 0"),
        ("offset = [0.0, 0.0, 0.0]", "offset = [0.0, nan, 0.0]", "offset.1", "finite"),
        ('name = "street-boxes"', 'name = "Street Boxes"', "name", "pattern"),
        ('labels = ["person", "car"]', "labels = []", "manifest", "labels must name at least 1"),
        ('kind = "yolox"', 'kind = "yolo9"', "postprocess", "'yolox'"),
        ("score_threshold = 0.4", "score_threshold = 1.5", "postprocess.score_threshold", "less than 1"),
        ("score_threshold = 0.4", "anchors = 3", "postprocess.anchors", "not permitted"),
        ('fit = "letterbox"', 'fit = "letterbox"\nsize = 3', "size", "not permitted"),
    ],
)
def test_errors_name_file_key_and_rule(tmp_path: Path, old: str, new: str, key: str, rule: str) -> None:
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ModelError) as caught:
        load_manifest(path)
    assert str(path) in caught.value.message
    assert f"{key}: " in caught.value.message
    assert rule in caught.value.message


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(ModelError) as caught:
        parse_manifest({"name": "x", "width": 3}, where="inline")
    for key in ("width", "height", "input", "scale", "postprocess"):
        assert f"{key}: " in caught.value.message


def test_unreadable_and_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't be read"):
        load_manifest(tmp_path / "absent.toml")
    with pytest.raises(ModelError, match="is not TOML"):
        load_manifest(write(tmp_path, "name = "))


def test_output_names_of_each_kind(tmp_path: Path) -> None:
    base = load_manifest(write(tmp_path, TEXT))
    ssd = base.model_copy(update={"postprocess": SsdPostprocess(kind="ssd", anchors="a.npy", boxes="b", scores="s")})
    assert ssd.output_names == ("b", "s")
    classifier = base.model_copy(update={"postprocess": ClassifierPostprocess(kind="classifier", output="p")})
    assert classifier.output_names == ("p",)
    yunet = parse_manifest(base.model_dump() | {"postprocess": {"kind": "yunet", "strides": [8, 16]}}, where="inline")
    assert yunet.output_names == (
        *("cls_8", "cls_16", "obj_8", "obj_16"),
        *("bbox_8", "bbox_16", "kps_8", "kps_16"),
    )


def test_a_fitting_signature_passes_also_with_open_axes(tmp_path: Path) -> None:
    manifest = load_manifest(write(tmp_path, TEXT))
    check_signature(manifest, {"images": (1, 3, 320, 416)}, {"output": (1, 10, 7)})
    check_signature(manifest, {"images": (None, 3, None, None)}, {"output": (1, 10, 7), "more": (1,)})


@pytest.mark.parametrize(
    ("inputs", "outputs", "both"),
    [
        ({"image": (1, 3, 320, 416)}, {"output": ()}, ("images [1,3,320,416]", "image [1,3,320,416]")),
        ({"images": (1, 3, 416, 320)}, {"output": ()}, ("[1,3,320,416]", "[1,3,416,320]")),
        ({"images": (1, 320, 416, 3)}, {"output": ()}, ("[1,3,320,416]", "[1,320,416,3]")),
        ({"images": (1, 3, 320, 416), "size": (2,)}, {"output": ()}, ("images", "size [2]")),
        ({}, {"output": ()}, ("images", "none")),
        ({"images": (1, 3, 320, 416)}, {"boxes": ()}, ("output", "boxes")),
    ],
)
def test_a_model_that_does_not_fit_is_named_with_the_manifest(
    tmp_path: Path, inputs: dict, outputs: dict, both: tuple[str, str]
) -> None:
    manifest = load_manifest(write(tmp_path, TEXT))
    with pytest.raises(ModelError) as caught:
        check_signature(manifest, inputs, outputs)
    assert "'street-boxes'" in caught.value.message
    assert all(part in caught.value.message for part in both)
    assert caught.value.advice
