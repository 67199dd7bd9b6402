"""Owns the values of a comparison of codecs, and its JSON form. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from splitmesh.plan.bd_rate import BdRate, RatePoint, bd_rate

ANCHORS = ("jpeg", "webp", "x264_intra", "x264_inter")
"""The ways to send the model's input picture that every codec is held against."""
DECIDED = 0.5
"""Probability of a classifier's best class from which on it is no toss-up: no other class can have more."""
PICTURE = ""
"""In place of a cut: the picture itself."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One level of one codec: means over all frames, key frames included; medians of times."""

    level: int
    bytes: float
    fidelity: float
    """Mean over the frames in which the model, or what came of the decoded tensors, found something."""
    bits_per_element: float
    """Of the cut's tensors, or of the picture's H · W · 3 samples."""
    encode_ms: float
    decode_ms: float
    decided_fidelity: float | None = None
    """The same over the pictures whose best class has a probability of `DECIDED`. None: there are none, or the codec
    remembers pictures."""
    decided_bits_per_element: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One codec at one cut (or on the picture, `PICTURE`), by rising level."""

    cut: str
    codec: str
    points: tuple[CurvePoint, ...]

    @property
    def rate(self) -> list[RatePoint]:
        return [RatePoint(point.bytes, point.fidelity) for point in self.points]


@dataclass(frozen=True, slots=True)
class CutTimes:
    """Median milliseconds of a cut's two halves, on one thread."""

    head: float
    tail: float


@dataclass(frozen=True)
class Comparison:
    """Every codec at every cut beside the codecs of the picture, on the same frames."""

    model: str
    measure: str
    """What fidelity is: "F1@IoU0.5", "top-1 agreement", …"""
    frames: Mapping[str, int]
    """How many: "video", "images", and "judged", those in which the model itself finds something;
    of a classifier "decided", those that it is sure of (`DECIDED`)."""
    calibrated_on_this_footage: bool
    """The plan's tables were fitted to these very frames: its codecs look better than they are."""
    curves: tuple[Curve, ...]
    part_ms: Mapping[str, CutTimes]
    left_out: tuple[str, ...] = ()
    """Codecs and levels without figures, with the reason."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Plan, video and images as they were named."""

    def curve(self, cut: str, codec: str) -> Curve | None:
        return next((curve for curve in self.curves if (curve.cut, curve.codec) == (cut, codec)), None)

    @property
    def cuts(self) -> list[str]:
        return list(dict.fromkeys(curve.cut for curve in self.curves if curve.cut != PICTURE))

    def compared(self) -> list[Curve]:
        """All curves but those of the anchors."""
        return [curve for curve in self.curves if curve.cut != PICTURE or curve.codec not in ANCHORS]

    def against(self, curve: Curve, anchor: str) -> BdRate:
        """Bytes of `curve` against an anchor at equal fidelity."""
        other = self.curve(PICTURE, anchor)
        if other is None:
            return BdRate(None, None, f"{anchor} was not measured")
        return bd_rate(curve.rate, other.rate)

    def document(self) -> dict[str, Any]:
        """The JSON form. `bd_rate` in percent, negative: saved; null has its reason in `bd_rate_missing`."""
        rates: dict[str, dict[str, dict[str, float | None]]] = {}
        missing: dict[str, dict[str, dict[str, str]]] = {}
        for curve in self.compared():
            found = {anchor: self.against(curve, anchor) for anchor in ANCHORS}
            rates.setdefault(curve.cut, {})[curve.codec] = {name: _rounded(rate) for name, rate in found.items()}
            reasons = {name: rate.reason for name, rate in found.items() if rate.reason}
            if reasons:
                missing.setdefault(curve.cut, {})[curve.codec] = reasons
        return {
            "model": self.model,
            "source": dict(self.source),
            "fidelity": self.measure,
            "frames": dict(self.frames),
            "calibrated_on_this_footage": self.calibrated_on_this_footage,
            "curves": [
                {**asdict(curve), "points": [asdict(point) for point in curve.points]} for curve in self.curves
            ],
            "bd_rate": rates,
            "bd_rate_missing": missing,
            "part_ms": {cut: asdict(times) for cut, times in self.part_ms.items()},
            "left_out": list(self.left_out),
        }


def comparison_of(document: Mapping[str, Any]) -> Comparison:
    """The opposite of `Comparison.document`."""
    return Comparison(
        model=document["model"],
        measure=document["fidelity"],
        frames=document["frames"],
        calibrated_on_this_footage=document["calibrated_on_this_footage"],
        curves=tuple(
            Curve(each["cut"], each["codec"], tuple(CurvePoint(**point) for point in each["points"]))
            for each in document["curves"]
        ),
        part_ms={cut: CutTimes(**times) for cut, times in document["part_ms"].items()},
        left_out=tuple(document["left_out"]),
        source=document["source"],
    )


def _rounded(rate: BdRate) -> float | None:
    return None if rate.percent is None else round(rate.percent, 2)
