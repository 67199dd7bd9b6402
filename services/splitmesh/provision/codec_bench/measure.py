"""Owns measuring a plan's codecs and those of the picture on the same frames. Chooses no level itself."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from splitmesh.codec.coders import FeatureCoder, PictureCoder
from splitmesh.errors import CodecError, ModelError, SourceError
from splitmesh.frames.fidelity import counts_objects, measure_of, tells
from splitmesh.inference.planning.parity import Part, open_part
from splitmesh.inference.planning.rates import coder_tallies
from splitmesh.inference.planning.stages import Step, each, quiet, slice_of, stage
from splitmesh.inference.planning.tally import Tally
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.profile import take_turns
from splitmesh.inference.session import open_session
from splitmesh.plan.bundle.read import Bundle
from splitmesh.plan.footage import Footage, Sample, evenly
from splitmesh.provision.codec_bench.candidates import C, Candidate, feature_candidates, picture_candidates
from splitmesh.provision.codec_bench.curves import DECIDED, PICTURE, Comparison, Curve, CurvePoint, CutTimes
from splitmesh.provision.codec_bench.sweep import PROBED, bracketing_levels

PROBE_FRAMES = 20
"""Frames that levels are chosen on."""
SEARCHED = (32, 144)
"""Levels between which those of interest lie: a step of four to of a 1024th of the largest component's deviation."""
TIMED_RUNS = 15

F64 = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]
Measurer = Callable[[Sequence[Sample], Sequence[C], Step], list[Tally]]
"""What coders do on some frames, of one cut or of the picture."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be compared; (): all there is."""

    cuts: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ()
    worst: float = PROBED[0]
    """Fidelity that the levels of tensors' codecs begin with, about."""


def compare_codecs(
    bundle: Bundle,
    footage: Footage,
    wanted: Wanted,
    *,
    source: Mapping[str, str],
    calibrated_on_this_footage: bool,
    progress: Progress,
) -> Comparison:
    """Rate and fidelity of every codec at every cut of `bundle`, and of the codecs of the picture, on all frames.

    One thread. source: names for the record. progress: told "reference", "pictures" and "cut NAME". Raises ModelError
    for a cut that is not there, InferenceError if the model fails on a frame, CodecError if no codec can code a cut's
    tensors, SourceError if the model finds nothing in any frame: nothing could be judged.
    """
    with threadpool_limits(1):  # matrices are multiplied on one thread too: times are of one core
        return _compared(bundle, footage, wanted, source, calibrated_on_this_footage, progress)


def _compared(
    bundle: Bundle,
    footage: Footage,
    wanted: Wanted,
    source: Mapping[str, str],
    calibrated_on_this_footage: bool,
    progress: Progress,
) -> Comparison:
    cuts = [bundle.cut(name) for name in wanted.cuts] or list(bundle.cuts)
    if not cuts:
        raise ModelError(f"plan {bundle.folder} has no cut", advice="there are no tensors to code")
    session = open_session(bundle.full_path, threads=1)
    whole = Whole(bundle.manifest, session, bundle.postprocess())
    samples = footage.samples
    judged = _judged(whole, samples, source.get("video", ""), stage(progress, "reference"))
    curves: list[Curve] = []
    part_ms: dict[str, CutTimes] = {}
    size = (bundle.manifest.height, bundle.manifest.width)
    pictures, left_out = picture_candidates(size, objects=counts_objects(whole.kind))
    work: Measurer[PictureCoder] = partial(_on_picture, whole)
    bench = _Bench(PICTURE, prod(size) * 3, samples, stage(progress, "pictures"), curves, left_out, wanted.worst)
    bench.run(pictures, work)
    for cut in cuts:
        part = open_part(
            cut.name, cut.shapes, (bundle.head_path(cut.name), bundle.tail_path(cut.name)), threads=1,
            providers=("auto",),
        )  # fmt: skip
        known, missing = feature_candidates(cut.shapes, bundle.table(cut.name))
        candidates = [each for each in known if not wanted.codecs or each.name in wanted.codecs]
        left_out += [f"{reason.replace(':', f' of {cut.name}:', 1)}" for reason in missing]
        step = stage(progress, f"cut {cut.name}")
        bench = _Bench(cut.name, cut.elements, samples, step, curves, left_out, wanted.worst)
        bench.run(candidates, partial(_on_cut, whole, part))
        part_ms[cut.name] = _times(whole, part, samples[0])
    frames = {"judged": judged}
    if whole.kind == "classifier":
        frames["decided"] = sum(_is_decided(whole.reference_distribution(sample)) for sample in samples)
    stills = sum(len(clip.pictures) for clip in footage.clips if clip.interval_ms is None)
    return Comparison(
        model=bundle.manifest.name,
        measure=measure_of(whole.kind),
        frames={"video": len(samples) - stills, "images": stills, **frames},
        calibrated_on_this_footage=calibrated_on_this_footage,
        curves=tuple(curves),
        part_ms=part_ms,
        left_out=tuple(left_out),
        source=source,
    )


