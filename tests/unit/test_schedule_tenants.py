"""Quotas: what is refused, why and until when; that no budget is ever exceeded; that what is given back is there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitmesh.schedule.tenants import OverQuota, Quota, Quotas, Tenant, Ticket, TokenBucket
from splitmesh.settings.quotas import parse_tenants

MS = 1_000_000
SECOND = 1_000_000_000
SMALL = Tenant("small", rate_rps=10, burst=2, bytes_per_s=1000, concurrency=3, share=0.5)


def taken(outcome: Ticket | OverQuota) -> Ticket:
    assert isinstance(outcome, Ticket)
    return outcome


def ask(quotas: Quotas, now: int = 0, *, name: str = "small", size: int = 1, cost: int = 1) -> Ticket | OverQuota:
    return quotas.take(name, payload_bytes=size, cost_ns=cost * MS, now_ns=now * MS)


@pytest.mark.parametrize(
    ("tenant", "size", "cost", "allowed", "refusal"),
    [
        (Tenant("small", rate_rps=10, burst=2), 1, 1, 2, OverQuota(Quota.RATE, 100 * MS)),
        (Tenant("small", bytes_per_s=1000), 400, 1, 2, OverQuota(Quota.BYTES, 200 * MS)),
        (Tenant("small", bytes_per_s=1000), 1001, 1, 0, OverQuota(Quota.BYTES, 0)),
        (Tenant("small", share=0.5), 1, 200, 5, OverQuota(Quota.SHARE, 200 * MS)),
        (Tenant("small", share=0.5), 1, 1001, 0, OverQuota(Quota.SHARE, 0)),
        (Tenant("small", concurrency=3), 1, 1, 3, OverQuota(Quota.CONCURRENCY, 1)),
        (replace(SMALL, bytes_per_s=100), 90, 1, 1, OverQuota(Quota.BYTES, 800 * MS)),
    ],
)
def test_a_refusal_says_which_quota_and_when(
    tenant: Tenant, size: int, cost: int, allowed: int, refusal: OverQuota
) -> None:
    """On two servers: half of their compute is one second's a second."""
    quotas = Quotas([tenant], servers=2)
    for _ in range(allowed):
        taken(ask(quotas, size=size, cost=cost))
    assert ask(quotas, size=size, cost=cost) == refusal
    assert quotas.open("small") == allowed


@given(
    st.floats(0.5, 1000),
    st.floats(1, 50),
    st.lists(st.tuples(st.integers(0, SECOND), st.floats(0.1, 5)), min_size=1, max_size=60),
)
def test_no_budget_is_ever_exceeded(per_s: float, most: float, asked: list[tuple[int, float]]) -> None:
    """Between any two moments no more is taken than the bucket holds and what flows in meanwhile."""
    bucket = TokenBucket(per_s, most)
    now = 0
    got: list[tuple[int, float]] = []
    for gap, amount in asked:
        now += gap
        if bucket.missing_ns(amount, now) == 0:
            bucket.take(amount)
            got.append((now, amount))
    for first, (begun, _) in enumerate(got):
        total = 0.0
        for at, amount in got[first:]:
            total += amount
            assert total <= most + per_s * (at - begun) / SECOND + 1e-6


@given(st.floats(0.5, 1000), st.floats(1, 50), st.lists(st.floats(0.1, 1), min_size=1, max_size=60))
def test_what_is_missing_is_there_when_it_was_said_and_not_before(
    per_s: float, most: float, asked: list[float]
) -> None:
    bucket = TokenBucket(per_s, most)
    now = 0
    for amount in asked:
        missing = bucket.missing_ns(amount, now)
        if missing > 2:
            assert bucket.missing_ns(amount, now + int(missing) - 2) > 0
        now += math.ceil(missing) + 1
        assert bucket.missing_ns(amount, now) <= 1
        bucket.take(amount)


def test_full_at_first_and_never_more_than_full() -> None:
    bucket = TokenBucket(10, 3)
    assert bucket.missing_ns(3, 0) == 0
    assert bucket.missing_ns(3.1, 0) == math.inf
    bucket.take(3)
    assert bucket.missing_ns(1, 3600 * SECOND) == 0
    bucket.take(3)
    assert bucket.missing_ns(1, 3600 * SECOND) == 100 * MS
    bucket.take(-5)
    bucket.take(3)
    assert bucket.missing_ns(1, 3600 * SECOND) == 100 * MS


def test_time_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10, 3)
    bucket.take(3)
    for now in (SECOND, 0, SECOND, 0, SECOND):
        bucket.missing_ns(1, now)
    assert bucket.missing_ns(1, SECOND) == 100 * MS


def test_what_is_refused_is_charged_nothing() -> None:
    """One exhausted quota must not eat up the others."""
    quotas = Quotas([replace(SMALL, burst=1)])
    taken(ask(quotas))
    for _ in range(50):
        assert ask(quotas, size=500) == OverQuota(Quota.RATE, 100 * MS)
    assert isinstance(ask(quotas, 100, size=999), Ticket)


