"""The fair queue by law: what holds for every arrival, with exact service times. Bounds are computed here anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.fair_order import other_ahead, others_ahead, start_ns, starts_ns
from splitmesh.schedule.refusal import Refusal, RefusalReason

LONGEST = 20
WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.5}
TENANTS = sorted(WEIGHTS)

arrival = st.tuples(st.integers(0, 30), st.sampled_from(TENANTS), st.integers(1, 200), st.integers(1, LONGEST))
arrivals = st.lists(arrival, max_size=60)
servers = st.integers(1, 3)
kept = st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 2), max_size=3)
"""At how many servers a tenant may run at a time."""


@dataclass
class Story:
    """What became of each pushed job, by number; times are whole nanoseconds."""

    tenant: list[str] = field(default_factory=list)
    deadline: list[int] = field(default_factory=list)
    admitted: set[int] = field(default_factory=set)
    started: list[int] = field(default_factory=list)
    """In order of service."""
    ended_at: dict[int, int] = field(default_factory=dict)
    expired: dict[int, tuple[int, set[int]]] = field(default_factory=dict)
    """When, and what had been started by then."""


def run(jobs: Sequence[tuple[int, str, int, int]], servers: int, most: Mapping[str, int] | None = None) -> Story:
    """Serve `jobs` (gap before it, tenant, budget, cost), each in exactly its cost."""
    queue: FairQueue[int] = FairQueue(1000, servers=servers, weights=WEIGHTS, most_running=most)
    story, ends, now = Story(), [], 0
    costs = [cost for *_, cost in jobs]

    def pump() -> None:
        while True:
            number, expired = queue.pop(now)
            story.expired.update((each, (now, set(story.started))) for each in expired)
            if number is None:
                return
            story.started.append(number)
            ends.append((now + costs[number], number))
            for tenant, limit in (most or {}).items():
                assert sum(story.tenant[each] == tenant for _, each in ends) <= limit

    def serve_until(then: int | None) -> None:
        nonlocal now
        while ends and (then is None or min(ends)[0] <= then):
            now, number = min(ends)
            ends.remove((now, number))
            story.ended_at[number] = now
            queue.done(f"{number}")
            pump()
        now = now if then is None else then

    for number, (gap, tenant, budget, cost) in enumerate(jobs):
        serve_until(now + gap)
        story.tenant.append(tenant)
        story.deadline.append(now + budget)
        refusal = queue.push(f"{number}", number, tenant=tenant, deadline_ns=now + budget, cost_ns=cost, now_ns=now)
        if refusal is None:
            story.admitted.add(number)
        pump()
    serve_until(None)
    assert queue.idle
    return story


@given(arrivals, servers, kept)
def test_each_job_has_one_end_and_nothing_that_was_served_is_late(
    jobs: Any, servers: int, most: dict[str, int]
) -> None:
    story = run(jobs, servers, most)
    assert sorted([*story.ended_at, *story.expired]) == sorted(story.admitted)
    assert all(at <= story.deadline[number] for number, at in story.ended_at.items())


@given(arrivals, servers, kept)
def test_the_admitted_are_in_time_unless_others_that_came_later_were_served_before(
    jobs: Any, servers: int, most: dict[str, int]
) -> None:
    """Law 2; and of one's own tenant, law 1: only other tenants are blamed."""
    story = run(jobs, servers, most)
    for number, (_, before) in story.expired.items():
        overtook = {each for each in before if each > number and story.tenant[each] != story.tenant[number]}
        assert overtook, f"{number} was dropped though nothing of others overtook it"


@given(arrivals, servers, kept)
def test_alone_every_admitted_job_is_in_time(jobs: Any, servers: int, most: dict[str, int]) -> None:
    """Law 1 by itself."""
    assert not run([(gap, "a", budget, cost) for gap, _, budget, cost in jobs], servers, most).expired


@given(arrivals, st.integers(2, 3), st.integers(1, 2))
def test_a_tenant_that_is_kept_to_some_servers_leaves_the_others_free(jobs: Any, servers: int, most: int) -> None:
    """Whatever `a` sends, another's job that comes to an otherwise empty worker begins at once."""
    flood = [(0, "a", 1000, cost) for *_, cost in jobs]
    story = run([*flood, (0, "b", 20, 20)], servers, {"a": min(most, servers - 1)})
    last = len(flood)
    assert story.ended_at[last] == 20


