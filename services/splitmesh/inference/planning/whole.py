"""Owns the unsplit model while a plan is made: its outputs and answers, which everything is held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import tells
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.session import Session, open_session
from splitmesh.plan.answers.metrics import distribution
from splitmesh.plan.answers.postprocess import PostprocessFn
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.footage import Rgb, Sample
from splitmesh.plan.manifest import Manifest
from splitmesh.plan.manifest_kinds import ClassifierPostprocess

F64 = npt.NDArray[np.float64]
HELD_BYTES = 128_000_000
"""Outputs of the whole model that are kept in memory for parity; what is beyond is computed again for each cut."""


class Whole:
    """The whole model with its manifest."""

    def __init__(self, manifest: Manifest, session: Session, postprocess: PostprocessFn) -> None:
        self.manifest = manifest
        self.kind: str = manifest.postprocess.kind
        self.session = session
        self.answer = postprocess
        self._normalizer = Normalizer.from_manifest(manifest)
        self._outputs: dict[str, Arrays] = {}
        self._held_bytes = 0
        self._answers: dict[str, tuple[Answer, F64 | None]] = {}

    def inputs(self, picture: Rgb) -> Arrays:
        """Model inputs for one picture (H, W, 3) uint8 RGB at model size."""
        return {self.manifest.input: self._normalizer.normalize(picture)}

    def outputs(self, sample: Sample) -> Arrays:
        """Raises InferenceError, naming frame and output, where the model itself gives NaN or Inf."""
        try:
            return self.session.run(self.inputs(sample.picture))
        except InferenceError as exc:
            raise InferenceError(f"{sample.where}: {exc.message}", advice=exc.advice) from exc

    def cases(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Arrays, Arrays]]:
        """Each sample with inputs and the whole model's outputs. May be asked again for the same samples."""
        for sample in samples:
            outputs = self._outputs.get(sample.where)
            if outputs is None:
                outputs = self.outputs(sample)
                size = sum(value.nbytes for value in outputs.values())
                if self._held_bytes + size <= HELD_BYTES:
                    self._held_bytes += size
                    self._outputs[sample.where] = outputs
            yield sample, self.inputs(sample.picture), outputs

    def reference(self, sample: Sample) -> Answer:
        """The whole model's own answer, computed once per frame."""
        return self._reference(sample)[0]

    def tells(self, sample: Sample) -> bool:
        """False where the whole model finds nothing: finding nothing too then proves nothing."""
        answer = self.reference(sample)
        return tells(self.kind, answer, answer)

    def reference_distribution(self, sample: Sample) -> F64 | None:
        """The class probabilities (C,) that the whole model gives; None for other kinds than classifiers."""
        return self._reference(sample)[1]

    def _reference(self, sample: Sample) -> tuple[Answer, F64 | None]:
        if sample.where not in self._answers:
            outputs = self._outputs.get(sample.where) or self.outputs(sample)
            self._answers[sample.where] = (self.answer(outputs), self.distribution(outputs))
        return self._answers[sample.where]

    def forget_outputs(self) -> None:
        """Parity is over: give their memory back."""
        self._outputs.clear()
        self._held_bytes = 0

    def distribution(self, outputs: Mapping[str, npt.NDArray[Any]]) -> F64 | None:
        """A classifier's class probabilities (C,); None for other kinds."""
        post = self.manifest.postprocess
        if not isinstance(post, ClassifierPostprocess):
            return None
        return distribution(outputs[post.output], post.activation)

    def deterministic(self, sample: Sample, path: Path, providers: Sequence[str]) -> bool:
        """The same frame gives the same bits twice, and in a second session on the file `path`."""
        first, again = self.outputs(sample), self.outputs(sample)
        if not same_bits(first, again):
            return False
        other = open_session(path, threads=self.session.threads, providers=providers, lean=True)
        return same_bits(first, other.run(self.inputs(sample.picture)))


def same_bits(one: Arrays, other: Arrays) -> bool:
    """Equal names, shapes and bytes."""
    return one.keys() == other.keys() and all(
        value.shape == other[name].shape and value.tobytes() == other[name].tobytes() for name, value in one.items()
    )