def _judged(whole: Whole, samples: Sequence[Sample], url: str, step: Step) -> int:
    """How many frames show something. Raises SourceError if none does."""
    answers = [whole.reference(sample) for sample in each(samples, step)]
    judged = sum(tells(whole.kind, answer, answer) for answer in answers)
    if not judged:
        raise SourceError(
            f"the model finds nothing in any of the {len(samples)} frames, so that no codec can be judged by them",
            url=url,
            advice="take a video, or a later part of it, that shows what the model looks for",
        )
    return judged


@dataclass(slots=True)
class _Bench:
    """The curves of one cut, or of the picture."""

    cut: str
    elements: int
    samples: Sequence[Sample]
    step: Step
    curves: list[Curve]
    left_out: list[str]
    worst: float

    def run(self, candidates: Sequence[Candidate[C]], work: Measurer[C]) -> None:
        """Levels first, on a few frames; then all levels of all codecs on each frame, so that they share its head."""
        few = evenly(self.samples, PROBE_FRAMES)
        swept = [
            (candidate, self._levels(candidate, few, work))
            for candidate in each(candidates, slice_of(self.step, 0, 4))
        ]
        coders = [(candidate, candidate.make(level)) for candidate, levels in swept for level in levels]
        share = partial(_last_three_quarters, self.step)
        tallies = work(self.samples, [coder for _, coder in coders], share) if coders else []
        self.step(1.0)
        for candidate in candidates:
            mine = [
                (coder.level, tally)
                for (of, coder), tally in zip(coders, tallies, strict=True)
                if of is candidate
            ]  # fmt: skip
            self._keep(candidate.name, mine)

    def _levels(self, candidate: Candidate[C], few: Sequence[Sample], work: Measurer[C]) -> Sequence[int]:
        if candidate.levels:
            return candidate.levels

        def probe(levels: Sequence[int]) -> dict[int, float]:
            try:
                tallies = work(few, [candidate.make(level) for level in levels], quiet)
            except CodecError:
                return {}
            found = zip(levels, tallies, strict=True)
            return {level: _fidelity(tally) for level, tally in found if not tally.spoilt}

        return bracketing_levels(probe, *SEARCHED, worst=self.worst)

    def _keep(self, codec: str, measured: Sequence[tuple[int, Tally]]) -> None:
        where = self.cut or "the picture"
        points = [self._point(level, tally) for level, tally in measured if not tally.spoilt]
        self.left_out += [f"{codec}-{level} of {where}: {tally.spoilt}" for level, tally in measured if tally.spoilt]
        if points:
            self.curves.append(Curve(self.cut, codec, tuple(sorted(points, key=lambda point: point.level))))
        elif not measured:
            self.left_out.append(f"{codec} of {where}: it can't code these tensors at any level")

    def _point(self, level: int, tally: Tally) -> CurvePoint:
        sizes = [*tally.bytes, *tally.key_bytes]
        mean = sum(sizes) / len(sizes)
        kept, decided_bytes = decided(tally)
        return CurvePoint(
            level=level,
            bytes=round(mean, 1),
            fidelity=round(_fidelity(tally), 5),
            bits_per_element=round(8 * mean / self.elements, 4),
            encode_ms=round(statistics.median(tally.encode_ms), 4),
            decode_ms=round(statistics.median(tally.decode_ms), 4),
            decided_fidelity=None if kept is None else round(kept, 5),
            decided_bits_per_element=None if kept is None else round(8 * decided_bytes / self.elements, 4),
        )


def _fidelity(tally: Tally) -> float:
    """Mean agreement over the frames that tell something; 1.0 if none does."""
    told = [outcome.agreement for outcome in tally.outcomes if outcome.told]
    return statistics.fmean(told) if told else 1.0


def decided(tally: Tally) -> tuple[float | None, float]:
    """Mean agreement and bytes over the pictures that a classifier is sure of; None where there are none."""
    if tally.stateful:
        return None, 0.0
    told = [
        (outcome.agreement, size)
        for outcome, size in zip(tally.outcomes, tally.bytes, strict=True)
        if outcome.distributions is not None and _is_decided(outcome.distributions[1])
    ]
    if not told:
        return None, 0.0
    return statistics.fmean(kept for kept, _ in told), statistics.fmean(size for _, size in told)


def _is_decided(distribution: F64 | None) -> bool:
    return distribution is not None and float(distribution.max(initial=0)) >= DECIDED


def _last_three_quarters(step: Step, share: float) -> None:
    step(0.25 + 0.75 * share)


def _on_picture(whole: Whole, samples: Sequence[Sample], coders: Sequence[PictureCoder], step: Step) -> list[Tally]:
    return coder_tallies(whole, None, samples, coders, step)


def _on_cut(
    whole: Whole, part: Part, samples: Sequence[Sample], coders: Sequence[FeatureCoder], step: Step
) -> list[Tally]:
    return coder_tallies(whole, part, samples, coders, step)


def _times(whole: Whole, part: Part, sample: Sample) -> CutTimes:
    inputs = whole.inputs(sample.picture)
    tensors = part.head.run(inputs)
    runs = take_turns(
        {"head": partial(part.head.run, inputs), "tail": partial(part.tail.run, tensors)}, runs=TIMED_RUNS
    )
    return CutTimes(*(round(statistics.median(runs[name]), 4) for name in ("head", "tail")))
