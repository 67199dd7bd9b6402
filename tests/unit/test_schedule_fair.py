"""The fair queue by example: order, admission, bounds, batches, and all that may befall a job."""

from __future__ import annotations

import pytest

from splitmesh.schedule.fair import FairQueue, Head
from splitmesh.schedule.refusal import Refusal, RefusalReason

MS = 1_000_000
FAR = 100_000


def put(
    q: FairQueue[str], id: str, deadline: int = FAR, cost: int = 10, now: int = 0, slack: int = 0, key: str = ""
) -> Refusal | None:
    """`id` begins with its tenant's letter."""
    times = {"deadline_ns": deadline * MS, "cost_ns": cost * MS, "now_ns": now * MS, "slack_ns": slack * MS}
    return q.push(id, id, tenant=id[0], key=key, **times)


def serve(q: FairQueue[str], count: int, now: int = 0) -> list[str]:
    """One after the other, in no time."""
    served = []
    for _ in range(count):
        item, _ = q.pop(now * MS)
        assert item is not None
        served.append(item)
        q.done(item)
    return served


def test_tenants_take_turns_and_within_each_the_earliest_deadline_is_first() -> None:
    q: FairQueue[str] = FairQueue(20)
    for id, deadline in (("a1", 9000), ("a2", 9001), ("a3", 8000), ("a4", 9001), ("b1", 9999), ("b2", 9998)):
        assert put(q, id, deadline) is None
    assert serve(q, 6) == ["a3", "b2", "a1", "b1", "a2", "a4"]
    assert q.idle and q.pop(0) == (None, [])


def test_service_is_shared_by_weight_and_by_cost() -> None:
    q: FairQueue[str] = FairQueue(100, weights={"a": 3.0, "b": 1.0})
    for number in range(12):
        put(q, f"a{number}")
        put(q, f"b{number}")
    assert sorted(id[0] for id in serve(q, 12)) == ["a"] * 9 + ["b"] * 3
    q = FairQueue(100)
    for number in range(12):
        put(q, f"a{number}", cost=30)
        put(q, f"b{number}", cost=10)
    assert sorted(id[0] for id in serve(q, 12)) == ["a"] * 3 + ["b"] * 9


def test_what_a_tenant_left_unused_is_not_saved_up() -> None:
    q: FairQueue[str] = FairQueue(100)
    for number in range(20):
        put(q, f"a{number}")
    serve(q, 10)
    for number in range(10):
        put(q, f"b{number}")
    assert [id[0] for id in serve(q, 6)] == ["b", "a", "b", "a", "b", "a"]


def test_nor_does_a_tenant_gain_by_leaving_and_coming_back() -> None:
    q: FairQueue[str] = FairQueue(100)
    for number in range(9):
        put(q, f"b{number}")
    served = []
    for number in range(6):
        put(q, f"a{number}", deadline=50 + number)  # never more than one waits
        served += serve(q, 1)
    assert [id[0] for id in served] == ["a", "b", "a", "b", "a", "b"]


def test_the_true_time_is_charged_once_it_is_known() -> None:
    q: FairQueue[str] = FairQueue(100)
    for number in range(5):
        put(q, f"a{number}")
        put(q, f"b{number}")
    item, _ = q.pop(0)
    assert item == "a0"
    q.done("a0", taken_ns=30 * MS)
    assert serve(q, 5) == ["b0", "b1", "b2", "a1", "b3"]


@pytest.mark.parametrize(
    ("id", "deadline", "late"),
    [
        ("b9", 20, None),  # behind one of the other's, which stood at the same virtual time
        ("b9", 19, 1),
        ("a9", 60, None),  # behind its own four and b's one
        ("a9", 59, 1),
        ("a9", 20, 20),  # would push a3 beyond its deadline, though b0 did so before
        ("a9", 9, 0),  # not even alone: no retry helps
    ],
)
def test_admission_is_judged_in_fair_order(id: str, deadline: int, late: int | None) -> None:
    q: FairQueue[str] = FairQueue(100)
    for number in range(4):
        assert put(q, f"a{number}", 40) is None
    if id[0] == "a":
        assert put(q, "b0", 60) is None
    refusal = put(q, id, deadline)
    assert refusal == (None if late is None else Refusal(RefusalReason.LATE, late * MS))


