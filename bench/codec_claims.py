"""Owns what the codec's benchmark is to show: each promised figure beside what was measured. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from splitmesh.plan.bd_rate import bd_rate, bytes_at
from splitmesh.provision.codec_bench.curves import DECIDED, PICTURE, Comparison, CurvePoint, comparison_of

DETECTOR, SMALL_DETECTOR = "coco-ssdlite", "yolox-nano"
CLASSIFIERS = ("mobilenet-v2", "squeezenet11-fp16")
GOOD = 0.95
"""Fidelity from which inter coding is compared, and at which times and the thin uplink are."""
AGREEING = 0.99
MOVING = "built-in clip"
"""A camera on the move."""
ROUGH = 0.6
"""Fidelity from which codecs are compared there: x264 keeps less than 0.8 whatever it spends."""
FPS = 10


@dataclass(frozen=True, slots=True)
class Fold:
    """A comparison with the content it is of."""

    content: str
    comparison: Comparison

    @property
    def model(self) -> str:
        return self.comparison.model

    @property
    def best_cut(self) -> str:
        """Where the codec that stands alone saves most against JPEG; "" if that can't be said of any cut."""
        saved = {cut: percent(self, cut, "compact", "jpeg") for cut in self.comparison.cuts}
        known = {cut: value for cut, value in saved.items() if not math.isnan(value)}
        return min(known, key=lambda cut: known[cut]) if known else (self.comparison.cuts or [""])[0]


@dataclass(frozen=True, slots=True)
class Claim:
    """One promised figure. `measured`: NaN where it could not be had."""

    what: str
    unit: str
    target: float
    measured: float
    where: str

    @property
    def holds(self) -> bool:
        return self.measured <= self.target

    def document(self) -> dict[str, Any]:
        known = not math.isnan(self.measured)
        return {**asdict(self), "measured": round(self.measured, 3) if known else None, "holds": self.holds}

    def __str__(self) -> str:
        figure = "–" if math.isnan(self.measured) else f"{self.measured:.4g} {self.unit}"
        verdict = "holds" if self.holds else "not shown" if math.isnan(self.measured) else "MISSED"
        return f"{verdict:<9} {self.what}: {figure}, target ≤ {self.target:g} {self.unit} ({self.where})"


def fold_of(document: Mapping[str, Any]) -> Fold:
    """Of what `bench.codec_rates` wrote."""
    return Fold(document["source"]["content"], comparison_of(document))


def percent(fold: Fold, cut: str, codec: str, anchor: str) -> float:
    """Bytes against an anchor at equal fidelity, in percent; NaN where they can't be compared."""
    curve = fold.comparison.curve(cut, codec)
    rate = fold.comparison.against(curve, anchor).percent if curve else None
    return math.nan if rate is None else rate


def claims(folds: Sequence[Fold]) -> list[Claim]:
    """All of them, over the folds that there are."""
    found: list[Claim] = []
    for fold in folds:
        if fold.model == DETECTOR:
            found += _intra(fold, {"jpeg": -88.0, "webp": -75.0})
            found += _inter(fold, {"vtest.avi": (-75.0, GOOD), MOVING: (-40.0, ROUGH)})
        elif fold.model == SMALL_DETECTOR:
            found += _intra(fold, {"jpeg": -40.0})
        elif fold.model in CLASSIFIERS:
            found += _bits(fold)
    for fold in folds:
        if fold.model == DETECTOR and fold.content == "vtest.avi":
            found += [*_times(fold), *_thin(fold)]
    return found


def _intra(fold: Fold, targets: Mapping[str, float]) -> Iterable[Claim]:
    cut = fold.best_cut
    for anchor, target in targets.items():
        what = f"{fold.model} on {fold.content}, intra, bytes against {anchor}"
        yield Claim(what, "%", target, percent(fold, cut, "compact", anchor), f"cut {cut}")


