"""Comparing codecs: which levels a curve is drawn through, JSON, tables, picture, and the promised figures."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench.codec_claims import Claim, claims, fold_of
from bench.codec_tables import moving
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from splitmesh.cli.bench.plot import write_plot
from splitmesh.cli.bench.tables import show_comparison
from splitmesh.errors import OutputError
from splitmesh.frames.answer import Answer
from splitmesh.inference.planning.tally import Outcome, Tally
from splitmesh.provision.codec_bench.curves import Comparison, Curve, CurvePoint, CutTimes, comparison_of
from splitmesh.provision.codec_bench.measure import decided
from splitmesh.provision.codec_bench.sweep import PROBED, bracketing_levels


def logistic(middle: float, width: float, level: int) -> float:
    return 1 / (1 + math.exp(max(min((middle - level) / width, 50), -50)))


@given(st.integers(30, 220), st.floats(2, 16))
def test_levels_bracket_what_is_of_interest_and_little_more(middle: int, width: float) -> None:
    asked: list[int] = []

    def probe(levels: Sequence[int]) -> Mapping[int, float]:
        asked.extend(levels)
        return {level: logistic(middle, width, level) for level in levels}

    levels = bracketing_levels(probe, 0, 255)
    kept = [logistic(middle, width, level) for level in levels]
    assert levels == sorted(set(levels)) and 5 <= len(levels) <= 9
    assert kept[0] <= PROBED[0] or levels[0] == 0
    assert kept[-1] >= PROBED[1] or levels[-1] == 255
    reached = [level for level in range(256) if PROBED[0] < logistic(middle, width, level) < PROBED[1]]
    assert levels[-1] - levels[0] <= len(reached) + 2 * 9, "a grid of eight levels around them, no more"
    assert len(asked) <= 20


def test_levels_may_begin_with_worse_ones() -> None:
    def probe(levels: Sequence[int]) -> Mapping[int, float]:
        return {level: logistic(100, 8, level) for level in levels}

    usual, wider = bracketing_levels(probe, 0, 255), bracketing_levels(probe, 0, 255, worst=0.5)
    assert wider[0] < usual[0] and logistic(100, 8, wider[0]) <= 0.5
    assert wider[-1] == usual[-1]


@pytest.mark.parametrize(
    ("kept", "first"),
    [
        ({}, None),
        (dict.fromkeys(range(256), 0.3), 0),
        (dict.fromkeys(range(256), 0.999), 0),
        (dict.fromkeys(range(70, 170), 0.2), None),
    ],
    ids=["none can be coded", "all alike and bad", "all are good", "only the middle can be coded"],
)
def test_levels_of_codecs_with_little_to_choose(kept: Mapping[int, float], first: int | None) -> None:
    levels = bracketing_levels(lambda asked: {level: kept[level] for level in asked if level in kept}, 0, 255)
    assert set(levels) <= set(kept) and bool(levels) == bool(kept)
    assert first is None or levels[0] == first


def test_levels_that_can_not_be_coded_are_not_taken() -> None:
    def probe(levels: Sequence[int]) -> Mapping[int, float]:
        return {level: logistic(100, 40, level) for level in levels if level <= 160}

    levels = bracketing_levels(probe, 0, 255)
    assert levels and levels[-1] <= 160 and logistic(100, 40, levels[0]) < PROBED[0]


def curve(cut: str, codec: str, factor: float, top: float = 1.0) -> Curve:
    """Nine levels whose fidelity rises with the logarithm of bytes, at `factor` times the bytes of the others."""
    points = []
    for level in range(9):
        fidelity = top - 0.03 * (8 - level)
        size = 1000 * factor * 2**level
        points.append(CurvePoint(level, size, fidelity, 8 * size / 23104, 0.4, 0.3))
    return Curve(cut, codec, tuple(points))


def comparison(model: str = "coco-ssdlite", content: str = "vtest.avi", **changes: object) -> Comparison:
    facts: dict[str, object] = {
        "model": model,
        "measure": "F1@IoU0.5",
        "frames": {"video": 150, "images": 0, "judged": 149},
        "calibrated_on_this_footage": False,
        "curves": (
            curve("", "jpeg", 8),
            curve("", "webp", 4),
            curve("", "x264_inter", 0.5),
            curve("n9-24x75x75", "compact", 4),
            curve("n37-64x19x19", "compact", 1),
            curve("n37-64x19x19", "temporal", 0.125),
            curve("n37-64x19x19", "u8zstd", 6, top=0.6),
        ),
        "part_ms": {"n9-24x75x75": CutTimes(2.0, 9.0), "n37-64x19x19": CutTimes(5.0, 7.0)},
        "left_out": ("video of n37-64x19x19: no encoder",),
        "source": {"content": content},
        **changes,
    }
    return Comparison(**facts)  # type: ignore[arg-type]


def test_the_document_has_the_promised_form_and_is_read_again() -> None:
    document = json.loads(json.dumps(comparison().document()))
    assert document["bd_rate"]["n37-64x19x19"]["compact"] == {
        "jpeg": -87.5, "webp": -75.0, "x264_intra": None, "x264_inter": 100.0,
    }  # fmt: skip
    assert document["bd_rate"]["n37-64x19x19"]["u8zstd"]["jpeg"] is None
    missing = document["bd_rate_missing"]["n37-64x19x19"]
    assert "too little in common" in missing["u8zstd"]["jpeg"]
    assert missing["compact"] == {"x264_intra": "x264_intra was not measured"}
    assert "jpeg" not in document["bd_rate"].get("", {}), "an anchor is not compared with itself"
    points = document["curves"][0]["points"]
    assert set(points[0]) == {
        "level", "bytes", "fidelity", "bits_per_element", "encode_ms", "decode_ms",
        "decided_fidelity", "decided_bits_per_element",
    }  # fmt: skip
    assert comparison_of(document).document() == document


def test_the_table_shows_every_codec_and_says_what_is_missing() -> None:
    out = io.StringIO()
    show_comparison(Console(file=out, width=120), comparison())
    text = out.getvalue()
    assert "150 frames, 149 of which show something" in text
    assert "−87.5 %" in text and "–" in text and "no encoder" in text
    for name in ("JPEG", "x264 inter", "temporal", "n9-24x75x75", "head 5.00 ms"):
        assert name in text


def test_the_picture_is_drawn_in_the_format_of_its_name(tmp_path: Path) -> None:
    write_plot(comparison(), tmp_path / "codecs.png")
    write_plot(comparison(), tmp_path / "codecs.svg")
    assert (tmp_path / "codecs.png").read_bytes().startswith(b"\x89PNG")
    drawn = (tmp_path / "codecs.svg").read_text()
    assert drawn.startswith("<?xml") and len(drawn) > 10_000
    with pytest.raises(OutputError, match="no format"):
        write_plot(comparison(), tmp_path / "codecs")


def told(*folds: Comparison) -> dict[str, Claim]:
    return {claim.what: claim for claim in claims([fold_of(fold.document()) for fold in folds])}


def test_promised_figures_follow_from_the_curves() -> None:
    found = told(comparison())
    intra = found["coco-ssdlite on vtest.avi, intra, bytes against jpeg"]
    assert (intra.measured, intra.target, intra.holds) == (pytest.approx(-87.5), -88, False)
    assert "n37" in intra.where, "the best cut, not the first"
    webp = found["coco-ssdlite on vtest.avi, intra, bytes against webp"]
    assert webp.measured == pytest.approx(-75)
    inter = found["coco-ssdlite on vtest.avi, temporal, bytes against x264 inter from 0.95"]
    assert inter.measured == pytest.approx(-75) and inter.target == -75
    assert found["compact, encode time against the head's"].measured == pytest.approx(8)
    assert found["temporal, decode time against the tail's"].measured == pytest.approx(100 * 0.3 / 7)
    thin = next(claim for what, claim in found.items() if "fps" in what)
    assert thin.measured == pytest.approx(125 * 2 ** (8 - 0.05 / 0.03) * 80 / 1000, rel=1e-3)


ALL = "mobilenet-v2 on vtest.avi, bits per element at 0.99 top-1 agreement"
SURE = f"{ALL}, of the 40 pictures whose best class has p ≥ 0.5"


def classified(*curves: Curve) -> dict[str, Claim]:
    return told(comparison("mobilenet-v2", curves=curves, frames={"video": 150, "judged": 150, "decided": 40}))


def surer(plain: Curve, ahead: int) -> Curve:
    """`plain` with decided pictures that keep at each level what all keep `ahead` levels later, in a tenth more."""
    points = [
        replace(
            point,
            decided_fidelity=plain.points[min(at + ahead, len(plain.points) - 1)].fidelity,
            decided_bits_per_element=1.1 * point.bits_per_element,
        )
        for at, point in enumerate(plain.points)
    ]
    return replace(plain, points=tuple(points))


def test_a_classifier_is_judged_by_the_coarsest_level_that_agrees() -> None:
    found = classified(surer(curve("n37-64x19x19", "compact", 1), 3))
    assert list(found) == [ALL, SURE]
    assert found[ALL].measured == pytest.approx(8 * 1000 * 2**8 / 23104, abs=1e-3) and not found[ALL].holds
    assert found[SURE].measured == pytest.approx(1.1 * 8 * 1000 * 2**5 / 23104, abs=1e-3)
    assert found[SURE].where == "cut n37-64x19x19, 42 % of the time in its head: 35200 B"
    poor = classified(curve("n37-64x19x19", "compact", 1, top=0.9))
    assert all(math.isnan(claim.measured) and not claim.holds for claim in poor.values())
    assert all(str(claim).startswith("not shown") for claim in poor.values())


def test_a_classifiers_cuts_are_named_with_the_work_they_leave_on_the_edge() -> None:
    late = curve("n9-24x75x75", "compact", 0.01)
    found = classified(surer(curve("n37-64x19x19", "compact", 0.02), 3), late)
    assert found[ALL].where.startswith("cut n9-24x75x75, 18 % of the time in its head: 2560 B")
    assert "n37-64x19x19" in found[SURE].where, "of the other cut nothing is known of decided pictures"


def test_decided_pictures_are_told_apart() -> None:
    def outcome(best: float, agreed: float) -> Outcome:
        theirs = np.array([best, 1 - best])
        return Outcome(Answer.empty(), agreed, True, (theirs, theirs))

    tally = Tally(bytes=[10, 30, 50], outcomes=[outcome(0.51, 1.0), outcome(0.49, 0.0), outcome(0.9, 0.0)])
    tally.outcomes[1] = Outcome(Answer.empty(), 0.0, True, (np.array([0.4, 0.3, 0.3]),) * 2)
    assert decided(tally) == (0.5, 30.0)
    assert decided(Tally(stateful=True, bytes=[10], outcomes=[outcome(0.9, 1.0)])) == (None, 0.0)
    assert decided(Tally(bytes=[10], outcomes=[Outcome(Answer.empty(), 1.0, True, None)])) == (None, 0.0)


def test_what_was_not_measured_is_not_shown_and_never_holds() -> None:
    found = told(comparison(curves=(curve("n37-64x19x19", "compact", 1),)))
    claim = found["coco-ssdlite on vtest.avi, intra, bytes against jpeg"]
    assert claim.document() == {
        **{"what": claim.what, "unit": "%", "target": -88.0},
        **{"measured": None, "where": "cut n37-64x19x19", "holds": False},
    }


def test_a_moving_camera_has_a_table_of_its_own() -> None:
    folds = [comparison(content=content).document() for content in ("vtest.avi", "built-in clip", "photographs")]
    head, rows = moving({"folds": folds})
    assert len(rows) == 7, "one of the folds"
    table = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert table["0.85"]["`temporal` v x264 inter"] == "−75 %"
    assert table["0.85"]["JPEG"] == "64,000" and table["0.85"]["x264 intra"] == "–"