def test_waits_of_one_that_is_kept_to_a_server_are_for_that_server() -> None:
    queue: FairQueue[str] = FairQueue(10, servers=2, most_running={"a": 1})
    for id in ("a0", "a1"):
        assert queue.push(id, id, tenant="a", deadline_ns=280, cost_ns=100, now_ns=0) is None
    assert queue.pop(0)[0] == "a0" and queue.pop(0) == (None, []) and queue.running == 1
    assert queue.predicted_wait_ns(40, "a") == 160 and queue.predicted_wait_ns(40, "b") == 0
    refused = queue.push("a2", "a2", tenant="a", deadline_ns=290, cost_ns=100, now_ns=0)
    assert refused == Refusal(RefusalReason.LATE, 10)
    assert queue.push("b0", "b0", tenant="b", deadline_ns=1000, cost_ns=30, now_ns=40) is None
    assert queue.pop(40)[0] == "b0"
    queue.done("b0")
    assert queue.pop(70) == (None, [])
    queue.done("a0")
    assert queue.pop(100)[0] == "a1"


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from("acd"), st.integers(1, 400), st.integers(1, LONGEST))),
    st.integers(1, LONGEST),
    st.integers(0, 10),
)
def test_a_tenant_within_its_share_is_never_refused_and_never_late(jobs: Any, cost: int, pause: int) -> None:
    """Law 3, on one server: `b` asks for no more than its share of all weights, the others for whatever they like.

    One job of each other, the one that runs, and its own are within its budget, so it must be admitted and served.
    """
    gap = round(cost * sum(WEIGHTS.values()) / WEIGHTS["b"]) + 1 + pause
    budget = (len(WEIGHTS) - 1) * LONGEST + LONGEST + cost
    now, merged, others = 0, [], []
    for each_gap, *rest in jobs:
        now += each_gap
        others.append((now, *rest))
    mine = [(at, "b", budget, cost) for at in range(0, now + 1, gap)]
    last = 0
    for at, *rest in sorted(others + mine, key=lambda job: job[0]):
        merged.append((at - last, *rest))
        last = at
    story = run(merged, 1)
    served = [number for number in story.ended_at if story.tenant[number] == "b"]
    assert len(served) == len(mine)


backlog = st.lists(st.integers(1, LONGEST), min_size=5, max_size=30)


@given(backlog, backlog, st.sampled_from(TENANTS), st.sampled_from(TENANTS), servers)
def test_two_that_always_wait_get_service_by_weight(
    first: list[int], second: list[int], one: str, other: str, servers: int
) -> None:
    """Goyal et al. 1996, theorem 1; for D servers Jin et al. 2004: within (D + 1) (longest / weight) of both."""
    queue: FairQueue[tuple[int, int]] = FairQueue(
        1000, servers=servers, weights={"0": WEIGHTS[one], "1": WEIGHTS[other]}
    )
    for tenant, costs in enumerate((first, second)):
        for number, cost in enumerate(costs):
            id = f"{tenant}-{number}"
            queue.push(id, (tenant, number), tenant=f"{tenant}", deadline_ns=10**9, cost_ns=cost, now_ns=0)
    weights = (WEIGHTS[one], WEIGHTS[other])
    bound = (servers + 1 if servers > 1 else 1) * (max(first) / weights[0] + max(second) / weights[1])
    got, running, now = [0.0, 0.0], [], 0
    while queue.waiting("0") and queue.waiting("1"):
        item, _ = queue.pop(now)
        if item is None:
            now, done = min(running)
            running.remove((now, done))
            queue.done(f"{done[0]}-{done[1]}")
            continue
        cost = (first, second)[item[0]][item[1]]
        running.append((now + cost, item))
        got[item[0]] += cost / weights[item[0]]
        assert abs(got[0] - got[1]) <= bound + 1e-6


@given(
    st.lists(st.sampled_from([0.25, 1.0, 2.0, 5.0]), min_size=2, max_size=6),
    st.lists(st.integers(0, 5), max_size=40),
    st.integers(1, LONGEST),
)
def test_who_always_waits_gets_its_share_less_one_job(weights: list[float], flood: list[int], cost: int) -> None:
    """Whatever the others send, in whatever order: with equal jobs, tenant 0 has its share of service, less one job,
    and less a part of one for each tenant beyond two.
    """
    queue: FairQueue[int] = FairQueue(1000, weights={f"{n}": weight for n, weight in enumerate(weights)})
    for number in range(60):
        queue.push(f"0-{number}", 0, tenant="0", deadline_ns=10**9, cost_ns=cost, now_ns=0)
    share = weights[0] / sum(weights)
    allowed = 1 + (len(weights) - 2) * share
    served: dict[int, int] = defaultdict(int)
    for number, tenant in enumerate(flood):
        tenant %= len(weights)
        queue.push(f"{tenant}-x{number}", tenant, tenant=f"{tenant}", deadline_ns=10**8, cost_ns=cost, now_ns=0)
        if number % 2 == 0 and queue.waiting("0"):
            id = pop_one(queue)
            served[id] += 1
            assert served[0] >= share * sum(served.values()) - allowed - 1e-6
    while queue.waiting("0"):
        served[pop_one(queue)] += 1
        assert served[0] >= share * sum(served.values()) - allowed - 1e-6


def pop_one(queue: FairQueue[int]) -> int:
    item, _ = queue.pop(0)
    assert item is not None
    (id,) = queue._servers._runs
    queue.done(id)
    return item


