"""What must hold of the cuts of any model, over random ones that the real runtime runs."""

from __future__ import annotations

import re

import onnx
import pytest
import random_dags
from hypothesis import given, settings
from onnx import ModelProto
from test_cuts_extract import pictures, run

from splitmesh.inference.planning.cutting import QUANTISED_LIMIT
from splitmesh.plan.cuts.crossing import over_limits
from splitmesh.plan.cuts.cut import Cut
from splitmesh.plan.cuts.extract import PARITY_LIMIT, relative_error, split_model
from splitmesh.plan.cuts.frontiers import legal_frontiers, survey
from splitmesh.plan.cuts.mincut import min_cuts
from splitmesh.plan.graph.view import GraphView

HALF_LIMIT = 2e-2
"""The runtime computes neighbouring fp16 steps in float32 and rounds at their end only: at a cut it rounds more."""


def all_cuts(model: ModelProto) -> list[Cut]:
    view = GraphView(model)
    frontiers = legal_frontiers(view)
    found = {cut.name: cut for cut in (*frontiers, *min_cuts(view, frontiers), *survey(view).candidates)}
    return list(found.values())


@settings(max_examples=80)
@given(random_dags.models() | random_dags.models(half=True))
def test_every_cut_separates_the_input_from_all_outputs(model: ModelProto) -> None:
    for cut in all_cuts(model):
        reached = {"image"}
        for node in model.graph.node:
            if reached.intersection(node.input):
                reached.update(set(node.output) - {t.name for t in cut.tensors})
        assert not reached.intersection(o.name for o in model.graph.output), cut
        crossing = {t.name for t in cut.tensors}
        assert not crossing & {"image", *(o.name for o in model.graph.output)}


@settings(max_examples=40)
@given(random_dags.models())
def test_head_and_tail_equal_the_whole(model: ModelProto) -> None:
    case = pictures(1, random_dags.SIZE)[0]
    wanted, exact = run(model)(case), run(model, optimise=False)(case)
    rounds = any(node.op_type in ("QuantizeLinear", "Cast") for node in model.graph.node)
    limit = QUANTISED_LIMIT if rounds else PARITY_LIMIT  # other fusions, and an element takes the step beside
    for cut in all_cuts(model):
        if over_limits(GraphView(model), len(cut.tensors), 0):
            continue
        head, tail = split_model(model, cut)
        plain = run(tail, optimise=False)(run(head, optimise=False)(case))
        assert plain.keys() == exact.keys()
        assert relative_error(plain, exact) == 0, cut
        assert relative_error(run(tail)(run(head)(case)), wanted) <= limit, cut


@settings(max_examples=40)
@given(random_dags.models(half=True))
def test_head_and_tail_of_half_precision_equal_the_whole(model: ModelProto) -> None:
    case = pictures(1, random_dags.SIZE)[0]
    wanted = run(model)(case)
    for cut in survey(GraphView(model)).candidates:
        head, tail = split_model(model, cut)
        assert relative_error(run(tail)(run(head)(case)), wanted) <= HALF_LIMIT, cut


@settings(max_examples=80)
@given(random_dags.models() | random_dags.models(half=True))
def test_names_are_unique_and_follow_from_the_graph_alone(model: ModelProto) -> None:
    found = survey(GraphView(model))
    names = [cut.name for cut in found.candidates]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,47}", name) for name in names)
    assert survey(GraphView(onnx.load_from_string(model.SerializeToString()))) == found
    for cut in found.candidates:
        wires = [t.wire for t in cut.tensors]
        assert len(set(wires)) == len(wires)
        assert all(t.shape[0] == 1 and 2 <= len(t.shape) <= 4 for t in cut.tensors)


@settings(max_examples=80)
@given(random_dags.models() | random_dags.models(half=True))
def test_every_frontier_is_a_candidate_or_has_its_reason(model: ModelProto) -> None:
    found = survey(GraphView(model))
    told = [cut.node_index for cut in found.candidates if cut.is_frontier]
    for rejected in found.rejected:
        if rejected.name.startswith("n"):
            first, last = (int(n) for n in (re.findall(r"\d+", rejected.name) * 2)[:2])
            told += [index for index in found.strip.index if first <= index <= last]
    assert sorted(told) == list(found.strip.index)
    assert found.frontiers == len(found.strip.index)
    assert list(found.strip.shares) == sorted(found.strip.shares)
    assert found.strip.shares[-1] == pytest.approx(1.0)
