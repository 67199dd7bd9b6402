"""Owns running a model and its parts over frames: parity, times, what each codec level costs and keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitmesh.codec.features import decode_features, encode_features
from splitmesh.codec.picture import decode_picture, encode_picture
from splitmesh.codec.registry import FEATURE_CODECS, PICTURE_CODECS
from splitmesh.errors import InferenceError
from splitmesh.frames.answer import Answer
from splitmesh.frames.fidelity import agreement
from splitmesh.frames.normalize import Normalizer
from splitmesh.inference.profile import Timing, profile_parts, timed, timing
from splitmesh.inference.session import Session
from splitmesh.plan.answers.postprocess import PostprocessFn
from splitmesh.plan.calibrate import CodecRow, fidelity_estimate
from splitmesh.plan.cuts.cut import Cut
from splitmesh.plan.cuts.extract import PARITY_LIMIT, Arrays, parity_error
from splitmesh.plan.manifest import Manifest

Rgb = npt.NDArray[np.uint8]
Case = tuple[Arrays, Arrays]
"""Model inputs and the whole model's outputs for them."""
Verdict = tuple[float, bool]
"""Agreement with the reference in [0, 1], and whether it tells anything (False: both answers are empty)."""
Step = Callable[[float], None]
"""Told the share of this stage that is done, (0, 1]."""


@dataclass(frozen=True, slots=True)
class Part:
    """A cut with its two loaded halves."""

    cut: Cut
    head: Session
    tail: Session


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows of one cut or of the picture, with the coding times of each point."""

    rows: list[CodecRow]
    timings: dict[str, Timing]


class Bench:
    """The whole model with its manifest, and its answers to the calibration frames."""

    def __init__(self, manifest: Manifest, full: Session, postprocess: PostprocessFn) -> None:
        self.manifest = manifest
        self.full = full
        self.postprocess = postprocess
        self._normalizer = Normalizer.from_manifest(manifest)

    def inputs(self, rgb: Rgb) -> Arrays:
        """Model inputs for one picture (H, W, 3) uint8 RGB at model size."""
        return {self.manifest.input: self._normalizer.normalize(rgb)}

    def answer(self, outputs: Mapping[str, npt.NDArray[Any]]) -> Answer:
        return self.postprocess(outputs)

    def cases(self, frames: Sequence[Rgb]) -> list[Case]:
        """What parity is measured against."""
        inputs = [self.inputs(rgb) for rgb in frames]
        return [(given, self.full.run(given)) for given in inputs]

    def reference(self, frames: Sequence[Rgb], step: Step) -> list[Answer]:
        """The full fp32 model's answer to each frame."""
        answers = []
        for index, rgb in enumerate(frames):
            answers.append(self.answer(self.full.run(self.inputs(rgb))))
            step((index + 1) / len(frames))
        return answers

    def parity(self, part: Part, cases: Sequence[Case]) -> tuple[float, str]:
        """Worst relative error of tail∘head over `cases`, and why the cut must go ("" if it may stay)."""
        try:
            error = parity_error(part.head.run, part.tail.run, cases)
        except InferenceError as exc:
            return float("inf"), f"its parts do not run: {exc}"
        if error > PARITY_LIMIT:
            return (
                error,
                f"tail∘head is {error:.2e} (relative) off the whole model, limit {PARITY_LIMIT:.0e}",
            )
        return error, ""

    def times(self, parts: Sequence[Part], rgb: Rgb) -> dict[str, Timing]:
        """Times of "full", "head <cut>", "tail <cut>" on one real frame, all parts taking turns."""
        inputs = self.inputs(rgb)
        calls: dict[str, Callable[[], object]] = {"full": lambda: self.full.run(inputs)}
        for part in parts:
            cut_tensors = part.head.run(inputs)
            calls[f"head {part.cut.name}"] = lambda run=part.head.run: run(inputs)  # type: ignore[misc]
            calls[f"tail {part.cut.name}"] = lambda run=part.tail.run, given=cut_tensors: run(given)  # type: ignore[misc]
        return profile_parts(calls)

    def cut_rows(self, part: Part, frames: Sequence[Rgb], wanted: Sequence[Answer], step: Step) -> Measured:
        """Every feature codec × level on this cut. Codecs that decode to the same tensors share one tail run."""
        expect = part.cut.shapes
        tallies = {(codec, level): _Tally() for codec, levels in FEATURE_CODECS.items() for level in levels}
        for index, (rgb, reference) in enumerate(zip(frames, wanted, strict=True)):
            tensors = part.head.run(self.inputs(rgb))
            known: list[tuple[Arrays, Verdict]] = []
            for (codec, level), tally in tallies.items():
                payload, encode_ms = timed(lambda c=codec, n=level, t=tensors: encode_features(t, codec=c, level=n))  # type: ignore[misc]
                decoded, decode_ms = timed(lambda p=payload: decode_features(p, expect=expect))  # type: ignore[misc]
                verdict = _known(known, decoded)
                if verdict is None:
                    verdict = self._verdict(part.tail.run(decoded), reference)
                    known.append((decoded, verdict))
                tally.add(len(payload), encode_ms, decode_ms, verdict)
            step((index + 1) / len(frames))
        return _measured(part.cut.name, tallies)

    def picture_rows(self, frames: Sequence[Rgb], wanted: Sequence[Answer], step: Step) -> Measured:
        """Every picture codec × quality on the model's input picture."""
        tallies = {(codec, level): _Tally() for codec, levels in PICTURE_CODECS.items() for level in levels}
        size = (self.manifest.height, self.manifest.width)
        for index, (rgb, reference) in enumerate(zip(frames, wanted, strict=True)):
            for (_, quality), tally in tallies.items():
                payload, encode_ms = timed(lambda q=quality, r=rgb: encode_picture(r, quality=q))  # type: ignore[misc]
                decoded, decode_ms = timed(lambda p=payload: decode_picture(p, expect=size))  # type: ignore[misc]
                outputs = self.full.run(self.inputs(decoded))
                tally.add(len(payload), encode_ms, decode_ms, self._verdict(outputs, reference))
            step((index + 1) / len(frames))
        return _measured("", tallies)

    def _verdict(self, outputs: Mapping[str, npt.NDArray[Any]], reference: Answer) -> Verdict:
        answer = self.answer(outputs)
        told = bool(len(answer) or len(reference))
        return agreement(self.manifest.postprocess.kind, answer, reference), told