@pytest.mark.parametrize(
    ("tenant", "ends"),
    [
        ("a", 80),  # at virtual time 20; until then b, of twice the weight, begins five: at 0, 5, 10, 15, 20
        ("b", 50),  # at 10; until then a begins two: at 0 and 10
        ("c", 90),  # at 40; until then the others have begun all that they have: three each
    ],
)
def test_who_has_more_weight_has_less_of_others_before_it(tenant: str, ends: int) -> None:
    """Behind two of its own; all take 10 ms."""
    q: FairQueue[str] = FairQueue(100, weights={"a": 1.0, "b": 2.0, "c": 0.5})
    for other in "ab":
        for number in range(2 if other == tenant else 3 if tenant == "c" else 8):
            assert put(q, f"{other}{number}", ends - 2 if other == tenant else 1000) is None
    if tenant == "c":
        assert put(q, "c0", ends - 2) is None and put(q, "c1", ends - 2) is None
    assert put(q, f"{tenant}9", ends - 1) == Refusal(RefusalReason.LATE, MS)
    assert put(q, f"{tenant}9", ends) is None


@pytest.mark.parametrize(("deadline", "refusal"), [(30, None), (29, Refusal(RefusalReason.LATE, MS))])
def test_who_is_pushed_aside_has_others_before_it_too(deadline: int, refusal: Refusal | None) -> None:
    q: FairQueue[str] = FairQueue(100)
    assert put(q, "a1", deadline) is None and put(q, "b1", 500) is None
    assert put(q, "a2", 20) == refusal


def test_a_flood_of_one_does_not_keep_others_out_and_alone_it_has_everything() -> None:
    q: FairQueue[str] = FairQueue(1000)
    flood = sum(put(q, f"a{number}", 200) is None for number in range(500))
    assert flood == 20  # all of the 200 ms, as nobody else wants them
    assert put(q, "b0", 20) is None and put(q, "b1", 40) is None and put(q, "b2", 59) is not None
    assert serve(q, 4) == ["b0", "a0", "b1", "a1"]


def test_a_newcomer_within_its_share_is_admitted_though_another_is_made_late_by_it_and_dropped() -> None:
    q: FairQueue[str] = FairQueue(100)
    for number in range(4):
        assert put(q, f"a{number}", 40) is None
    assert put(q, "b0", 20) is None
    assert q.pop(0)[0] == "b0"
    q.done("b0")
    assert q.pop(10 * MS)[0] == "a0"
    q.done("a0")
    assert q.pop(20 * MS)[0] == "a1"
    q.done("a1")
    assert q.pop(31 * MS) == (None, ["a2", "a3"])


def test_several_servers_share_the_work_ahead() -> None:
    q: FairQueue[str] = FairQueue(100, servers=2)
    for id in ("a1", "a2", "a3"):
        assert put(q, id, 100) is None
    assert q.pop(0)[0] == "a1" and q.pop(0)[0] == "a2" and q.pop(0) == (None, [])
    assert q.predicted_wait_ns(4 * MS, "a") == 11 * MS  # both until 10, then 10 between them at most: 15
    assert q.predicted_wait_ns(4 * MS, "b") == 6 * MS  # before a3, on the server that is free first
    q.done("a1")
    assert q.pop(10 * MS)[0] == "a3"
    assert q.predicted_wait_ns(25 * MS) == 0  # overdue ones may end at any moment


def test_bounds_per_tenant_and_in_all() -> None:
    q: FairQueue[str] = FairQueue(5, per_tenant=4)
    for number in range(4):
        assert put(q, f"a{number}", FAR + number) is None
    assert put(q, "a4") == Refusal(RefusalReason.FULL, 40 * MS)
    assert put(q, "b0") is None
    assert put(q, "b1") is None  # in place of a's last
    assert len(q) == 5 and q.waiting("a") == 3 and q.waiting("b") == 2
    assert put(q, "a5") == Refusal(RefusalReason.FULL, 50 * MS)  # behind a2, and whatever of b stands no later
    assert q.pop(0)[1] == ["a3"]
    assert q.expire(0) == []


def test_a_refused_newcomer_displaces_nobody() -> None:
    q: FairQueue[str] = FairQueue(2)
    put(q, "a0"), put(q, "a1")
    assert put(q, "b0", 9) == Refusal(RefusalReason.LATE, 0)
    assert q.expire(0) == [] and len(q) == 2


def test_duplicates_and_closing() -> None:
    q: FairQueue[str] = FairQueue(5)
    put(q, "a")
    assert put(q, "a") == Refusal(RefusalReason.DUPLICATE)
    assert q.pop(0)[0] == "a"
    assert put(q, "a") == Refusal(RefusalReason.DUPLICATE)
    put(q, "b")
    q.close()
    assert put(q, "c") == Refusal(RefusalReason.CLOSED)
    q.done("a")
    assert q.pop(0)[0] == "b"
    with pytest.raises(KeyError):
        q.done("never")


def test_what_cannot_make_it_is_said_even_when_no_server_is_free() -> None:
    q: FairQueue[str] = FairQueue(5)
    for id, deadline in (("a", 100), ("b", 25), ("c", 40)):
        assert put(q, id, deadline) is None
    assert q.pop(0)[0] == "b"
    assert q.pop(30 * MS) == (None, [])
    assert q.pop(31 * MS) == (None, ["c"])
    assert q.pop(91 * MS) == (None, ["a"])


