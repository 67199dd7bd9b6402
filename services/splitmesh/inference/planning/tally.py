"""Owns what one coder at one level sent, took and kept over the frames, until it is a row of the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement, tells
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.answers.metrics import content_bins, metrics
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.calibrate import fidelity_estimate
from splitmesh.plan.footage import Sample

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What decoded tensors, or a decoded picture, gave for one frame."""

    answer: Answer
    agreement: float
    told: bool
    distributions: tuple[F64, F64] | None


def outcome_of(whole: Whole, outputs: Mapping[str, npt.NDArray[Any]], sample: Sample) -> Outcome:
    """Outputs of the model's own kind, held against its own answer."""
    return judged(whole, whole.answer(outputs), whole.distribution(outputs), sample)


def judged(whole: Whole, answer: Answer, mine: F64 | None, sample: Sample) -> Outcome:
    """mine: class probabilities (C,) behind the answer, if it has any."""
    reference, theirs = whole.reference(sample), whole.reference_distribution(sample)
    return Outcome(
        answer,
        agreement(whole.kind, answer, reference),
        tells(whole.kind, answer, reference),
        (mine, theirs) if mine is not None and theirs is not None else None,
    )


@dataclass(slots=True)
class Tally:
    """One coder over the frames."""

    stateful: bool = False
    bytes: list[int] = field(default_factory=list)
    key_bytes: list[int] = field(default_factory=list)
    """Of a stateful coder: payloads that follow nothing. They are not in `bytes`."""
    encode_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    """Per frame, instead of the answers themselves where those are large and the metrics are means over frames."""
    spoilt: str = ""
    """Why it gives no row."""
    uncodable: bool = False
    """The reason is the coder's own."""

    @property
    def mean_bytes(self) -> float:
        """Of payloads that follow another, where the coder is stateful and there are any; 0 before the first."""
        return float(np.mean(self.bytes or self.key_bytes or [0]))

    def sent(self, size: int, *, follows: bool) -> None:
        (self.bytes if follows or not self.stateful else self.key_bytes).append(size)

    def add(self, kind: str, outcome: Outcome, reference: Answer) -> None:
        if kind == "tensor":
            self.scores.append(metrics(kind, [outcome.answer], [reference]))
            outcome = Outcome(Answer.empty(), outcome.agreement, outcome.told, None)
        self.outcomes.append(outcome)

    def row(
        self, whole: Whole, samples: Sequence[Sample], *, rank: int, cut: str = "", codec: str = "", level: int = 0
    ) -> RateRow:
        """rank: places below the finest level of its codec; see `fidelity_estimate`."""
        agreements = [outcome.agreement for outcome in self.outcomes]
        told = [outcome.told for outcome in self.outcomes]
        references = [whole.reference(sample) for sample in samples]
        sizes = self.bytes or self.key_bytes
        return RateRow(
            cut=cut,
            codec=codec,
            level=level,
            bytes_mean=self.mean_bytes,
            bytes_p95=float(np.quantile(sizes, 0.95)),
            key_bytes=float(np.mean(self.key_bytes)) if self.key_bytes else 0.0,
            fidelity=fidelity_estimate(agreements, told, rank=rank),
            agreement=float(np.mean(agreements)),
            metrics=self._metrics(whole.kind, references),
            bins=content_bins(whole.kind, agreements, references, [sample.motion for sample in samples]),
        )

    def _metrics(self, kind: str, references: Sequence[Answer]) -> dict[str, float]:
        if kind == "tensor":
            names = sorted({name for score in self.scores for name in score})
            return {name: float(np.mean([s[name] for s in self.scores if name in s])) for name in names}
        pairs = [o.distributions for o in self.outcomes if o.distributions is not None]
        return metrics(kind, [o.answer for o in self.outcomes], references, distributions=pairs)
