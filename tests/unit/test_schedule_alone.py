"""The fair queue of one tenant, which is EDF with admission: order, refusals, expiry, conservation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from splitmesh.schedule.fair import FairQueue
from splitmesh.schedule.refusal import Refusal, RefusalReason

MS = 1_000_000


def queue(limit: int = 10, servers: int = 1) -> FairQueue[str]:
    return FairQueue(limit, servers=servers)


def put(q: FairQueue[str], id: str, deadline: int, cost: int = 10, now: int = 0, slack: int = 0) -> Refusal | None:
    return q.push(id, id, deadline_ns=deadline * MS, cost_ns=cost * MS, now_ns=now * MS, slack_ns=slack * MS)


def test_earliest_deadline_first_and_equal_ones_in_order_of_arrival() -> None:
    q = queue()
    for id, deadline in (("late", 300), ("soon", 100), ("mid-1", 200), ("mid-2", 200)):
        assert put(q, id, deadline) is None
    served = []
    for now in range(0, 40, 10):
        item, expired = q.pop(now * MS)
        assert item is not None and expired == []
        served.append(item)
        q.done(item)
    assert served == ["soon", "mid-1", "mid-2", "late"]
    assert q.idle and q.pop(50 * MS) == (None, [])


@pytest.mark.parametrize(
    ("deadline", "cost", "slack", "late"),
    [
        (30, 10, 0, None),  # two before it: 10, 20, then 30
        (29, 10, 0, None),  # goes between them
        (29, 11, 0, 1),
        (35, 10, 6, 1),  # its spread does not fit
        (9, 10, 0, 0),  # not even alone: no retry helps
        (9, 9, 0, None),  # first in line, and the others still make it: 19, 29
        (11, 11, 0, 1),  # would push the second beyond its deadline
    ],
)
def test_admission(deadline: int, cost: int, slack: int, late: int | None) -> None:
    q = queue()
    assert put(q, "a", 20) is None and put(q, "b", 30) is None
    q2 = put(q, "new", deadline, cost, slack=slack)
    if late is None:
        assert q2 is None
    else:
        assert q2 == Refusal(RefusalReason.LATE, late * MS)
        assert len(q) == 2


def test_running_jobs_count_for_waits_and_servers_share_them() -> None:
    q = queue(servers=2)
    for id in ("a", "b", "c"):
        assert put(q, id, 100) is None
    assert q.pop(0)[0] == "a" and q.pop(0)[0] == "b"
    assert q.pop(0) == (None, [])  # both servers are busy
    assert q.running == 2 and len(q) == 1
    assert q.predicted_wait_ns(4 * MS) == 11 * MS  # at most: both until 10, then 10 between them
    q.done("a")
    assert q.pop(10 * MS)[0] == "c"
    assert q.predicted_wait_ns(25 * MS) == 0  # overdue ones may end at any moment


def test_bounds_duplicates_and_closing() -> None:
    q = queue(limit=2)
    put(q, "a", 500)
    assert put(q, "a", 500) == Refusal(RefusalReason.DUPLICATE)
    assert q.pop(0)[0] == "a"
    assert put(q, "a", 500) == Refusal(RefusalReason.DUPLICATE)
    put(q, "b", 500)
    put(q, "c", 500)
    assert put(q, "d", 500) == Refusal(RefusalReason.FULL, 30 * MS)
    q.close()
    assert put(q, "e", 500) == Refusal(RefusalReason.CLOSED)
    q.done("a")
    assert q.pop(0)[0] == "b"
    with pytest.raises(KeyError):
        q.done("never")


def test_what_cannot_make_it_is_said_even_when_no_server_is_free() -> None:
    q = queue()
    put(q, "a", 100)
    put(q, "b", 25)
    put(q, "c", 40)
    assert q.pop(0)[0] == "b"
    assert q.pop(30 * MS) == (None, [])
    assert q.pop(31 * MS) == (None, ["c"])
    q.done("b")
    assert q.pop(91 * MS) == (None, ["a"])


def test_cancel_takes_only_what_waits() -> None:
    q = queue()
    put(q, "a", 100)
    put(q, "b", 200)
    assert q.pop(0)[0] == "a"
    assert q.cancel("a") is None and q.cancel("x") is None
    assert q.cancel("b") == "b" and len(q) == 0
    put(q, "b", 200)
    assert q.take_all() == ["b"] and len(q) == 0 and not q.idle


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 40)), max_size=25),
    st.integers(1, 3),
)
def test_the_admitted_all_make_it_if_predictions_hold(jobs: list[tuple[int, int]], servers: int) -> None:
    """Served with exactly their predicted costs, no admitted job misses its deadline."""
    q: FairQueue[tuple[str, int, int]] = FairQueue(100, servers=servers)
    admitted = 0
    for number, (deadline, cost) in enumerate(jobs):
        item = (f"{number}", deadline, cost)
        admitted += q.push(item[0], item, deadline_ns=deadline, cost_ns=cost, now_ns=0) is None
    now, ends, finished = 0, [], 0
    while not q.idle:
        item, expired = q.pop(now)
        assert not expired
        if item is not None:
            ends.append((now + item[2], item))
            continue
        now, done = min(ends)
        ends.remove((now, done))
        assert now <= done[1]
        q.done(done[0])
        finished += 1
    assert finished == admitted


class Conservation(RuleBasedStateMachine):
    """Every pushed job is waiting, running, done, expired or cancelled: exactly one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[str] = FairQueue(6, servers=2)
        self.now = 0
        self.taken = self.gone = self.count = 0
        self.running: list[str] = []

    @rule(budget=st.integers(1, 100), cost=st.integers(1, 40))
    def push(self, budget: int, cost: int) -> None:
        self.count += 1
        id = f"{self.count}"
        refused = self.queue.push(id, id, deadline_ns=self.now + budget, cost_ns=cost, now_ns=self.now)
        self.taken += refused is None

    @rule(passed=st.integers(0, 30))
    def pop(self, passed: int) -> None:
        self.now += passed
        item, expired = self.queue.pop(self.now)
        self.gone += len(expired)
        if item is not None:
            self.running.append(item)

    @rule()
    def finish(self) -> None:
        if self.running:
            self.queue.done(self.running.pop(0))
            self.gone += 1

    @rule(back=st.integers(0, 8))
    def cancel(self, back: int) -> None:
        self.gone += self.queue.cancel(f"{self.count - back}") is not None

    @invariant()
    def conserved(self) -> None:
        assert self.taken == self.gone + len(self.queue) + self.queue.running
        assert self.queue.running == len(self.running) <= 2
        assert len(self.queue) <= 6
        assert self.queue.predicted_wait_ns(self.now) >= 0


TestConservation = Conservation.TestCase