def test_cancel_and_take_all_take_only_what_waits() -> None:
    q: FairQueue[str] = FairQueue(5)
    for id in ("a1", "a2", "b1"):
        put(q, id)
    assert q.pop(0)[0] == "a1"
    assert q.cancel("a1") is None and q.cancel("x") is None
    assert q.cancel("a2") == "a2" and len(q) == 1
    assert put(q, "a2") is None
    assert sorted(q.take_all()) == ["a2", "b1"] and len(q) == 0 and not q.idle
    assert q.pop(FAR * MS * 2) == (None, [])


def test_a_batch_is_of_one_key_takes_one_server_and_is_charged_to_each_tenant() -> None:
    q: FairQueue[str] = FairQueue(20, servers=2)
    for id, deadline, key in (
        ("a1", 500, "x"),
        ("a2", 600, "x"),
        ("b1", 400, "y"),
        ("b2", 450, "x"),
        ("c1", 300, "x"),
    ):
        assert put(q, id, deadline, key=key) is None
    assert q.head() == Head("c1", "x", (300 * MS,))
    assert q.head(8) == Head("c1", "x", (300 * MS, 450 * MS, 500 * MS, 600 * MS))
    assert q.head(8, skip={"x"}) == Head("b1", "y", (400 * MS,))
    assert q.pop_batch(0, 3, cost_ns=12 * MS) == (["c1", "b2", "a1"], [])
    assert q.running == 3 and q.pop_batch(0, 3) == (["b1"], []) and q.pop(0) == (None, [])
    assert q.predicted_wait_ns(0) == 16 * MS  # until 10 and 12, then a2 between them at most
    for id in ("c1", "b2"):
        q.done(id)
    assert q.pop(5 * MS) == (None, [])  # the rest of its batch still runs
    q.done("a1")
    assert q.pop(5 * MS) == ("a2", [])


def test_tenants_are_charged_what_a_batch_takes_not_what_its_jobs_would_alone() -> None:
    q: FairQueue[str] = FairQueue(20)
    for number, id in enumerate(("a1", "a2", "a3", "b1", "b2")):
        put(q, id, 100 + number, key="x" if number < 2 else "y")
    assert q.pop_batch(0, 2, cost_ns=10 * MS) == (["a1", "a2"], [])
    q.done("a1"), q.done("a2")
    assert serve(q, 3) == ["b1", "a3", "b2"]


@pytest.mark.parametrize(
    ("deadline", "alone", "slack", "refusal"),
    [
        (34, 10, 0, None),  # starts at 24, behind eight parts of batches
        (33, 10, 0, Refusal(RefusalReason.LATE, MS)),
        (33, 10, 5, Refusal(RefusalReason.LATE, 6 * MS)),
        (9, 10, 0, Refusal(RefusalReason.LATE, 0)),
    ],
)
def test_a_part_of_a_batch_takes_less_of_the_server_than_it_lasts(
    deadline: int, alone: int, slack: int, refusal: Refusal | None
) -> None:
    q: FairQueue[str] = FairQueue(20)
    times = {"cost_ns": 3 * MS, "alone_ns": alone * MS, "now_ns": 0, "slack_ns": slack * MS}
    for number in range(8):
        assert (
            q.push(f"{number}", "", deadline_ns=(34 - 3 * (7 - number)) * MS - MS, **(times | {"slack_ns": 0}))
            is None
        )
    assert q.push("new", "", deadline_ns=deadline * MS, **times) == refusal
    assert q.expire(2 * MS) == [] and len(q.expire(3 * MS)) == 1 and q.waiting_under(None) == len(q)


def test_a_key_that_is_held_back_lets_others_pass() -> None:
    q: FairQueue[str] = FairQueue(20)
    put(q, "a1", 100, key="x"), put(q, "b1", 200, key="y")
    assert q.pop_batch(0, 4, skip={"x"}) == (["b1"], [])
    q.done("b1")
    assert q.pop_batch(0, 4, skip={"x"}) == ([], []) and q.head(skip={"x"}) is None
    assert q.pop_batch(0, 4) == (["a1"], [])


def test_nothing_is_held_of_what_left_nor_of_tenants_that_went() -> None:
    q: FairQueue[str] = FairQueue(1000)
    put(q, "k")
    for number in range(1000):
        q.push(f"{number}", "", tenant=f"t{number}", deadline_ns=FAR * MS, cost_ns=1, now_ns=0)
        q.cancel(f"{number}")
    assert len(q._latest) < 100 and len(q._flows) < 100 and len(q._keys) == 1
    serve(q, 1)
    assert not q._flows