class _Tally:
    """Sums over frames of one codec level."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self.encode_ms: list[float] = []
        self.decode_ms: list[float] = []
        self.verdicts: list[Verdict] = []

    def add(self, payload_bytes: int, encode_ms: float, decode_ms: float, verdict: Verdict) -> None:
        self.bytes.append(payload_bytes)
        self.encode_ms.append(encode_ms)
        self.decode_ms.append(decode_ms)
        self.verdicts.append(verdict)


def _known(known: Sequence[tuple[Arrays, Verdict]], decoded: Arrays) -> Verdict | None:
    for other, verdict in known:
        if all(np.array_equal(other[name], value) for name, value in decoded.items()):
            return verdict
    return None


def _measured(cut: str, tallies: Mapping[tuple[str, int], _Tally]) -> Measured:
    rows, timings = [], {}
    for (codec, level), tally in tallies.items():
        name = f"split/{cut}/{codec}-{level}" if cut else f"frame/{codec}-{level}"
        levels = sorted((n for c, n in tallies if c == codec), reverse=True)
        agreements, told = [a for a, _ in tally.verdicts], [t for _, t in tally.verdicts]
        encode, decode = timing(tally.encode_ms), timing(tally.decode_ms)
        timings[f"encode {name}"], timings[f"decode {name}"] = encode, decode
        rows.append(
            CodecRow(
                cut=cut,
                codec=codec,
                level=level,
                payload_bytes=float(np.mean(tally.bytes)),
                encode_ms=encode.p50_ms,
                decode_ms=decode.p50_ms,
                fidelity=fidelity_estimate(agreements, told, rank=levels.index(level)),
                agreement=float(np.mean(agreements)),
            )
        )
    return Measured(rows, timings)


def made_up_pictures(manifest: Manifest) -> list[Rgb]:
    """Smooth random pictures, always the same: they excite every channel, and both ends come to the same verdict."""
    rng = np.random.default_rng(7)
    pictures = []
    for _ in range(4):
        coarse = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
        rows = np.arange(manifest.height) * 8 // manifest.height
        columns = np.arange(manifest.width) * 8 // manifest.width
        noise = rng.integers(0, 32, (manifest.height, manifest.width, 3))
        pictures.append(np.clip(coarse[rows][:, columns].astype(np.int32) + noise, 0, 255).astype(np.uint8))
    return pictures
