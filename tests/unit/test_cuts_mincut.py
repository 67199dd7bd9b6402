from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import plan_graphs
import pytest
import random_dags
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from splitmesh.plan.cuts.choose import shortlist
from splitmesh.plan.cuts.frontiers import legal_frontiers, survey
from splitmesh.plan.cuts.mincut import Costs, cheapest_head, head_crossings, min_cuts
from splitmesh.plan.graph.view import GraphView


def cost_of(view: GraphView, tensors: Sequence[str], costs: Costs) -> float:
    """What a cut costs, from its tensors alone: everything that leads to them is on the edge, the rest of what leads
    to an output is not."""
    makers = {name: i for i, made in enumerate(view.live) for name in made}

    def behind(goals: Sequence[str]) -> set[int]:
        found: set[int] = set()
        pending = list(goals)
        while pending:
            index = makers.get(pending.pop())
            if index is not None and index not in found:
                found.add(index)
                pending.extend(view.reads[index])
        return found

    head = behind(tensors)
    tail = behind(view.outputs) - head
    return (
        sum(costs.edge[i] for i in head)
        + sum(costs.cloud[i] for i in tail)
        + sum(costs.send[name] for name in tensors)
    )


def frontiers(view: GraphView, order: Sequence[int] | None = None) -> Iterator[tuple[str, ...]]:
    """The tensors of each frontier of a topological order, without those that hold an input or an output."""
    done: set[int] = set()
    useful = {i for i, made in enumerate(view.live) if made}
    for index in order or sorted(useful):
        done.add(index)
        made = {name for i in done for name in view.live[i]} | set(view.inputs)
        read = {name for i in useful - done for name in view.reads[i]} | set(view.outputs)
        tensors = made & read
        if tensors and not tensors & {*view.inputs, *view.outputs}:
            yield tuple(sorted(tensors))


def random_order(view: GraphView, rng: random.Random) -> list[int]:
    makers = {name: i for i, made in enumerate(view.live) for name in made}
    waits = {i: {makers[n] for n in view.reads[i] if n in makers} for i, made in enumerate(view.live) if made}
    order: list[int] = []
    while waits:
        order.append(rng.choice([i for i, needed in waits.items() if needed <= set(order)]))
        del waits[order[-1]]
    return order


def test_a_minimum_cut_beats_every_frontier_of_many_orders() -> None:
    view = GraphView(plan_graphs.three_branches())
    work = [view.cost(i) for i in range(len(view.nodes))]
    # Edge four times as slow as a cloud of 10 GMAC/s, link of 200 kbit/s.
    send = {n: view.tensors[n].elements / 25 for made in view.live for n in made if n not in view.outputs}
    costs = Costs([4 * w / 1e7 for w in work], [w / 1e7 for w in work], send)
    head = cheapest_head(view, costs)
    assert head
    assert set(head_crossings(view, head)) == {"b0d0_conv", "b1d2_conv", "b2d4_conv"}
    best = cost_of(view, head_crossings(view, head), costs)
    orders = [None, *(random_order(view, random.Random(seed)) for seed in range(30))]
    others = [min(cost_of(view, tensors, costs) for tensors in frontiers(view, order)) for order in orders]
    assert best < 0.75 * min(others)


def test_it_gets_onto_the_shortlist_under_a_name_of_its_own() -> None:
    found = survey(GraphView(plan_graphs.three_branches()))
    (cut,) = [c for c in shortlist(found.candidates) if not c.is_frontier]
    assert cut.name == "m20-1x24x24-3t-0034712d"
    # Behind the activations, although the static costs call the tensors before them a little cheaper.
    assert [t.name for t in cut.tensors] == ["b0d0", "b1d2", "b2d4"]


def test_minimum_cuts_that_are_frontiers_keep_their_names() -> None:
    view = GraphView(plan_graphs.residual_classifier())
    known = legal_frontiers(view)
    found = min_cuts(view, known)
    assert found and all(cut in known for cut in found)
    assert all(not cut.is_frontier for cut in min_cuts(view))


def test_an_early_output_stays_in_the_tail() -> None:
    """In the stored order "first" is made before "late", so no frontier behind it is legal. A minimum cut is."""
    view = GraphView(plan_graphs.two_outputs())
    head = cheapest_head(view, Costs([0.0] * 6, [9.0] * 6, {"early": 1.0, "late": 1.0, "c1": 1.0}))
    assert head is not None and set(head_crossings(view, head)) == {"early", "late"}