def _inter(fold: Fold, targets: Mapping[str, tuple[float, float]]) -> Iterable[Claim]:
    """targets: content → percent, and the fidelity from which they hold."""
    anchor = fold.comparison.curve(PICTURE, "x264_inter")
    if fold.content not in targets or anchor is None:
        return
    target, low = targets[fold.content]
    rates = {
        cut: bd_rate(curve.rate, anchor.rate, low=low).percent
        for cut in fold.comparison.cuts
        if (curve := fold.comparison.curve(cut, "temporal"))
    }
    known = {cut: value for cut, value in rates.items() if value is not None}
    cut = min(known, key=lambda name: known[name]) if known else ""
    what = f"{fold.model} on {fold.content}, temporal, bytes against x264 inter from {low:g}"
    yield Claim(what, "%", target, known.get(cut, math.nan), f"cut {cut or '–'}")


def _bits(fold: Fold) -> Iterable[Claim]:
    """The cut where the fewest bits per element keep the answer, of all pictures and of those that are no toss-up."""
    decided = fold.comparison.frames.get("decided", 0)
    for of, pictures in (
        (lambda point: (point.fidelity, point.bits_per_element), ""),
        (
            lambda point: (point.decided_fidelity, point.decided_bits_per_element),
            f", of the {decided} pictures whose best class has p ≥ {DECIDED:g}",
        ),
    ):
        found = {cut: best for cut in fold.comparison.cuts if (best := _coarsest(fold, cut, of)) is not None}
        cut = min(found, key=lambda name: found[name][0]) if found else ""
        bits, size = found.get(cut, (math.nan, math.nan))
        what = f"{fold.model} on {fold.content}, bits per element at {AGREEING:g} top-1 agreement{pictures}"
        yield Claim(what, "bit", 0.5, bits, f"cut {cut or '–'}{_head(fold, cut)}{f': {size:.0f} B' if cut else ''}")


def _coarsest(
    fold: Fold, cut: str, of: Callable[[CurvePoint], tuple[float | None, float | None]]
) -> tuple[float, float] | None:
    """Bits per element and bytes of the coarsest level that keeps `AGREEING`, `of` a point telling fidelity and bits.

    A share of equal answers has steps, and none is made up between.
    """
    curve = fold.comparison.curve(cut, "compact")
    told = [(of(point), point) for point in curve.points] if curve else []
    good = [
        (bits, point.bytes * bits / point.bits_per_element)
        for (kept, bits), point in told
        if kept is not None and bits is not None and kept >= AGREEING
    ]
    return min(good, default=None)


def _head(fold: Fold, cut: str) -> str:
    """How much of the model's time a cut leaves on the edge: a late one may save bits, and hardly any work."""
    parts = fold.comparison.part_ms.get(cut)
    return "" if parts is None else f", {100 * parts.head / (parts.head + parts.tail):.0f} % of the time in its head"


def _times(fold: Fold) -> Iterable[Claim]:
    cut = fold.best_cut
    parts = fold.comparison.part_ms.get(cut)
    for codec in ("compact", "temporal"):
        curve = fold.comparison.curve(cut, codec)
        if curve is None or parts is None:
            continue
        point = min(curve.points, key=lambda p: abs(p.fidelity - GOOD))
        for what, spent, whole, half in (
            ("encode", point.encode_ms, parts.head, "head"),
            ("decode", point.decode_ms, parts.tail, "tail"),
        ):
            text = f"{codec}, {what} time against the {half}'s"
            yield Claim(text, "%", 50.0, 100 * spent / whole, f"cut {cut}: {spent:.2f} of {whole:.2f} ms")


def _thin(fold: Fold) -> Iterable[Claim]:
    """What ten frames a second take; the lab's preset adds the envelope and the link (`make bench-thin`)."""
    curves = [(cut, fold.comparison.curve(cut, "temporal")) for cut in fold.comparison.cuts]
    sizes = {cut: size for cut, curve in curves if curve and (size := bytes_at(curve.rate, GOOD)) is not None}
    cut = min(sizes, key=lambda name: sizes[name]) if sizes else ""
    rate = sizes[cut] * 8 * FPS / 1000 if cut else math.nan
    what = f"{FPS} fps of {fold.model} on {fold.content} at {GOOD:g}, payloads"
    yield Claim(what, "kbit/s", 64.0, rate, f"temporal, cut {cut or '–'}")