@given(arrivals, servers, st.sampled_from([*TENANTS, "new"]), st.integers(0, 50))
def test_predicted_waits_grow_with_what_waits_and_fall_with_time(
    jobs: Any, servers: int, asked: str, later: int
) -> None:
    """Of every tenant and in all; none waits longer than one that is behind everybody."""
    queue: FairQueue[int] = FairQueue(1000, servers=servers, weights=WEIGHTS)
    now = 0
    for number, (gap, tenant, _, cost) in enumerate(jobs):
        now += gap
        before, in_all = queue.predicted_wait_ns(now, asked), queue.predicted_wait_ns(now)
        assert 0 <= before <= in_all + 1
        queue.push(f"{number}", number, tenant=tenant, deadline_ns=10**6, cost_ns=cost, now_ns=now)
        assert queue.predicted_wait_ns(now, asked) >= before
        assert queue.predicted_wait_ns(now) >= in_all
        after = queue.predicted_wait_ns(now, asked)
        assert after - later - 1 <= queue.predicted_wait_ns(now + later, asked) <= after
        if number % 3 == 0:
            queue.pop(now)


class Conservation(RuleBasedStateMachine):
    """Every pushed job is refused, waiting, running, served, expired, displaced, cancelled or taken: exactly one."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[str] = FairQueue(8, servers=2, weights=WEIGHTS, per_tenant=6)
        self.now = self.count = self.held = 0
        self.inside: set[str] = set()
        self.running: list[list[str]] = []

    def out(self, ids: Sequence[str]) -> None:
        for id in ids:
            self.inside.remove(id)  # KeyError: it came out twice, or was never taken

    @rule(tenant=st.sampled_from(TENANTS), budget=st.integers(1, 150), cost=st.integers(1, 40), key=st.integers(0, 2))
    def push(self, tenant: str, budget: int, cost: int, key: int) -> None:
        self.count += 1
        id = f"{self.count}"
        refused = self.queue.push(
            id, id, tenant=tenant, key=key, deadline_ns=self.now + budget, cost_ns=cost, now_ns=self.now
        )
        if refused is None:
            self.inside.add(id)

    @rule(passed=st.integers(0, 30), size=st.integers(1, 4), skip=st.sets(st.integers(0, 2), max_size=1))
    def pop(self, passed: int, size: int, skip: set[int]) -> None:
        self.now += passed
        expired = self.queue.expire(self.now)
        head = self.queue.head(size, skip=skip)
        batch, late = self.queue.pop_batch(self.now, size, skip=skip)
        assert not late
        self.out(expired)
        if batch:
            assert head is not None and len(batch) == len(head.deadlines_ns) <= size and batch[0] == head.id
            self.out(batch)
            self.running.append(batch)

    @rule(taken=st.one_of(st.none(), st.integers(1, 200)))
    def finish(self, taken: int | None) -> None:
        if self.running:
            for id in self.running.pop(0):
                self.queue.done(id, taken)

    @rule(back=st.integers(0, 8))
    def cancel(self, back: int) -> None:
        cancelled = self.queue.cancel(f"{self.count - back}")
        self.out([] if cancelled is None else [cancelled])

    @rule()
    def take_all(self) -> None:
        self.out(self.queue.take_all())
        assert not self.inside

    @invariant()
    def conserved(self) -> None:
        assert len(self.queue) + len(self.queue._displaced) == len(self.inside)
        assert self.queue.running == sum(map(len, self.running)) and len(self.running) <= 2
        assert len(self.queue) <= 8 and all(self.queue.waiting(tenant) <= 6 for tenant in TENANTS)
        assert sum(self.queue.waiting(tenant) for tenant in TENANTS) == len(self.queue)
        assert self.queue.predicted_wait_ns(self.now) >= 0


TestConservation = Conservation.TestCase


@dataclass(frozen=True)
class Stands:
    tag: float
    weight: float
    work_ns: int
    longest_ns: int


standing = st.builds(
    Stands, st.integers(0, 200), st.sampled_from([0.5, 1.0, 2.0]), st.integers(1, 200), st.integers(1, 40)
)


@given(
    standing,
    st.lists(standing, max_size=5),
    st.lists(st.integers(0, 300), min_size=1, max_size=8),
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
)
def test_many_are_judged_as_each_alone(own: Stands, others: list[Stands], before: list[int], free: list[int]) -> None:
    """The curves, and the same by job."""
    ahead = others_ahead(own.tag, own.weight, others, np.array(before, np.float64))
    starts = starts_ns(ahead, free, 20)
    for own_ns, its_ahead, start in zip(before, ahead, starts, strict=True):
        assert its_ahead == pytest.approx(other_ahead(own.tag, own.weight, others, own_ns), abs=0.1)
        assert start == pytest.approx(start_ns(its_ahead, free, 20), abs=0.1)
        fill = sum(max(0.0, start - max(0, at - 20)) for at in free)
        assert fill == pytest.approx(its_ahead, abs=0.1 * len(free))
