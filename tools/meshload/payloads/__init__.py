"""Owns which `--payload` is made by whom. Imports a maker, and the libraries behind it, only when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from meshload.payloads.prepared import MAX_FRAMES, MAX_PREPARED_BYTES, Prepared, Terms
from meshload.payloads.spec import Features, Files, Frames, Json, Spec, Synthetic, parse_spec

_MAKERS: dict[type[Spec], str] = {
    Frames: "meshload.payloads.pictures:frames",
    Features: "meshload.payloads.features:features",
    Files: "meshload.payloads.files:files",
    Json: "meshload.payloads.documents:document",
    Synthetic: "meshload.payloads.synthetic:synthetic",
}


def load_payloads(
    spec: str, *, model: str = "", limit_bytes: int = MAX_PREPARED_BYTES, limit_frames: int = MAX_FRAMES
) -> Prepared:
    """The payloads that requests take in turn, at least one; `meshload.payloads.spec` has the grammar of `spec`.

    model: name or ONNX file of the model to whose input pictures are brought; "": the default one.
    limit_bytes: of all payloads together. limit_frames: taken of one video.
    Raises LoadError for what is asked for wrongly, ModelError, SourceError, InferenceError for what is behind it.
    """
    asked = parse_spec(spec)
    drawn = isinstance(asked, Synthetic) and asked.content == "picture"
    module, _, function = ("meshload.payloads.pictures:drawn" if drawn else _MAKERS[type(asked)]).partition(":")
    make: Callable[[Spec, str, Terms], Prepared] = getattr(importlib.import_module(module), function)
    return make(asked, spec, Terms(model, limit_bytes, limit_frames))
