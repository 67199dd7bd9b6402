"""Owns what a guess about answers looks at, graph and samples side by side, and the form that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.plan.guess.facts import Facts, Port
from splitmesh.plan.guess.feed import CAFFE, TENSORFLOW, TORCH, Feed
from splitmesh.plan.guess.labels import METADATA_KEYS, labels_by_count, labels_from
from splitmesh.plan.manifest import Shape
from splitmesh.plan.manifest_kinds import Postprocess

Array = npt.NDArray[Any]
_SLACK = 1e-3
_ENOUGH = 4_000_000
"""Numbers of one sample that are looked at."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output. shape: of the first sample, else as the file declares it. samples: its values, one per picture."""

    port: Port
    shape: Shape
    samples: tuple[Array, ...]
    closing: frozenset[str]
    """The operators that made its numbers."""

    @property
    def name(self) -> str:
        return self.port.name

    @property
    def inner(self) -> Shape:
        """The last two axes, and what stands before them but is not 1."""
        shape = self.shape
        while len(shape) > 2 and shape[0] == 1:
            shape = shape[1:]
        return shape

    @property
    def numbers(self) -> npt.NDArray[np.float64]:
        """The samples' elements, one after the other; of very many, those of evenly spread rows."""
        return self.rows.ravel()

    @property
    def rows(self) -> npt.NDArray[np.float64]:
        """The samples' rows along the last axis, (N, K)."""
        if not self.samples:
            return np.zeros((0, self.shape[-1] or 1 if self.shape else 1))
        return np.concatenate([thinned(s.reshape(-1, s.shape[-1] if s.ndim else 1)) for s in self.samples])

    @property
    def pictures(self) -> npt.NDArray[np.float64]:
        """One row of all numbers per sample."""
        return self.numbers.reshape(len(self.samples), -1)

    @property
    def is_unit(self) -> bool:
        """Seen, and nowhere outside [0, 1]."""
        return within(self.numbers, 0.0, 1.0)

    @property
    def is_whole(self) -> bool:
        """Of an integer type, or seen and without fractions."""
        numbers = self.numbers
        return not self.port.is_float or bool(numbers.size and (numbers == np.rint(numbers)).all())

    def __str__(self) -> str:
        return f"`{self.name}` ({', '.join('?' if n is None else str(n) for n in self.shape)})"


def thinned(rows: Array) -> npt.NDArray[np.float64]:
    """(N, K) as float64; of more numbers than need be looked at, every so manieth row."""
    return rows[:: 1 + rows.size // _ENOUGH].astype(np.float64)


def within(numbers: npt.NDArray[np.float64], low: float, high: float) -> bool:
    """There are numbers, and all lie in [low, high], give or take rounding."""
    return bool(numbers.size and numbers.min() >= low - _SLACK and numbers.max() <= high + _SLACK)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known of a model's outputs at one size of the picture."""

    facts: Facts
    height: int
    width: int
    outputs: tuple[Output, ...]

    @staticmethod
    def of(facts: Facts, height: int, width: int, samples: Sequence[Mapping[str, Array]]) -> Evidence:
        """samples: outputs by name, one mapping per made-up picture; none where the model could not be run."""
        outputs = []
        for port in facts.outputs:
            values = tuple(sample[port.name] for sample in samples if port.name in sample)
            shape = values[0].shape if values else port.shape
            outputs.append(Output(port, shape, values, facts.closing[port.name]))
        return Evidence(facts, height, width, tuple(outputs))

    @property
    def suppresses(self) -> bool:
        """The graph suppresses overlapping boxes itself."""
        return any("NonMaxSuppression" in op or "NMS" in op for op in self.facts.operators)

    @property
    def is_ultralytics(self) -> bool:
        """The file says who exported it, or has the metadata that they write."""
        metadata = self.facts.metadata
        return "ultralytics" in metadata.get("author", "").lower() or {"stride", "names", "imgsz"} <= metadata.keys()

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The classes that the file's metadata names, if it does."""
        found = (labels_from(self.facts.said(key)) for key in METADATA_KEYS)
        return next((labels for labels in found if labels), ())

    @property
    def usual(self) -> Feed:
        """How models of this file's origin are usually fed."""
        if self.facts.producer.startswith(("tf", "keras", "tensorflow")):
            return TENSORFLOW
        return CAFFE if "caffe" in self.facts.producer else TORCH

    def labels(self, count: int) -> tuple[tuple[str, ...], str]:
        """Names for `count` classes, and a sentence on where they are from."""
        named = self.named_classes
        if len(named) == count:
            return named, f"the labels are those in the file's metadata ({count})"
        labels, whose = labels_by_count(count)
        if whose:
            return labels, f"took {whose} names as the labels, because there are {count} classes"
        if count == 1:
            return labels, "the label is #0, because the file does not name its one class"
        return labels, f"the labels are #0 to #{count - 1}, because the file does not name its classes"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model's outputs seem to mean."""

    post: Postprocess
    labels: tuple[str, ...]
    feed: Feed
    said: tuple[str, ...]
    """Sentences: what was taken for what, and why."""
