"""Owns running a user's model as drafts of its manifest say, before there is a plan. Keeps nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from splitmesh.errors import ModelError, OutputError
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.bundle.weights import WEIGHTS_FILE, WeightStore
from splitmesh.plan.graph.canonical import runnable_model
from splitmesh.plan.manifest import Manifest

Array = npt.NDArray[Any]

MOST_BYTES = 1_000_000_000
"""Of all outputs for one picture."""


class Rehearsal:
    """One model whose weights lie in `folder`, an empty one, once for all drafts. A context manager."""

    def __init__(self, path: Path, model: ModelProto, folder: Path) -> None:
        """path: what messages call the model. model: becomes a skeleton. Raises OutputError if the disk is full."""
        self._path = path
        self._file = folder / "draft.onnx"
        self._weights = WeightStore(folder / WEIGHTS_FILE)
        self._model = ModelProto()
        self._model.CopyFrom(self._weights.externalise(model))

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._weights.close()

    def session(self, draft: Manifest) -> Session:
        """The model, fed as `draft` says. Raises ModelError if it does not load so."""
        model = self._weights.externalise(runnable_model(self._model, draft))
        try:
            self._file.write_bytes(model.SerializeToString())
        except OSError as exc:
            raise OutputError(f"{self._file} can't be written: {exc.strerror or exc}", path=str(self._file)) from exc
        return open_session(self._file, threads=1, providers=("cpu",), called=self._path, lean=True)

    def outputs(self, draft: Manifest, pictures: Iterable[npt.NDArray[np.uint8]]) -> list[dict[str, Array]]:
        """What the model gives for each of `pictures`, (H, W, 3) uint8 RGB.

        Raises ModelError, also for outputs of more than MOST_BYTES, and InferenceError.
        """
        session = self.session(draft)
        size = sum(math.prod(n or 1 for n in shape) * dtype.itemsize for shape, dtype in session.outputs.values())
        if size > MOST_BYTES:
            raise ModelError(
                f"model {self._path} gives {size / 1e9:.1f} GB for one picture", advice="export it for a smaller one"
            )
        normalizer = Normalizer.from_manifest(draft)
        return [session.run({draft.input: normalizer.normalize(picture)}) for picture in pictures]
