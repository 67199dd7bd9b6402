"""A second model on the first one's tensor sees the same picture as on its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from plan_graphs import SIZE, residual_classifier

from splitmesh.errors import ModelError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import open_session
from splitmesh.plan.graph.refeed import refed
from splitmesh.plan.manifest import Manifest, parse_manifest

OWN: dict[str, Any] = {
    "name": "small",
    "input": "image",
    "width": SIZE,
    "height": SIZE,
    "color": "BGR",
    "scale": [1 / 58, 1 / 57, 1 / 57],
    "offset": [-2.1, -2.0, -1.8],
    "labels": [f"c{i}" for i in range(10)],
    "licence": "ours",
    "source": "test",
    "postprocess": {"kind": "classifier", "output": "logits"},
}


def manifest(**changes: object) -> Manifest:
    return parse_manifest({**OWN, **changes}, where="test")


def picture(size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: a smooth picture, in which each channel differs."""
    coarse = np.random.default_rng(2).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    "other",
    [
        {"input": "tensor", "scale": [2 / 255] * 3, "offset": [-1.0] * 3, "color": "RGB"},
        {"input": "image", "scale": [1.0, 2.0, 3.0], "offset": [5.0, 0.0, -7.0]},
        {"input": "tensor", "width": 2 * SIZE, "height": 3 * SIZE, "color": "RGB"},
        {"input": "tensor", "width": SIZE // 2, "height": SIZE, "scale": [1 / 255] * 3, "offset": [0.0] * 3},
    ],
)
def test_it_sees_what_it_would_see_alone(tmp_path: Path, other: dict[str, object]) -> None:
    own, large = manifest(), manifest(**{**other, "name": "large"})
    alone, beside = tmp_path / "alone.onnx", tmp_path / "beside.onnx"
    onnx.save(residual_classifier(), alone)
    model = refed(residual_classifier(), own, large)
    onnx.checker.check_model(model)
    onnx.save(model, beside)
    rgb = picture((large.height, large.width))
    whole = Image.fromarray(rgb)
    # The runtime's bilinear resize does not low-pass; PIL's `transform` at the same centres does not either.
    shrunk = np.asarray(
        whole.transform(
            (SIZE, SIZE), Image.Transform.EXTENT, (0, 0, large.width, large.height), Image.Resampling.BILINEAR
        )
    )
    wanted = open_session(alone).run({"image": Normalizer.from_manifest(own).normalize(shrunk)})["logits"]
    session = open_session(beside)
    assert list(session.inputs) == [large.input]
    found = session.run({large.input: Normalizer.from_manifest(large).normalize(rgb)})["logits"]
    np.testing.assert_allclose(found, wanted, atol=0.02 * float(np.abs(wanted).max()))


def test_old_opsets_are_refused() -> None:
    model = residual_classifier()
    model.opset_import[0].version = 9
    with pytest.raises(ModelError, match="opset 9"):
        refed(model, manifest(), manifest(name="large"))


def test_a_name_that_is_taken_inside_is_refused() -> None:
    with pytest.raises(ModelError, match="stem_relu"):
        refed(residual_classifier(), manifest(), manifest(name="large", input="stem_relu"))
