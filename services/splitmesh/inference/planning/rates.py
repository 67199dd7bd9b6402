"""Owns measuring what each way to code a cut, or the picture, sends and keeps. Notes the time, judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.codec.registry import FEATURE_CODECS, PICTURE_CODECS
from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement, tells
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.stages import Step, each, quiet
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import part_timing, timed
from splitmesh.inference.session import Session
from splitmesh.plan.answers.metrics import content_bins, metrics
from splitmesh.plan.answers.outputs import PostprocessFn
from splitmesh.plan.bundle.schema import PartTiming, RateRow
from splitmesh.plan.calibrate import fidelity_estimate
from splitmesh.plan.cuts.choose import Screened
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.footage import Sample

F64 = npt.NDArray[np.float64]
Coding = tuple[str, int]
"""Codec and level."""
SCREENED_CODEC = "u8zstd"
SCREENED_LEVELS = (8, 5, 3)
SCREENED_LOSS = 0.02
"""A cut is judged at the coarsest level that keeps so nearly what its finest one keeps."""
STAND_IN_RANK = 4
"""What a model that stands in for another is taken to keep before any evidence: as little as the coarsest level."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows, and the times of coding: "encode <point>", "decode <point>"."""

    rows: list[RateRow] = field(default_factory=list)
    times: dict[str, PartTiming] = field(default_factory=dict)
    spoilt: list[str] = field(default_factory=list)
    """Points that can't be offered, with the reason."""

    def extend(self, other: Measured) -> None:
        self.rows.extend(other.rows)
        self.times.update(other.times)
        self.spoilt.extend(other.spoilt)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What decoded tensors gave for one frame."""

    answer: Answer
    agreement: float
    told: bool
    distributions: tuple[F64, F64] | None


@dataclass(slots=True)
class _Tally:
    """One codec level over the frames."""

    bytes: list[int] = field(default_factory=list)
    encode_ms: list[float] = field(default_factory=list)
    decode_ms: list[float] = field(default_factory=list)
    outcomes: list[_Outcome] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    """Per frame, instead of the answers themselves where those are large and the metrics are means over frames."""
    spoilt: str = ""

    def add(self, kind: str, outcome: _Outcome, reference: Answer) -> None:
        if kind == "tensor":
            self.scores.append(metrics(kind, [outcome.answer], [reference]))
            outcome = _Outcome(Answer.empty(), outcome.agreement, outcome.told, None)
        self.outcomes.append(outcome)

    def metrics(self, kind: str, references: Sequence[Answer]) -> dict[str, float]:
        if kind == "tensor":
            names = sorted({name for score in self.scores for name in score})
            return {name: float(np.mean([s[name] for s in self.scores if name in s])) for name in names}
        pairs = [o.distributions for o in self.outcomes if o.distributions is not None]
        return metrics(kind, [o.answer for o in self.outcomes], references, distributions=pairs)


def cut_rates(
    whole: Whole,
    part: Part,
    samples: Sequence[Sample],
    step: Step,
    codecs: Mapping[str, Sequence[int]] = FEATURE_CODECS,
) -> Measured:
    """Every codec × level on this cut, over `samples`. Those that decode to the same tensors share one tail run.

    A level that gives NaN on any frame is no row. Raises CodecError if the cut's tensors can't be coded at all,
    InferenceError if the head fails.
    """
    tallies = {(codec, level): _Tally() for codec, levels in codecs.items() for level in levels}
    for sample in each(samples, step):
        tensors = part.head.run(whole.inputs(sample.picture))
        known: list[tuple[Arrays, _Outcome]] = []
        for (codec, level), tally in tallies.items():
            payload, encode_ms = timed(partial(encode_features, tensors, codec=codec, level=level))
            decoded, decode_ms = timed(partial(decode_features, payload, expect=part.shapes))
            tally.bytes.append(len(payload))
            tally.encode_ms.append(encode_ms)
            tally.decode_ms.append(decode_ms)
            outcome = _known(known, decoded)
            if outcome is None and not tally.spoilt:
                try:
                    outcome = _outcome(whole, part.tail.run(decoded), sample)
                    known.append((decoded, outcome))
                except InferenceError as exc:
                    tally.spoilt = f"{sample.where}: {exc.message}"
            if outcome is not None:
                tally.add(whole.kind, outcome, whole.reference(sample))
    return _measured(whole, part.name, tallies, samples)


def picture_rates(whole: Whole, samples: Sequence[Sample], step: Step) -> Measured:
    """Every picture codec × quality on the model's input picture."""
    tallies = {(codec, level): _Tally() for codec, levels in PICTURE_CODECS.items() for level in levels}
    size = (whole.manifest.height, whole.manifest.width)
    for sample in each(samples, step):
        for (_, quality), tally in tallies.items():
            payload, encode_ms = timed(partial(encode_picture, sample.picture, quality=quality))
            decoded, decode_ms = timed(partial(decode_picture, payload, expect=size))
            tally.bytes.append(len(payload))
            tally.encode_ms.append(encode_ms)
            tally.decode_ms.append(decode_ms)
            if tally.spoilt:
                continue
            try:
                outcome = _outcome(whole, whole.session.run(whole.inputs(decoded)), sample)
                tally.add(whole.kind, outcome, whole.reference(sample))
            except InferenceError as exc:
                tally.spoilt = f"{sample.where}: {exc.message}"
    return _measured(whole, "", tallies, samples)


