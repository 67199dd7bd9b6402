"""Many virtual edges: every frame of every edge, by time, from a heap that holds one entry per edge."""

from __future__ import annotations

import tracemalloc
from collections import Counter, defaultdict
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshload.arrivals import Arrival
from meshload.edges import Edge, EdgeMix, arrivals, draw_edges, parse_range, shared
from meshload.errors import LoadError

S = 1_000_000_000
EDGES = st.lists(
    st.builds(
        lambda number, period, phase, deadline: Edge(f"e-{number}", "t", period, phase % period, deadline),
        st.integers(0, 99),
        st.integers(1, 40),
        st.integers(0, 39),
        st.integers(0, 9),
    ),
    max_size=8,
    unique_by=lambda edge: edge.name,
)


@given(EDGES, st.integers(0, 100))
def test_the_schedule_is_every_frame_of_every_edge_by_time(edges: list[Edge], until_ns: int) -> None:
    got = list(arrivals(tuple(edges), until_ns=until_ns))
    expected = [
        Arrival(at_ns, edge.tenant, edge.name, edge.deadline_ns)
        for edge in edges
        for at_ns in range(edge.phase_ns, until_ns, edge.period_ns)
    ]
    assert all(first.at_ns <= later.at_ns for first, later in pairwise(got))
    assert Counter(got) == Counter(expected)


@given(
    count=st.integers(1, 300),
    fps=st.tuples(st.floats(0.1, 60), st.floats(0, 60)),
    deadline=st.tuples(st.floats(0, 500), st.floats(0, 500)),
    seed=st.integers(0, 1000),
)
def test_edges_are_drawn_within_their_bounds_and_the_same_every_time(
    count: int, fps: tuple[float, float], deadline: tuple[float, float], seed: int
) -> None:
    mix = EdgeMix(count, (fps[0], fps[0] + fps[1]), (deadline[0], deadline[0] + deadline[1]), None, seed)
    edges = draw_edges(mix)
    assert edges == draw_edges(mix)
    assert len({edge.name for edge in edges}) == count
    for edge in edges:
        assert 1e9 / mix.fps[1] - 1 <= edge.period_ns <= 1e9 / mix.fps[0] + 1
        assert 0 <= edge.phase_ns < edge.period_ns
        assert mix.deadline_ms[0] * 1e6 - 1 <= edge.deadline_ns <= mix.deadline_ms[1] * 1e6 + 1


def test_edges_do_not_go_in_step_and_differ_in_deadline_and_rate() -> None:
    edges = draw_edges(EdgeMix(1000, (1, 15), (80, 300)))
    assert len({edge.phase_ns for edge in edges}) > 990
    assert len({edge.deadline_ns for edge in edges}) > 990
    phases = [edge.phase_ns / edge.period_ns for edge in edges]
    assert 0.45 < sum(phases) / len(phases) < 0.55


def test_tenants_have_as_many_edges_as_their_weights_say() -> None:
    edges = draw_edges(EdgeMix(1000, tenants={"a": 3, "b": 1}))
    assert Counter(edge.tenant for edge in edges) == {"a": 750, "b": 250}
    assert {edge.tenant for edge in edges[:20]} == {"a", "b"}
    assert {edge.tenant for edge in draw_edges(EdgeMix(5))} == {""}


@given(st.integers(1, 50), st.integers(1, 7))
def test_processes_share_the_edges_without_a_gap(count: int, of: int) -> None:
    edges = draw_edges(EdgeMix(count))
    parts = [shared(edges, part=part, of=of) for part in range(of)]
    assert sorted(edge.name for part in parts for edge in part) == [edge.name for edge in edges]


def test_ten_thousand_edges_are_read_lazily_in_little_memory() -> None:
    mix = EdgeMix(10_000, (1, 1), (100, 300), {"a": 3, "b": 1})
    assert mix.rate == 10_000
    tracemalloc.start()
    try:
        edges = draw_edges(mix)
        counts: defaultdict[str, int] = defaultdict(int)
        for arrival in islice(arrivals(edges, until_ns=10**6 * S), 50_000):
            counts[arrival.edge] += 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert set(counts.values()) == {5} and len(counts) == 10_000
    assert peak_bytes < 20_000_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 2_000_000},
        {"fps": (0.0, 1.0)},
        {"fps": (5.0, 1.0)},
        {"deadline_ms": (5.0, 1.0)},
        {"deadline_ms": (1.0, 700_000.0)},
        {"tenants": {"a.b": 1.0}},
        {"tenants": {"a": 0.0}},
        {"prefix": "no dots."},
    ],
)
def test_a_fleet_that_can_not_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(LoadError):
        EdgeMix(**{"count": 1, **wrong})


@pytest.mark.parametrize(("text", "expected"), [("5", (5, 5)), ("1-15", (1, 15)), ("0.5-2", (0.5, 2))])
def test_a_range_is_one_number_or_two(text: str, expected: tuple[float, float]) -> None:
    assert parse_range(text, option="--fps") == expected
    with pytest.raises(LoadError, match="--fps"):
        parse_range(f"{text}x", option="--fps")
