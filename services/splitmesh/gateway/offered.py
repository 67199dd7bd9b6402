"""Owns what the gateway knows of each model on offer, without its weights: name, file, input picture, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from splitmesh.errors import SettingsError, UnknownName
from splitmesh.frames.geometry import Fit
from splitmesh.gateway.pictures import InputPicture
from splitmesh.plan.manifest import Manifest
from splitmesh.provision.model import provide_model
from splitmesh.provision.parts import Progress
from splitmesh.wire.subjects import check_token


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model that pictures can be sent for."""

    manifest: Manifest
    sha256: str
    """Of the model file: workers must hold the same."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def input_picture(self) -> InputPicture:
        m = self.manifest
        return InputPicture(m.width, m.height, Fit(m.fit), m.pad_value)


class Offer:
    """The models by name, the first of which is meant where none is named."""

    def __init__(self, models: Sequence[OfferedModel]) -> None:
        """Raises SettingsError for two of one name."""
        self._models = {model.name: model for model in models}
        if len(self._models) < len(models):
            raise SettingsError("two models on offer have one name", key="models")
        self._first = models[0]

    def find(self, name: str) -> OfferedModel:
        """Raises UnknownName."""
        if not name:
            return self._first
        try:
            return self._models[name]
        except KeyError:
            known = ", ".join(self._models)
            raise UnknownName(f"no model {name[:80]!r} is offered, only {known}", field="model", name=name) from None

    @property
    def models(self) -> list[OfferedModel]:
        return list(self._models.values())


def load_offer(names: Sequence[str], progress: Progress) -> Offer:
    """Catalogue names or ONNX files. Slow the first time. Raises ModelError, SettingsError."""
    models = []
    for name in names:
        resolved = provide_model(name, None, progress)
        check_token(resolved.manifest.name, field="model")
        models.append(OfferedModel(resolved.manifest, resolved.sha256))
    return Offer(models)