def local_rates(
    whole: Whole,
    session: Session,
    samples: Sequence[Sample],
    step: Step,
    *,
    variant: str,
    read: PostprocessFn | None = None,
) -> RateRow:
    """What a model that stands in for the whole keeps. It takes the same inputs; nothing is sent.

    read: makes answers in the whole's classes of its outputs; None: they are those of the whole. Raises
    InferenceError, naming the frame, if it fails.
    """
    tally = _Tally()
    for sample in each(samples, step):
        try:
            outputs = session.run(whole.inputs(sample.picture))
        except InferenceError as exc:
            raise InferenceError(f"{sample.where}: {exc.message}") from exc
        outcome = _outcome(whole, outputs, sample) if read is None else _judged(whole, read(outputs), None, sample)
        tally.bytes.append(0)
        tally.add(whole.kind, outcome, whole.reference(sample))
    row = _row(whole, tally, samples, rank=STAND_IN_RANK)
    return row.model_copy(update={"variant": variant})


def screen(whole: Whole, part: Part, samples: Sequence[Sample]) -> Screened:
    """What the cut sends and keeps at the coarsest of three levels that is nearly as faithful as the finest.

    Raises CodecError or InferenceError if the cut can't be coded.
    """
    measured = cut_rates(whole, part, samples, quiet, {SCREENED_CODEC: SCREENED_LEVELS})
    if not measured.rows:
        raise InferenceError(f"no level of {SCREENED_CODEC} can be used: {'; '.join(measured.spoilt)}")
    rows = sorted(measured.rows, key=lambda row: -row.level)
    best = max(row.agreement for row in rows)
    good = [row for row in rows if row.agreement >= best - SCREENED_LOSS]
    chosen = min(good, key=lambda row: row.bytes_mean)
    return Screened(bytes_mean=chosen.bytes_mean, fidelity=chosen.agreement)


def _outcome(whole: Whole, outputs: Mapping[str, npt.NDArray[Any]], sample: Sample) -> _Outcome:
    return _judged(whole, whole.answer(outputs), whole.distribution(outputs), sample)


def _judged(whole: Whole, answer: Answer, mine: F64 | None, sample: Sample) -> _Outcome:
    reference, theirs = whole.reference(sample), whole.reference_distribution(sample)
    return _Outcome(
        answer,
        agreement(whole.kind, answer, reference),
        tells(whole.kind, answer, reference),
        (mine, theirs) if mine is not None and theirs is not None else None,
    )


def _known(known: Sequence[tuple[Arrays, _Outcome]], decoded: Arrays) -> _Outcome | None:
    for other, outcome in known:
        if all(np.array_equal(other[name], value) for name, value in decoded.items()):
            return outcome
    return None


def _measured(whole: Whole, cut: str, tallies: Mapping[Coding, _Tally], samples: Sequence[Sample]) -> Measured:
    measured = Measured()
    for (codec, level), tally in tallies.items():
        if tally.spoilt:
            measured.spoilt.append(f"{codec}-{level} of {cut or 'the picture'} is not offered: {tally.spoilt}")
            continue
        levels = sorted((n for c, n in tallies if c == codec), reverse=True)
        row = _row(whole, tally, samples, cut=cut, codec=codec, level=level, rank=levels.index(level))
        measured.rows.append(row)
        measured.times[f"encode {row.point}"] = part_timing(tally.encode_ms)
        measured.times[f"decode {row.point}"] = part_timing(tally.decode_ms)
    return measured


def _row(
    whole: Whole,
    tally: _Tally,
    samples: Sequence[Sample],
    *,
    rank: int,
    cut: str = "",
    codec: str = "",
    level: int = 0,
) -> RateRow:
    agreements = [outcome.agreement for outcome in tally.outcomes]
    told = [outcome.told for outcome in tally.outcomes]
    references = [whole.reference(sample) for sample in samples]
    return RateRow(
        cut=cut,
        codec=codec,
        level=level,
        bytes_mean=float(np.mean(tally.bytes)),
        bytes_p95=float(np.quantile(tally.bytes, 0.95)),
        fidelity=fidelity_estimate(agreements, told, rank=rank),
        agreement=float(np.mean(agreements)),
        metrics=tally.metrics(whole.kind, references),
        bins=content_bins(whole.kind, agreements, references, [sample.motion for sample in samples]),
    )
