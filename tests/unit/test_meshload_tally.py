"""Counting: every offered request is settled once, parts add up to the whole, documents bring the counts back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshload.errors import LoadError
from meshload.outcome import Death, Outcome, total
from meshload.tally import OUTCOMES, Labels, Log, Tally, settle
from meshload.target import Status

MS = 1_000_000
LABELS = Labels()
for _status, _label in ((Status.OK, ""), (Status.REFUSED, "overloaded"), (Status.ERROR, "x"), (Status.TIMEOUT, "y")):
    LABELS.number(_status, _label)
TENANTS = ["", "a"]

REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 5000),  # intended, ms since the start of the run
        st.integers(0, 50),  # lag
        st.integers(0, 3000),  # service
        st.integers(0, 3),
        st.integers(0, 1),
        st.sampled_from([0, 100]),
    ),
    max_size=60,
)
UNSENT = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 1)), max_size=10)
WARMUP_MS = 1000


def counted(requests: list[tuple[int, ...]], unsent: list[tuple[int, int]] = []) -> Tally:  # noqa: B006
    tally, log = Tally(4.0), Log()
    for at, lag, service, label, tenant, deadline in requests:
        sent, done = at + lag, at + lag + service
        log.sent.extend((at * MS, lag * MS, 10, sent * MS))
        log.settled.extend((at * MS, sent * MS, done * MS, label, 3, deadline * MS, tenant, -1))
    settle(log, tally, LABELS, TENANTS, WARMUP_MS * MS)
    if unsent:
        rows = np.array([((at - WARMUP_MS) * MS, tenant) for at, tenant in unsent])
        tally.add_unsent(rows, 4000 * MS, TENANTS)
    return tally


@given(REQUESTS, UNSENT)
def test_what_was_offered_is_settled_once_and_the_warm_up_not_at_all(
    requests: list[tuple[int, ...]], unsent: list[tuple[int, int]]
) -> None:
    tally = counted(requests, unsent)
    measured = [r for r in requests if r[0] >= WARMUP_MS]
    assert tally.count("offered") == sum(tally.count(name) for name in OUTCOMES)
    assert tally.count("ok") == sum(r[3] == 0 for r in measured)
    assert tally.count("unsent") == sum(at >= WARMUP_MS for at, _ in unsent)
    assert tally.warmup == len(requests) - len(measured)
    assert tally.count("bytes_sent") == 10 * len(measured) and tally.count("bytes_received") == 3 * len(measured)
    for kind in OUTCOMES[1:]:
        assert sum(tally.labels[kind].values()) == tally.count(kind)
    assert sum(share.offered for share in tally.tenants.values()) == tally.count("offered")
    assert sum(share.hit for share in tally.tenants.values()) == tally.count("hit")


@given(REQUESTS)
def test_latency_counts_from_the_intended_send_and_service_from_the_actual_one(
    requests: list[tuple[int, ...]],
) -> None:
    tally = counted(requests)
    measured = [r for r in requests if r[0] >= WARMUP_MS]
    waited = [(r[1] + r[2]) * MS for r in measured if r[3] in (0, 3)]
    assert tally.latency.sum_ns == sum(waited) and len(tally.latency) == len(waited)
    assert tally.service.sum_ns == sum(r[2] * MS for r in measured if r[3] == 0)
    assert tally.lag.sum_ns == sum(r[1] * MS for r in measured)
    assert tally.count("hit") == sum(r[3] == 0 and (not r[5] or r[1] + r[2] <= r[5]) for r in measured)
    assert sum(len(h) for h in tally.second_latency.values()) == len(waited)


@settings(max_examples=40)
@given(REQUESTS, REQUESTS, UNSENT)
def test_parts_add_up_to_the_whole_and_so_do_their_documents(
    one: list[tuple[int, ...]], other: list[tuple[int, ...]], unsent: list[tuple[int, int]]
) -> None:
    parts = [Outcome(counted(one, unsent), [0.5], "t", "p"), Outcome(counted(other), [0.25])]
    whole = Outcome(counted(one + other, unsent), [0.5, 0.25], "t", "p")
    if one or other or unsent:
        assert total(parts).to_document() == whole.to_document()
    sent = json.loads(json.dumps(whole.to_document()))
    assert Outcome.from_document(sent).to_document() == whole.to_document()


@settings(max_examples=40)
@given(st.lists(REQUESTS, min_size=1, max_size=5), UNSENT)
def test_reports_of_seconds_add_up_to_the_run(
    steps: list[list[tuple[int, ...]]], unsent: list[tuple[int, int]]
) -> None:
    """Each as a process sends it, and whatever is in it."""
    kept = Outcome(Tally(0.0))
    for number, step in enumerate(steps):
        counts = Outcome(counted(step, unsent if number == len(steps) - 1 else [])).to_document(brief=True)
        kept.add(Outcome.from_document(json.loads(json.dumps(counts))))
    whole = Outcome(counted([request for step in steps for request in step], unsent))
    mine, theirs = kept.to_document(), whole.to_document()
    assert mine | {"labels": 0, "tenants": 0} == theirs | {"labels": 0, "tenants": 0}
    assert mine["tenants"] == theirs["tenants"] and mine["labels"] == theirs["labels"]


def test_a_death_is_told_with_what_is_not_known() -> None:
    outcome = Outcome(
        counted([]), died=[Death(2, 4, -9, 12.34, 37), Death(3, 4, 1, -1.0, 0), Death(4, 4, -250, 1, 1)]
    )
    again = Outcome.from_document(json.loads(json.dumps(outcome.to_document())))
    assert again.died == outcome.died == total([outcome]).died
    first, second, third = map(str, again.died)
    assert first.startswith("PROCESS 2 OF 4 DIED: it was killed by SIGKILL.") and "12.3 s" in first and "37" in first
    assert "ended, status 1" in second and "0.0 s" in second and "signal 250" in third


def test_answers_count_as_throughput_when_they_arrive_whoever_asked() -> None:
    tally = counted([(500, 0, 700, 0, 0, 0), (4900, 0, 2000, 0, 0, 0), (1500, 0, 1, 0, 0, 0)])
    assert tally.column("completed").tolist()[:4] == [2, 0, 0, 0] and tally.count("ok") == 2


def test_what_had_to_wait_for_room_is_not_the_generators_lag() -> None:
    tally, log = Tally(1.0), Log()
    log.sent.extend((0, -1, 1, 500 * MS))
    settle(log, tally, LABELS, TENANTS, 0)
    assert tally.held == 1 and len(tally.lag) == 0 and tally.count("sent") == 1


def test_given_up_requests_count_as_long_as_they_were_waited_for_and_failed_ones_not() -> None:
    tally = counted([(1000, 0, 2000, 3, 0, 0), (1000, 0, 1, 2, 0, 0), (1000, 0, 1, 1, 0, 0)], [(3000, 0)])
    assert sorted(np.repeat(*_values(tally))) == pytest.approx([2000, 2000], rel=1e-3)


def _values(tally: Tally) -> tuple[list[float], list[int]]:
    used = np.flatnonzero(tally.latency.counts)
    return (tally.latency.layout.highest_ns[used] / MS).tolist(), tally.latency.counts[used].tolist()


@pytest.mark.parametrize("document", [{}, {"format": 99}, [], {"format": 1, "measured_s": 1}])
def test_what_are_no_counts_is_said_to_be_none(document: object) -> None:
    with pytest.raises(LoadError):
        Outcome.from_document(document)
