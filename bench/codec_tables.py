"""Owns the rows of the codec's benchmark as the documents show them. Measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.codec_claims import DETECTOR, GOOD, MOVING, Claim, Fold, claims, fold_of, percent

from splitmesh.cli.bench.tables import NAMES
from splitmesh.plan.bd_rate import bytes_at
from splitmesh.provision.codec_bench.curves import ANCHORS, PICTURE, Curve

Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""A head and what is below it."""
FIDELITIES = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""At which bytes are told of a moving camera."""


def promised(report: Mapping[str, Any]) -> Rows:
    """Each promised figure of codec_rates.json beside its target."""
    found = claims([fold_of(document) for document in report["folds"]])
    return ("promised", "where", "target", "measured", ""), [_promise(claim) for claim in found]


def curves(report: Mapping[str, Any]) -> Rows:
    """The codecs of the picture, and those of tensors at the best cut, for each fold of codec_rates.json."""
    head = ("on", "codec", f"bytes at {GOOD:g}", "bits per element", *(f"v {NAMES[anchor]}" for anchor in ANCHORS))
    return head, [row for document in report["folds"] for row in _rows(fold_of(document))]


def moving(report: Mapping[str, Any]) -> Rows:
    """Bytes of tensors and of pictures at the same fidelities where the camera moves."""
    folds = [fold_of(document) for document in report["folds"]]
    head = ("F1", "`temporal`", "`compact`", "x264 inter", "x264 intra", "JPEG", "`temporal` v x264 inter")
    rows = []
    for fold in folds:
        if fold.model != DETECTOR or fold.content != MOVING:
            continue
        curves = [fold.comparison.curve(fold.best_cut, codec) for codec in ("temporal", "compact")]
        curves += [fold.comparison.curve(PICTURE, anchor) for anchor in ("x264_inter", "x264_intra", "jpeg")]
        for fidelity in FIDELITIES:
            sizes = [bytes_at(curve.rate, fidelity) if curve else None for curve in curves]
            told = ["–" if size is None else f"{size:,.0f}" for size in sizes]
            mine, theirs = sizes[0], sizes[2]
            against = "–" if mine is None or theirs is None else _percent(100 * (mine / theirs - 1))
            rows.append((f"{fidelity:g}", *told, against))
    return head, rows


def _promise(claim: Claim) -> tuple[str, ...]:
    verdict = "holds" if claim.holds else "not shown" if math.isnan(claim.measured) else "missed"
    measured = "–" if math.isnan(claim.measured) else f"**{_signed(f'{claim.measured:.3g}')} {claim.unit}**"
    return claim.what, claim.where, f"≤ {_signed(f'{claim.target:g}')} {claim.unit}", measured, verdict


def _rows(fold: Fold) -> list[tuple[str, ...]]:
    comparison, cut = fold.comparison, fold.best_cut
    anchors = [curve for anchor in ANCHORS if (curve := comparison.curve(PICTURE, anchor))]
    rows = []
    for curve in [*anchors, *(curve for curve in comparison.compared() if curve.cut in (PICTURE, cut))]:
        rates = ["" if curve in anchors else _percent(percent(fold, curve.cut, curve.codec, a)) for a in ANCHORS]
        where = "the picture" if curve.cut == PICTURE else f"cut {cut}"
        name = NAMES.get(curve.codec, f"`{curve.codec}`")
        rows.append((f"{fold.model}, {fold.content}: {where}", name, *_size(curve), *rates))
    return rows


def _size(curve: Curve) -> tuple[str, str]:
    size = bytes_at(curve.rate, GOOD)
    if size is None:
        return "–", "–"
    return f"{size:,.0f}", f"{curve.points[0].bits_per_element / curve.points[0].bytes * size:.3f}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else _signed(f"{value:+,.0f} %")


def _signed(number: str) -> str:
    return number.replace("-", "−")
