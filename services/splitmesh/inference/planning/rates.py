"""Owns measuring what each way to code a cut, or the picture, sends and keeps. Notes the time, judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, overload

import numpy as np

from splitmesh.codec.coders import FeatureCoder, PictureCoder, PictureKind, StatelessFeatures
from splitmesh.codec.registry import CODECS, FEATURE_CODECS
from splitmesh.codec.roi import RoiJpegCoder
from splitmesh.errors import CodecError, InferenceError
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.stages import Step, each
from splitmesh.inference.planning.tally import Outcome, Tally, judged, outcome_of
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import part_timing, timed
from splitmesh.inference.session import Session
from splitmesh.plan.answers.outputs import PostprocessFn
from splitmesh.plan.bundle.schema import PartTiming, RateRow
from splitmesh.plan.cuts.extract import Arrays
from splitmesh.plan.footage import Sample

Coder = FeatureCoder | PictureCoder
Way = tuple[Callable[[Sample], Any], Callable[[Any], Arrays]]
"""What of a frame is coded, and what comes of it once decoded: outputs of the model."""
SURE = 0.3
"""Score from which a box counts, as in `frames.fidelity`."""
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


def feature_coders(part: Part) -> list[FeatureCoder]:
    """Every codec × level that needs neither table nor state."""
    return [
        StatelessFeatures(codec, level, part.shapes) for codec, levels in FEATURE_CODECS.items() for level in levels
    ]


def picture_coders(whole: Whole, kind: PictureKind) -> list[PictureCoder]:
    """One per level of `kind`."""
    return [kind.make(level, (whole.manifest.height, whole.manifest.width)) for level in kind.levels]


@overload
def coder_rates(
    whole: Whole, part: Part, samples: Sequence[Sample], coders: Sequence[FeatureCoder], step: Step
) -> Measured: ...


@overload
def coder_rates(
    whole: Whole, part: None, samples: Sequence[Sample], coders: Sequence[PictureCoder], step: Step
) -> Measured: ...


def coder_rates(
    whole: Whole,
    part: Part | None,
    samples: Sequence[Sample],
    coders: Sequence[FeatureCoder] | Sequence[PictureCoder],
    step: Step,
) -> Measured:
    """A row for each of `coders`, over `samples`: of the tensors of a cut (`part`), or of the picture (None).

    A stateful one's `bytes_mean` leaves out what it sends right after a reset: that is `key_bytes`. A coder that
    fails or whose values give NaN on any frame gives no row. Raises as `coder_tallies` does.
    """
    tallies = coder_tallies(whole, part, samples, coders, step)
    return _measured(whole, "" if part is None else part.name, [*coders], tallies, samples)


def coder_tallies(
    whole: Whole,
    part: Part | None,
    samples: Sequence[Sample],
    coders: Sequence[FeatureCoder] | Sequence[PictureCoder],
    step: Step,
) -> list[Tally]:
    """What each of `coders` sent, took and kept, frame by frame; of a cut's tensors or of the picture.

    Each coder sees the samples in order, and is reset before one that does not follow the last (`Sample.follows`).
    Coders that decode to the same values share one run of the tail; one that looks at the last answer is told what
    its own gave. One that fails, or whose values give NaN, is `spoilt` from there on. Raises CodecError if all of
    them can't code, InferenceError if the head fails.
    """
    source, finish = _picture_way(whole) if part is None else _tensor_way(whole, part)
    every: list[Coder] = [*coders]
    tallies = [Tally(stateful=CODECS[coder.codec].stateful) for coder in every]
    before: Sample | None = None
    for sample in each(samples, step):
        plain = source(sample)
        known: list[tuple[Any, Outcome]] = []
        for coder, tally in zip(every, tallies, strict=True):
            if tally.spoilt:
                continue
            follows = sample.follows(before)
            if not follows:
                coder.reset()
            try:
                decoded = _coded(coder, plain, tally, follows=follows)
                outcome = _known(known, decoded)
                if outcome is None:
                    outcome = outcome_of(whole, finish(decoded), sample)
                    known.append((decoded, outcome))
            except (CodecError, InferenceError) as exc:
                tally.spoilt = f"{sample.where}: {exc.message}"
                tally.uncodable = isinstance(exc, CodecError)
            else:
                tally.add(whole.kind, outcome, whole.reference(sample))
                if isinstance(coder, RoiJpegCoder):
                    coder.saw(outcome.answer.boxes[outcome.answer.scores >= SURE])
        before = sample
    if tallies and all(tally.uncodable for tally in tallies):
        raise CodecError(tallies[0].spoilt)
    return tallies


def cut_rates(whole: Whole, part: Part, samples: Sequence[Sample], step: Step) -> Measured:
    """Every codec × level on this cut that needs neither table nor state. Raises as `coder_rates` does."""
    return coder_rates(whole, part, samples, feature_coders(part), step)


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
    tally = Tally()
    for sample in each(samples, step):
        try:
            outputs = session.run(whole.inputs(sample.picture))
        except InferenceError as exc:
            raise InferenceError(f"{sample.where}: {exc.message}") from exc
        outcome = outcome_of(whole, outputs, sample) if read is None else judged(whole, read(outputs), None, sample)
        tally.bytes.append(0)
        tally.add(whole.kind, outcome, whole.reference(sample))
    row = tally.row(whole, samples, rank=STAND_IN_RANK)
    return row.model_copy(update={"variant": variant})


def _picture_way(whole: Whole) -> Way:
    return (lambda sample: sample.picture), (lambda picture: whole.session.run(whole.inputs(picture)))


def _tensor_way(whole: Whole, part: Part) -> Way:
    return (lambda sample: part.head.run(whole.inputs(sample.picture))), part.tail.run


def _coded(coder: Any, plain: Any, tally: Tally, *, follows: bool) -> Any:
    """Through the coder and back. Raises CodecError."""
    payload, encode_ms = timed(partial(coder.encode, plain))
    decoded, decode_ms = timed(partial(coder.decode, payload))
    tally.sent(len(payload), follows=follows)
    tally.encode_ms.append(encode_ms)
    tally.decode_ms.append(decode_ms)
    return decoded


def _known(known: Sequence[tuple[Any, Outcome]], decoded: Any) -> Outcome | None:
    return next((outcome for other, outcome in known if _same(other, decoded)), None)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(np.array_equal(other[name], value) for name, value in one.items())
    return np.array_equal(one, other)


def _measured(
    whole: Whole,
    cut: str,
    coders: Sequence[Coder],
    tallies: Sequence[Tally],
    samples: Sequence[Sample],
) -> Measured:
    measured = Measured()
    for coder, tally in zip(coders, tallies, strict=True):
        codec, level = coder.codec, coder.level
        if tally.spoilt:
            measured.spoilt.append(f"{codec}-{level} of {cut or 'the picture'} is not offered: {tally.spoilt}")
            continue
        alike = [its for other, its in zip(coders, tallies, strict=True) if other.codec == codec]
        rank = sum(its.mean_bytes > tally.mean_bytes for its in alike)
        row = tally.row(whole, samples, cut=cut, codec=codec, level=level, rank=rank)
        measured.rows.append(row)
        measured.times[f"encode {row.point}"] = part_timing(tally.encode_ms)
        measured.times[f"decode {row.point}"] = part_timing(tally.decode_ms)
    return measured