def test_a_tensor_that_many_read_is_sent_once() -> None:
    view = GraphView(plan_graphs.two_outputs())
    sends = {"c0": 10.0, "early": 3.0, "c1": 2.0, "late": 2.0}
    # Two nodes read "early". Charged twice, it would cost as much as "c0" and a bit of head.
    head = cheapest_head(view, Costs([0.0, 5.0, 9.0, 9.0, 9.0, 9.0], [0.0] * 6, sends))
    assert head is not None and head_crossings(view, head) == ("early",)


def test_cuts_move_past_a_cheap_step_only_if_it_takes_the_tensor_s_place() -> None:
    b = plan_graphs.Builder()
    narrow = b.conv("image", "narrow", (1, 3), stride=2)
    sides = [b.conv(b.add("Relu", [narrow], "relu"), "left", (4, 1)), b.conv(narrow, "right", (4, 1))]
    b.conv(b.add("Add", sides, "sum"), "out", (2, 4), stride=2)
    view = GraphView(b.model({"out": [1, 2, 12, 12]}))
    crossing = [{t.name for t in c.tensors} for c in min_cuts(view)]
    assert {"narrow"} in crossing and {"narrow", "relu"} not in crossing


def test_cuts_of_a_quantised_model_move_to_the_eight_bit_tensor_and_no_further() -> None:
    crossing = [{t.name for t in c.tensors} for c in min_cuts(GraphView(plan_graphs.quantised()))]
    assert {"c0_q"} in crossing and {"c0"} not in crossing


def test_no_cut_where_nothing_may_cross() -> None:
    view = GraphView(plan_graphs.residual_classifier())
    ones = [1.0] * len(view.nodes)
    assert cheapest_head(view, Costs(ones, ones, {})) is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_costs_that_are_none_are_refused(wrong: float) -> None:
    view = GraphView(plan_graphs.two_outputs())
    with pytest.raises(ValueError, match="finite and not negative"):
        cheapest_head(view, Costs([1.0] * 6, [1.0] * 5 + [wrong], {"early": 1.0}))


def random_costs(view: GraphView, seed: int) -> Costs:
    rng = np.random.default_rng(seed)
    count = len(view.nodes)
    spread = 10.0 ** rng.integers(-3, 6)
    send = {n: float(rng.gamma(0.5) * spread) for made in view.live for n in made if rng.random() < 0.9}
    send = {n: cost for n, cost in send.items() if n not in view.outputs}
    return Costs(rng.gamma(0.5, size=count).tolist(), rng.gamma(0.5, size=count).tolist(), send)


@settings(max_examples=60)
@given(random_dags.models(most=24), st.integers(0, 10**6))
def test_no_frontier_is_cheaper_than_the_minimum_cut(model: ModelProto, seed: int) -> None:
    view = GraphView(model)
    costs = random_costs(view, seed)
    head = cheapest_head(view, costs)
    rng = random.Random(seed)
    orders = [None, *(random_order(view, rng) for _ in range(5))]
    legal = [f for order in orders for f in frontiers(view, order) if set(f) <= costs.send.keys()]
    if head is None:
        assert not legal
        return
    crossing = head_crossings(view, head)
    assert crossing and set(crossing) <= costs.send.keys()
    best = cost_of(view, crossing, costs)
    scale = sum(costs.edge) + sum(costs.cloud) + sum(costs.send.values())
    for tensors in legal:
        assert best <= cost_of(view, tensors, costs) + 1e-6 * scale


@settings(max_examples=60)
@given(random_dags.models(most=9), st.integers(0, 10**6))
def test_the_minimum_cut_is_the_cheapest_of_all_cuts(model: ModelProto, seed: int) -> None:
    """Held against every set of nodes that is closed under predecessors."""
    view = GraphView(model)
    costs = random_costs(view, seed)
    live = [i for i, made in enumerate(view.live) if made]
    makers = {name: i for i in live for name in view.live[i]}
    cheapest = float("inf")
    for bits in range(1 << len(live)):
        head = {index for place, index in enumerate(live) if bits >> place & 1}
        if all(makers.get(name, -1) in head for i in head for name in view.reads[i] if name in makers):
            read = {name for i in live if i not in head for name in view.reads[i]} | set(view.outputs)
            tensors = [n for n in (*view.inputs, *(n for i in head for n in view.live[i])) if n in read]
            if set(tensors) <= costs.send.keys():
                spent = sum(costs.edge[i] for i in head) + sum(costs.cloud[i] for i in live if i not in head)
                cheapest = min(cheapest, spent + sum(costs.send[n] for n in tensors))
    head = cheapest_head(view, costs)
    if head is None:
        assert cheapest == float("inf")
        return
    scale = sum(costs.edge) + sum(costs.cloud) + sum(costs.send.values())
    assert cost_of(view, head_crossings(view, head), costs) == pytest.approx(cheapest, abs=1e-6 * scale)