def test_a_refund_is_as_if_it_had_never_been_asked_for() -> None:
    quotas = Quotas([SMALL])
    for _ in range(20):
        quotas.refund(taken(ask(quotas, size=900, cost=450)))
    assert quotas.open("small") == 0
    taken(ask(quotas, size=1000, cost=500))


def test_what_ended_makes_room_but_its_tokens_are_spent() -> None:
    quotas = Quotas([replace(SMALL, concurrency=1)])
    ticket = taken(ask(quotas))
    refused = ask(quotas)
    assert isinstance(refused, OverQuota) and refused.quota is Quota.CONCURRENCY
    quotas.ended(ticket, 40 * MS)
    second = taken(ask(quotas, 50))
    assert ask(quotas, 50) == OverQuota(Quota.RATE, 50 * MS)
    quotas.ended(second, 80 * MS)


def test_room_is_expected_when_requests_take_what_they_took() -> None:
    quotas = Quotas([Tenant("small", concurrency=2)])
    quotas.ended(taken(ask(quotas)), 40 * MS)
    taken(ask(quotas)), taken(ask(quotas))
    assert ask(quotas) == OverQuota(Quota.CONCURRENCY, 20 * MS)


@pytest.mark.parametrize(("true_ms", "fits"), [(100, 400), (0, 500), (400, 100), (None, 400)])
def test_compute_is_charged_by_what_it_truly_took(true_ms: int | None, fits: int) -> None:
    quotas = Quotas([Tenant("small", share=0.5)])
    ticket = taken(ask(quotas, cost=100))
    quotas.ended(ticket, 0, service_ns=None if true_ms is None else true_ms * MS)
    assert isinstance(ask(quotas, cost=fits + 1), OverQuota)
    taken(ask(quotas, cost=fits))


def test_tenants_do_not_share_accounts_and_unknown_ones_get_the_default() -> None:
    quotas = Quotas([SMALL], default=Tenant("", weight=0.5, rate_rps=1, burst=1))
    taken(ask(quotas)), taken(ask(quotas))
    taken(ask(quotas, name="x")), taken(ask(quotas, name="y"))
    assert ask(quotas, name="x") == OverQuota(Quota.RATE, SECOND)
    assert quotas.tenant("x") == Tenant("x", weight=0.5, rate_rps=1, burst=1)
    assert quotas.tenant("small") is SMALL


def test_accounts_of_strangers_are_bounded_but_open_ones_are_kept() -> None:
    quotas = Quotas(default=Tenant("", concurrency=1), most_accounts=3)
    taken(ask(quotas, name="open"))
    for number in range(10):
        quotas.refund(taken(ask(quotas, name=f"{number}")))
    assert isinstance(ask(quotas, name="open"), OverQuota)
    assert len(quotas._others) <= 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": 0},
        {"weight": math.inf},
        {"rate_rps": 0},
        {"bytes_per_s": -1},
        {"burst": 0.5},
        {"concurrency": 0},
        {"share": 0},
        {"share": 1.1},
        {"weight": math.nan},
        {"rate_rps": math.nan},
    ],
)
def test_what_no_tenant_can_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"tenant t: .*{next(iter(wrong))}"):
        Tenant("t", **wrong)


def test_the_wait_of_a_tenant_is_that_of_its_next_request() -> None:
    quotas = Quotas([SMALL, Tenant("free")])
    assert quotas.wait_ns("small", 0) == quotas.wait_ns("free", 0) == 0
    for _ in range(2):
        taken(ask(quotas))
    assert quotas.wait_ns("small", 0) == 100 * MS and quotas.wait_ns("small", 60 * MS) == 40 * MS
    assert quotas.wait_ns("small", 100 * MS) == 0 and isinstance(ask(quotas, 100), Ticket)
    assert quotas.wait_ns("free", 0) == 0
    late = Quotas([Tenant("small", share=0.5)])
    late.ended(taken(ask(late, cost=1)), 0, service_ns=2 * SECOND)  # it took four seconds' worth of its share
    assert late.wait_ns("small", 0) == 3 * SECOND


@given(
    st.floats(0.1, 1e4),
    st.floats(0.1, 1e5) | st.just(math.inf),
    st.integers(1, 100),
    st.integers(1, 10**9) | st.just(math.inf),
    st.floats(0.01, 1),
)
def test_a_tenant_reads_as_it_was_written(
    weight: float, rate: float, burst: int, bytes_per_s: float, share: float
) -> None:
    written = Tenant("yard-1", weight, rate, burst, bytes_per_s, share=share)
    (read,) = parse_tenants(str(written))
    told = ("weight", "rate_rps", "burst", "bytes_per_s", "concurrency", "share")
    assert [getattr(read, name) for name in told] == pytest.approx(
        [getattr(written, name) for name in told], rel=1e-9
    )
