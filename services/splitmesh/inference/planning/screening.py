"""Owns what a cut is judged by before much is measured: what it sends, nearly as faithful as it can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

from splitmesh.codec.coders import FeatureCoder, StatelessFeatures
from splitmesh.codec.table_coders import CompactFeatures
from splitmesh.errors import CodecError, InferenceError
from splitmesh.inference.planning.parity import Part
from splitmesh.inference.planning.rates import coder_rates
from splitmesh.inference.planning.stages import quiet
from splitmesh.inference.planning.tables import fit_quickly
from splitmesh.inference.planning.whole import Whole
from splitmesh.plan.bundle.schema import RateRow
from splitmesh.plan.cuts.choose import Screened
from splitmesh.plan.footage import Sample
from splitmesh.plan.rate_curve import RateCurve

LEVELS = (112, 96, 84, 72)
"""Of "compact": its useful ones, with any table."""
PLAIN_CODEC = "u8zstd"
PLAIN_LEVELS = (8, 5, 3)
LOSS = 0.02
"""A cut is judged by what it sends, between the levels tried, where it keeps so much less than at the finest."""


def screen(whole: Whole, part: Part, samples: Sequence[Sample], fit: Sequence[Sample]) -> Screened:
    """What the cut sends and keeps at the coarsest level that is nearly as faithful as the finest.

    fit: frames for a rough calibration table, none of `samples`; without any the cut is coded without one.
    Raises CodecError or InferenceError if the cut can't be coded.
    """
    measured = coder_rates(whole, part, samples, _coders(whole, part, fit), quiet)
    plain = [row.model_copy(update={"fidelity": _kept(row)}) for row in measured.rows]
    curve = RateCurve.of(plain, cut=part.name, codec=plain[0].codec) if plain else None
    if curve is None:
        raise InferenceError(f"no level can be used: {'; '.join(measured.spoilt)}")
    wanted = curve.measured[-1].fidelity - LOSS
    chosen = curve.keeping(wanted) or curve.measured[-1]
    return Screened(bytes_mean=chosen.payload_bytes, fidelity=chosen.fidelity)


def _kept(row: RateRow) -> float:
    """What a row keeps: of a classifier by probabilities, as a share of a few frames' answers is all or nothing."""
    return math.exp(-row.metrics["kl"]) if "kl" in row.metrics else row.agreement


def _coders(whole: Whole, part: Part, fit: Sequence[Sample]) -> list[FeatureCoder]:
    if fit:
        try:
            table = fit_quickly(whole, part, fit)
            return [CompactFeatures(level, table) for level in LEVELS]
        except CodecError:
            pass  # a cut that no table can hold may still cross in the plain codec
    return [StatelessFeatures(PLAIN_CODEC, level, part.shapes) for level in PLAIN_LEVELS]
