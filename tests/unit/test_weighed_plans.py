"""Plans of classifiers weigh the frequencies of cuts next to the pool; those of other models are as they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import plan_graphs
import pytest
from plan_graphs import SIZE, classifier_manifest, moving_squares, save

from splitmesh.codec.compact.table import CompactTable
from splitmesh.codec.table_coders import CompactFeatures
from splitmesh.inference.planning import tables
from splitmesh.inference.planning.make import make_plan
from splitmesh.inference.planning.parity import Part, open_part
from splitmesh.inference.planning.rates import coder_tallies
from splitmesh.inference.planning.request import PlanRequest
from splitmesh.inference.planning.screening import screen
from splitmesh.inference.planning.stages import quiet
from splitmesh.inference.planning.tabled import SEARCHED, searched
from splitmesh.inference.planning.tables import SCREENING_RUNS, fit_cut, fit_quickly, telling
from splitmesh.inference.planning.whole import Whole
from splitmesh.inference.session import open_session
from splitmesh.plan.answers.postprocess import build_postprocess
from splitmesh.plan.cuts.extract import split_model
from splitmesh.plan.cuts.frontiers import survey
from splitmesh.plan.footage import Clip, Footage
from splitmesh.plan.graph.view import GraphView
from splitmesh.plan.manifest import Manifest

RUNS = 1500


def chain(*, pooled: bool) -> onnx.ModelProto:
    """Convolutions at half the size, six of equal shapes, then one to ten classes, which are averaged or not."""
    b = plan_graphs.Builder(5)
    now, channels = "image", 3
    for at in range(6):
        now = b.add("Relu", [b.conv(now, f"c{at}", (8, channels), stride=2 if at < 1 else 1)], f"r{at}")
        channels = 8
    side = SIZE // 2
    if not pooled:
        b.conv(now, "logits", (10, 8))
        return b.model({"logits": [1, 10, side, side]})
    b.add("Flatten", [b.add("GlobalAveragePool", [b.conv(now, "classes", (10, 8))], "pool")], "flat")
    b.add("Gemm", ["flat", b.weight("sharper", 10, 10, gain=20), b.weight("bias", 10)], "logits")
    return b.model({"logits": [1, 10]})


def maps_manifest() -> Manifest:
    post = {"kind": "segmentation", "output": "logits", "activation": "none"}
    return classifier_manifest(postprocess=post)


@dataclass(frozen=True)
class Cut:
    whole: Whole
    part: Part
    footage: Footage


@cache
def cut_of(folder: Path, pooled: bool) -> Cut:
    """The last cut, "r5", of a chain."""
    model = chain(pooled=pooled)
    manifest = classifier_manifest() if pooled else maps_manifest()
    session = open_session(save(model, folder / f"whole-{pooled}.onnx"), threads=1, providers=("cpu",))
    whole = Whole(manifest, session, build_postprocess(manifest, None))
    cut = next(c for c in survey(GraphView(chain(pooled=True))).candidates if list(c.shapes) == ["r5"])
    head, tail = split_model(model, cut)
    paths = (save(head, folder / f"head-{pooled}.onnx"), save(tail, folder / f"tail-{pooled}.onnx"))
    part = open_part(cut.name, cut.shapes, paths, threads=1, providers=("cpu",))
    return Cut(whole, part, Footage((Clip(grainy(24), None),)))


def grainy(count: int) -> tuple[np.ndarray, ...]:
    """Pictures with something at every frequency."""
    rng = np.random.default_rng(4)
    return tuple(
        np.roll(p, at, 1) ^ rng.integers(0, 40, p.shape, np.uint8) for at, p in enumerate(moving_squares(count))
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weighed")


def fitted(cut: Cut) -> CompactTable:
    return fit_cut(cut.whole, cut.part, cut.footage.fit, (), quiet, runs=RUNS)


def test_the_same_answers_come_in_half_the_bytes_and_less(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = cut_of(folder, True)

    def error_and_bytes(table: CompactTable, level: int) -> tuple[float, float]:
        """How far probabilities are off, and what was sent."""
        coder = CompactFeatures(level, table)
        (tally,) = coder_tallies(cut.whole, cut.part, cut.footage.evaluate, [coder], quiet)
        pairs = [o.distributions for o in tally.outcomes if o.distributions is not None]
        return float(np.mean([np.abs(a - b).max() for a, b in pairs])), tally.mean_bytes

    weighed = fitted(cut)
    assert weighed.tensors[0].frequencies is not None
    monkeypatch.setattr(tables, "_by_frequency", lambda *_, **__: {})
    plain = fitted(cut)
    assert plain.tensors[0].frequencies is None and plain.to_bytes()[4] == 1
    wanted, plain_bytes = error_and_bytes(plain, 96)
    sizes = [size for level in range(48, 129, 4) for off, size in [error_and_bytes(weighed, level)] if off <= wanted]
    assert min(sizes) < plain_bytes / 2


def test_a_rough_table_knows_frequencies_as_well_so_that_late_cuts_are_not_thrown_away(folder: Path) -> None:
    cut = cut_of(folder, True)
    assert fit_quickly(cut.whole, cut.part, cut.footage.fit).tensors[0].frequencies is not None


def test_a_model_whose_answer_has_places_is_asked_nothing_and_keeps_its_tables(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = cut_of(folder, False)
    table = fitted(cut)
    assert table.tensors[0].frequencies is None and table.to_bytes()[4] == 1

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a detector's tail is run for nothing")

    monkeypatch.setattr(tables, "frequency_sensitivity", never)
    assert fitted(cut).id == table.id


def test_a_plan_offers_the_cut_before_the_pool_with_its_table(tmp_path: Path) -> None:
    path = save(chain(pooled=True), tmp_path / "chain.onnx")
    request = PlanRequest(path, classifier_manifest(), providers=("cpu",))
    bundle = make_plan(request, Footage((Clip(grainy(24), 100.0),)), tmp_path / "c.plan", lambda *_: None)
    late = bundle.cuts[-1]
    table = bundle.table(late.name)
    assert list(late.shapes) == ["r5"] and table is not None and table.temporal_model is not None
    assert table.tensors[0].frequencies is not None
    assert {row.codec for row in bundle.plan.rows if row.cut == late.name} >= {"compact", "temporal"}


def test_a_rough_table_sees_frames_enough_to_tell_channels_apart(folder: Path) -> None:
    cut = cut_of(folder, True)
    wide = replace(cut.part, shapes={"r5": (1, 96, 2, 2)})
    assert telling(cut.part) <= 1 and telling(wide) == 4 * 96**2 // (96 * 4)


def test_classifiers_are_screened_by_probabilities(folder: Path) -> None:
    """Of six frames a share of equal answers is a sixth of something: no cut could be told from another."""
    cut = cut_of(folder, True)
    kept = screen(cut.whole, cut.part, cut.footage.evaluate[:2], cut.footage.fit).fidelity
    assert 0.8 < kept < 1 and kept not in (0.5, 1.0)
    other = cut_of(folder, False)
    maps = screen(other.whole, other.part, other.footage.evaluate[:2], other.footage.fit).fidelity
    assert 0.8 < maps <= 1


def test_levels_of_weighed_tables_are_searched_further_up(folder: Path) -> None:
    assert searched(fitted(cut_of(folder, True))) == (SEARCHED[0], SEARCHED[1] + 8)
    assert searched(fitted(cut_of(folder, False))) == SEARCHED


def test_screening_asks_a_tail_little() -> None:
    assert SCREENING_RUNS < RUNS
