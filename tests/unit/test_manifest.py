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
        ('fit = "letterbox"', 'layout = "flat"', "manifest", 'shape must be given with layout "flat"'),
        ('fit = "letterbox"', "shape = [1, 3]", "manifest", "only then"),
        ('fit = "letterbox"', 'layout = "flat"\nshape = [4, 1000000]', "manifest", "more than 3 x height x width"),
        ("[postprocess]", '[[extra]]\nname = "images"\n[postprocess]', "manifest", "must not name one input twice"),
        ("[postprocess]", "[[extra]]\nvalue = 1\n[postprocess]", "extra.0.name", "required"),
        (
            "[postprocess]",
            '[[extra]]\nname = "s"\nvalue = [1, 2]\nshape = [3]\n[postprocess]',
            "extra.0",
            "value must have 3 numbers for shape [3]",
        ),
        ('kind = "yolox"', 'kind = "detections"', "postprocess", "give `output` with `columns`, or `boxes` and"),
        (
            'kind = "yolox"',
            'kind = "detections"\noutput = "o"\ncolumns = ["score", "x_min", "y_min", "width", "x_max"]',
            "postprocess",
            "columns must name score and one of",
        ),
        (
            'kind = "yolox"',
            'kind = "detections"\noutput = "o"\ncolumns = ["score", "score", "x_min", "y_min", "x_max", "y_max"]',
            "postprocess",
            "one thing twice",
        ),
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


@pytest.mark.parametrize(
    ("post", "names"),
    [
        ({"kind": "yolo"}, ("output0",)),
        ({"kind": "detections", "output": "rows"}, ("rows",)),
        ({"kind": "detections", "boxes": "b", "scores": "s", "count": "n"}, ("b", "s", "n")),
        ({"kind": "centernet"}, ("heatmap", "size")),
        ({"kind": "centernet", "offset": "reg"}, ("heatmap", "size", "reg")),
        ({"kind": "segmentation", "output": "m"}, ("m",)),
        ({"kind": "tensor"}, ()),
        ({"kind": "tensor", "outputs": ["a", "b"]}, ("a", "b")),
    ],
)
def test_output_names_of_the_further_kinds(tmp_path: Path, post: dict, names: tuple[str, ...]) -> None:
    base = load_manifest(write(tmp_path, TEXT))
    assert parse_manifest(base.model_dump() | {"postprocess": post}, where="inline").output_names == names


def test_only_raw_outputs_do_without_labels(tmp_path: Path) -> None:
    base = load_manifest(write(tmp_path, TEXT)).model_dump() | {"labels": []}
    assert parse_manifest(base | {"postprocess": {"kind": "tensor"}}, where="inline").labels == ()
    with pytest.raises(ModelError, match="labels must name at least 1 class"):
        parse_manifest(base | {"postprocess": {"kind": "yolo"}}, where="inline")


OTHER = {"scale_factor": (1, 2), "right": (1, 3, 64, 64), "mask": (None, 7)}


@pytest.mark.parametrize(
    ("change", "shape", "fits"),
    [
        ({}, (1, 3, 320, 416), True),
        ({}, (1, 1, 320, 416), True),
        ({}, (None, None, None, None), True),
        ({}, (1, 4, 320, 416), False),
        ({}, (10, 3, 320, 416), True),
        ({}, (3, 320, 416), True),
        ({}, (320, 416), False),
        ({"layout": "NHWC"}, (320, 416, 3), True),
        ({"layout": "NHWC"}, (3, 320, 416), False),
        ({"layout": "NHWC"}, (1, 320, 416, 3), True),
        ({"layout": "NHWC"}, (None, None, 416, 1), True),
        ({"layout": "NHWC"}, (1, 3, 320, 416), False),
        ({"layout": "flat", "shape": (10, 3, 32, 32)}, (10, 3, 32, 32), True),
        ({"layout": "flat", "shape": (10, 3, 32, 32)}, (None, 3, None, 32), True),
        ({"layout": "flat", "shape": (1, 3)}, (1, 1), False),
        ({"layout": "flat", "shape": ()}, (), True),
    ],
)
def test_signatures_of_all_layouts(tmp_path: Path, change: dict, shape: tuple, fits: bool) -> None:
    base = load_manifest(write(tmp_path, TEXT)).model_dump()
    manifest = parse_manifest(base | change, where="inline")
    if fits:
        check_signature(manifest, {"images": shape}, {"output": ()})
        return
    with pytest.raises(ModelError, match=r"images.*the model has images") as caught:
        check_signature(manifest, {"images": shape}, {"output": ()})
    assert "layout" in caught.value.advice


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ([{"name": "scale_factor"}, {"name": "mask", "value": 1, "shape": [2, 7]}], None),
        ([{"name": "mask"}], "gives no value for scale_factor"),
        ([{"name": "scale_factor"}, {"name": "mask", "shape": [2, 8]}], "says extra input mask \\[2,8\\]"),
        (
            [{"name": "scale_factor"}, {"name": "mask"}, {"name": "more"}],
            "says extra input more, the model has images",
        ),
    ],
)
def test_every_other_input_gets_a_value_or_the_picture(tmp_path: Path, extra: list, says: str | None) -> None:
    base = load_manifest(write(tmp_path, TEXT)).model_dump()
    manifest = parse_manifest(base | {"extra": extra}, where="inline")
    inputs = {"images": (1, 3, 320, 416)} | OTHER
    if says is None:
        check_signature(manifest, inputs, {"output": ()})
        return
    with pytest.raises(ModelError, match=says) as caught:
        check_signature(manifest, inputs, {"output": ()})
    assert "[[extra]]" in caught.value.advice


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
